package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/postgres"
)

// workspaceCommand runs one of the commands "postcard workspace ...".
func workspaceCommand(ctx context.Context, args []string, out io.Writer) error {
	command, args := args[0], args[1:]
	switch {
	case command == "list" && len(args) == 0:
		return withStore(ctx, func(store *postgres.Store) error { return listWorkspaces(ctx, store, out) })
	case command == "create" && len(args) == 2:
		return withStore(ctx, func(store *postgres.Store) error { return createWorkspace(ctx, store, args[0], args[1], out) })
	case command != "create" && command != "list" && len(args) > 0:
		id, err := uuid.Parse(args[0])
		if err != nil {
			return fmt.Errorf("WORKSPACE must be an id as postcard workspace list prints it, not %q", args[0])
		}
		return changeWorkspace(ctx, command, id, args[1:], out)
	}
	return errUsage
}

func changeWorkspace(ctx context.Context, command string, id uuid.UUID, args []string, out io.Writer) error {
	switch {
	case command == "members" && len(args) == 0:
		return withStore(ctx, func(store *postgres.Store) error { return listMembers(ctx, store, id, out) })
	case command == "cap" && len(args) == 1:
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 0 || n > identity.MaxDailyCap {
			return fmt.Errorf("MESSAGES must be a whole number from 0 to %d, not %q", identity.MaxDailyCap, args[0])
		}
		return withStore(ctx, func(store *postgres.Store) error {
			return reportDone(out, "Set the daily cap.", store.SetDailyCap(ctx, id, n))
		})
	case command == "add" && len(args) > 0:
		permissions, err := identity.ParseMemberPermissions(args[1:])
		if err != nil {
			return err
		}
		return withStore(ctx, func(store *postgres.Store) error {
			return reportDone(out, "Added the member.", store.AddMember(ctx, id, identity.NormalizeEmail(args[0]), permissions))
		})
	case command == "remove" && len(args) == 1:
		return withStore(ctx, func(store *postgres.Store) error {
			user, err := store.UserByEmail(ctx, identity.NormalizeEmail(args[0]))
			if err != nil {
				return err
			}
			return reportDone(out, "Removed the member.", store.RemoveMember(ctx, id, user.ID))
		})
	}
	return errUsage
}

// withStore opens the configured database for one use.
func withStore(ctx context.Context, use func(*postgres.Store) error) error {
	store, err := openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	return use(store)
}

// reportDone prints done unless err says that it was not.
func reportDone(out io.Writer, done string, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, done)
	return err
}

func listWorkspaces(ctx context.Context, store *postgres.Store, out io.Writer) error {
	list, err := store.AllWorkspaces(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tMEMBERS\tDAILY CAP\tCREATED")
	for _, w := range list {
		limit := "DAILY_CAP"
		if w.DailyCap > 0 {
			limit = strconv.Itoa(w.DailyCap)
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\n", w.ID, w.Name, w.Members, limit, w.CreatedAt.UTC().Format(time.DateOnly))
	}
	return table.Flush()
}

func listMembers(ctx context.Context, store *postgres.Store, id uuid.UUID, out io.Writer) error {
	members, err := store.Members(ctx, id)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "EMAIL\tPERMISSIONS")
	for _, m := range members {
		names := make([]string, len(m.Permissions))
		for i, p := range m.Permissions {
			names[i] = string(p)
		}
		fmt.Fprintf(table, "%s\t%s\n", m.Email, strings.Join(names, ", "))
	}
	return table.Flush()
}

// createWorkspace creates a workspace that the user with the email may manage.
func createWorkspace(ctx context.Context, store *postgres.Store, name, email string, out io.Writer) error {
	name, err := identity.ParseWorkspaceName(name)
	if err != nil {
		return err
	}
	user, err := store.UserByEmail(ctx, identity.NormalizeEmail(email))
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("creating a workspace id: %w", err)
	}
	return reportDone(out, "Created the workspace "+id.String()+".", store.CreateWorkspace(ctx, id, name, user.ID))
}
