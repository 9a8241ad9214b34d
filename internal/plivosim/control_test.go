package plivosim_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

func (b *bench) control(method, path, body string) response {
	b.t.Helper()
	return b.do(b.t.Context(), method, "/sim/"+path, body)
}

func TestControlMatchesGoAPI(t *testing.T) {
	t.Parallel()
	b, h := start(t), listen(t)
	b.send(params("14155550119", h.url()))
	eventually(t, "the callback", func() bool { return len(b.sim.Ledger()[0].Callbacks) == 1 })

	if got := b.control("GET", "health", ""); got.status != 200 || got.body != `{"status":"ok"}`+"\n" {
		t.Errorf("GET health: got %+v, want status ok", got)
	}
	equateEmpty := cmpopts.EquateEmpty()
	if diff := cmp.Diff(b.sim.Ledger(), decode[[]plivosim.Entry](t, b.control("GET", "ledger", "").body), equateEmpty); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(b.sim.Requests(), decode[[]plivosim.Request](t, b.control("GET", "requests", "").body), equateEmpty); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(plivosim.Scenarios(), decode[[]plivosim.ScenarioInfo](t, b.control("GET", "scenarios", "").body)); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestControlFaults(t *testing.T) {
	t.Parallel()
	b := start(t)
	set := b.control("POST", "faults", `{"scenario":"rate-limited","recipient":"+14155550101","count":0}`)
	got := []int{set.status, b.send(params(plain)).status}
	got = append(got, b.control("DELETE", "faults", "").status, b.send(params(plain)).status)
	if diff := cmp.Diff([]int{204, 429, 204, 202}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestControlRejectsInvalidFaults(t *testing.T) {
	t.Parallel()
	b := start(t)
	for body, want := range map[string]string{
		`{"scenario":"delivered","times":3}`:  `json: unknown field "times"`,
		`{"scenario":"sometimes"}`:            `unknown scenario "sometimes"`,
		`{"scenario":"delivered"} {}`:         "the body must be a single JSON object",
		`{"scenario":"delivered","count":-2}`: "count must not be negative, got -2",
		``:                                    "EOF",
	} {
		got := b.control("POST", "faults", body)
		text := decode[map[string]string](t, got.body)["error"]
		if got.status != http.StatusBadRequest || text != want {
			t.Errorf("%s: got %d %q, want %q", body, got.status, text, want)
		}
	}
}

func TestResetDeletesEverything(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *plivosim.Config) { c.RequestRate, c.TimeScale = 2, 1 })
	b.setFault(plivosim.Fault{Scenario: plivosim.ServerError, Count: 3})
	got := []int{b.send(params(plain)).status, b.send(params(plain)).status, b.send(params(plain)).status}
	got = append(got, b.control("POST", "reset", "").status)
	if len(b.sim.Ledger()) != 0 || len(b.sim.Requests()) != 0 {
		t.Errorf("after Reset: got ledger %+v, requests %+v, want none", b.sim.Ledger(), b.sim.Requests())
	}
	got = append(got, b.send(params(plain)).status)
	if diff := cmp.Diff([]int{500, 500, 429, 204, 202}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}
