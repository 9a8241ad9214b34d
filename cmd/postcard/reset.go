package main

import (
	"context"
	"fmt"
	"io"

	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/identity"
)

// resetPassword prints a link with which the user of the email sets a new password. It
// checks PUBLIC_URL first: a link without it is useless.
func resetPassword(ctx context.Context, email string, out io.Writer) error {
	vars, err := config.Environment()
	if err != nil {
		return err
	}
	publicURL, err := config.ReadPublicURL(vars)
	if err != nil {
		return err
	}
	store, err := openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	token := identity.NewResetToken()
	if err := store.CreateReset(ctx, identity.NormalizeEmail(email), token.Hash()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n\nThe link works once, for %d minutes. Give it to the user on a way that nobody else can read.\n",
		token.Link(publicURL), int(identity.ResetLifetime.Minutes()))
	return err
}
