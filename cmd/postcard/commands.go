package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// openStore connects to the configured database, migrates its schema and checks it.
func openStore(ctx context.Context) (*postgres.Store, error) {
	vars, err := config.Environment()
	if err != nil {
		return nil, err
	}
	url, err := config.ReadDatabaseURL(vars)
	if err != nil {
		return nil, err
	}
	scope, err := config.ReadOptOutScope(vars)
	if err != nil {
		return nil, err
	}
	store, err := postgres.Open(string(url), 2, 0)
	if err != nil {
		return nil, err
	}
	store.SetOptOutScope(mms.OptOutScope(scope))
	store.UseMedia(vars["PLIVO_AUTH_ID"], false)
	err = store.CheckSessions(ctx)
	if err == nil {
		err = postgres.Migrate(ctx, store.DB())
	}
	if err == nil {
		err = postgres.CheckSchema(ctx, store.DB())
	}
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return store, nil
}

func migrate(ctx context.Context, out io.Writer) error {
	store, err := openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = fmt.Fprintln(out, "The database schema is up to date.")
	return err
}

func addUser(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	email, role := args[0], identity.RoleUser
	switch {
	case len(args) == 2 && args[1] == "--admin":
		role = identity.RoleAdmin
	case len(args) != 1:
		return errUsage
	}
	password, err := readPassword(in)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("creating a user id: %w", err)
	}
	user, err := identity.NewUser(id, email, password, role)
	if err != nil {
		return err
	}
	store, err := openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.CreateUser(ctx, user); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "Added %s as %s.\n", user.Email, user.Role)
	return err
}

func changePassword(ctx context.Context, email string, in io.Reader, out io.Writer) error {
	password, err := readPassword(in)
	if err != nil {
		return err
	}
	if err := identity.ValidatePassword(password); err != nil {
		return err
	}
	hash, err := identity.HashPassword(password)
	if err != nil {
		return err
	}
	store, err := openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.SetPassword(ctx, identity.NormalizeEmail(email), hash); err != nil {
		return err
	}
	if _, err = fmt.Fprintln(out, "Changed the password and ended the user's sessions."); err != nil {
		return err
	}
	return explainPasswordLogin(out)
}

func resetFactors(ctx context.Context, email string, out io.Writer) error {
	store, err := openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.ResetFactors(ctx, identity.NormalizeEmail(email)); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "Removed the user's second factors and ended the user's sessions.")
	return err
}

// explainPasswordLogin says whether the api takes passwords, as far as the environment of
// the command tells.
func explainPasswordLogin(out io.Writer) error {
	vars, err := config.Environment()
	if err != nil {
		return err
	}
	on, err := config.ReadPasswordLogin(vars)
	if err != nil || on {
		return err
	}
	_, err = fmt.Fprintln(out, "PASSWORD_LOGIN is false: the password works once the api has been restarted with PASSWORD_LOGIN=true.")
	return err
}

// readPassword reads the first line of standard input. As an argument, the password
// would be visible in the shell's history and the process list.
func readPassword(in io.Reader) (string, error) {
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	password := strings.TrimRight(strings.TrimPrefix(line, "\ufeff"), "\r\n")
	if !utf8.ValidString(password) || strings.Contains(password, "\x00") { // nobody could log in with it
		return "", errors.New("the password on standard input is not in UTF-8: set the encoding of the shell that pipes it in")
	}
	if password == "" {
		return "", errors.New("no password on standard input: pipe it in, for example with printf")
	}
	return password, nil
}

// healthcheck returns an error unless the URL answers 200. Container images without
// curl use it.
func healthcheck(ctx context.Context, url string) error {
	if err := checkURL("the address", url, "http://localhost:8080/livez"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("creating a request: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return explainRequestError(url, "check the address, and that the process is running", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s, want 200 OK", url, response.Status)
	}
	return nil
}
