package app

import (
	"log/slog"

	"github.com/postcard-mms/postcard/internal/auth"
	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/sso"
	"github.com/postcard-mms/postcard/internal/webui"
)

// singleSignOn lets people log in through the configured provider, once it runs and is
// discovered. It returns nil if there is none.
func singleSignOn(c config.API, service *auth.Service, store *postgres.Store, users *auth.UserCache, logger *slog.Logger) *sso.Provider {
	if !c.OIDC.On() {
		return nil
	}
	provider := sso.New(sso.Config{
		Issuer: c.OIDC.Issuer, ClientID: c.OIDC.ClientID, ClientSecret: string(c.OIDC.ClientSecret),
		RedirectURL: c.PublicURL + webui.SSOCallbackPath, Groups: c.OIDC.AdminGroup != "",
	}, logger)
	service.UseSingleSignOn(auth.SingleSignOn{
		Provider: provider, Name: c.OIDC.Name, Identities: store, Domains: c.OIDC.Domains, AdminGroup: c.OIDC.AdminGroup, Drop: users.Drop,
	}, c.OIDC.PasswordLogin)
	return provider
}
