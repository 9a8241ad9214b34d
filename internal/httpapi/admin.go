package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postcard-mms/postcard/internal/identity"
)

// errAdminsOnly is returned if a user who is not an admin calls an endpoint for admins. It
// looks like a path that does not exist.
var errAdminsOnly = errors.New("the endpoint is for admins")

// registerForAdmin registers an operation for logged-in admins. Other users are answered
// 404, API keys 403, also those of admins.
func registerForAdmin[I, O any](a *api, op huma.Operation, handle func(context.Context, identity.Principal, *I) (*O, error)) {
	op.Description += " Only for admins."
	op.Tags = []string{"admin"}
	op.Security = []map[string][]string{{sessionScheme: {}}}
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound)
	register(a, op, func(ctx context.Context, in *I) (*O, error) {
		principal, ok := identity.PrincipalFrom(ctx)
		switch {
		case !ok:
			return nil, unauthenticated(ctx)
		case principal.Key != nil:
			return nil, errUsersOnly
		case !principal.IsAdmin():
			return nil, errAdminsOnly
		}
		if err := a.checkInput(ctx, op); err != nil {
			return nil, err
		}
		return handle(ctx, principal, in)
	})
}
