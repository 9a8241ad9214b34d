package webui

import "github.com/go-chi/chi/v5"

// Routes returns the routes of the pages.
func (p *Pages) Routes() chi.Routes { return p.router }
