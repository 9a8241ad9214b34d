package plivosim_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

const accountPath = "/v1/Account/" + authID + "/"

func TestAccount(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.Credits = "12.00000" })
	got := decode[map[string]any](t, b.do(t.Context(), http.MethodGet, accountPath, "").body)
	if got["auth_id"] != authID || got["account_type"] != "standard" || got["cash_credits"] != "12.00000" || got["billing_mode"] != "prepaid" || got["auto_recharge"] != false {
		t.Errorf("got %v, want a prepaid standard account with the credits", got)
	}
	if got := b.do(t.Context(), http.MethodGet, "/v1/Account/MAother/", ""); got.status != http.StatusUnauthorized {
		t.Errorf("another account: got %d, want 401", got.status)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) {
		c.Numbers, c.MessageURL = []string{"+1 415-555-0100", "+18005550100"}, "https://example.com/in"
	})
	list := decode[struct {
		Meta struct {
			Total int `json:"total_count"`
		}
		Objects []struct {
			Number      string  `json:"number"`
			Type        string  `json:"number_type"`
			MMS         bool    `json:"mms_enabled"`
			Application *string `json:"application"`
		}
	}](t, b.do(t.Context(), http.MethodGet, accountPath+"Number/?limit=1&offset=1", "").body)
	if list.Meta.Total != 2 || len(list.Objects) != 1 || list.Objects[0].Number != "18005550100" || list.Objects[0].Type != "tollfree" || !list.Objects[0].MMS {
		t.Errorf("got %+v, want the second of two numbers, a toll-free one", list)
	}
	application := decode[map[string]any](t, b.do(t.Context(), http.MethodGet, *list.Objects[0].Application, "").body)
	if application["message_url"] != "https://example.com/in" || application["message_method"] != "POST" {
		t.Errorf("got application %v, want its message URL", application)
	}
	statuses := map[string]int{}
	for _, path := range []string{"Number/14155550100/", "Number/14155550101/", "Application/1/", "Number/?limit=21", "Number/14155550100"} {
		statuses[path] = b.do(t.Context(), http.MethodGet, accountPath+path, "").status
	}
	want := map[string]int{"Number/14155550100/": 200, "Number/14155550101/": 404, "Application/1/": 404, "Number/?limit=21": 400, "Number/14155550100": 404}
	if diff := cmp.Diff(want, statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

// TestAnyNumber asks an account without configured numbers, from which all may send.
func TestAnyNumber(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.Numbers = nil })
	b.sim.SetMessageURL("https://example.com/in")
	if got := decode[map[string]any](t, b.do(t.Context(), http.MethodGet, accountPath+"Number/14155550100/", "").body); got["application"] == nil {
		t.Errorf("got %v, want an application with the message URL that was set", got)
	}
	b.sim.SetMessageURL("")
	got := decode[map[string]any](t, b.do(t.Context(), http.MethodGet, accountPath+"Number/14155550100/", "").body)
	if got["number"] != "14155550100" || got["application"] != nil {
		t.Errorf("got %v, want the number without an application", got)
	}
	if got := b.do(t.Context(), http.MethodGet, accountPath+"Number/442079460000/", ""); got.status != http.StatusNotFound {
		t.Errorf("a British number: got %d, want 404", got.status)
	}
}
