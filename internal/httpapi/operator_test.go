package httpapi_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/audit"
	"github.com/postcard-mms/postcard/internal/httpapi"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

// fakeOperator has fixed data, and records changes of senders.
type fakeOperator struct {
	health  operator.Health
	senders []operator.Sender
	workers []operator.Process
	runs    []operator.Verification
	changes []string
	err     error
}

func (f *fakeOperator) Health(context.Context, time.Duration) (operator.Health, error) {
	return f.health, f.err
}
func (f *fakeOperator) Senders(context.Context) ([]operator.Sender, error) { return f.senders, f.err }
func (f *fakeOperator) InboundURL() string                                 { return "https://example.com/in" }
func (f *fakeOperator) Settings() []operator.Setting {
	return []operator.Setting{{Name: "DAILY_CAP", Value: "5", Set: true}}
}
func (f *fakeOperator) Workers(context.Context) ([]operator.Process, error) { return f.workers, f.err }
func (f *fakeOperator) Verifications(context.Context) ([]operator.Verification, error) {
	return f.runs, f.err
}

func (f *fakeOperator) change(what, number string, violations invalid.Fields) (mms.PhoneNumber, error) {
	if err := violations.Err(); err != nil {
		return "", err
	}
	f.changes = append(f.changes, what+" "+number)
	return mms.PhoneNumber(number), f.err
}

func (f *fakeOperator) AddSender(_ context.Context, number string, _ *float64, violations invalid.Fields) (mms.PhoneNumber, error) {
	return f.change("add", number, violations)
}

func (f *fakeOperator) SetRate(_ context.Context, number string, _ *float64, violations invalid.Fields) (mms.PhoneNumber, error) {
	return f.change("rate", number, violations)
}

func (f *fakeOperator) Rest(_ context.Context, number string, rest bool) (mms.PhoneNumber, error) {
	if !rest {
		return f.change("put back", number, nil)
	}
	return f.change("rest", number, nil)
}

func (f *fakeOperator) Remove(_ context.Context, number string) (mms.PhoneNumber, error) {
	return f.change("remove", number, nil)
}

// operatorRequests are requests for each operation of admins.
var operatorRequests = []struct {
	method, path, body string
	status             int
}{
	{"GET", "/api/admin/health", "", http.StatusOK},
	{"GET", "/api/admin/senders", "", http.StatusOK},
	{"GET", "/api/admin/settings", "", http.StatusOK},
	{"GET", "/api/admin/verifications", "", http.StatusOK},
	{"POST", "/api/admin/senders", `{"number":"+14155550109","rate":"15"}`, http.StatusNoContent},
	{"POST", "/api/admin/senders/14155550109/rate", `{"rate":"3"}`, http.StatusNoContent},
	{"POST", "/api/admin/senders/14155550109/rest", "", http.StatusNoContent},
	{"POST", "/api/admin/senders/14155550109/put-back", "", http.StatusNoContent},
	{"DELETE", "/api/admin/senders/14155550109", "", http.StatusNoContent},
}

// newOperatorSystem returns the API, in which Ada is an admin.
func newOperatorSystem(t *testing.T) (*fakeOperator, *system) {
	t.Helper()
	f := &fakeOperator{}
	s := newSystem(t, func(o *httpapi.Options) { o.Operator = f })
	s.users.users[0].Role = identity.RoleAdmin
	return f, s
}

func TestOperatorOperationsAreForAdmins(t *testing.T) {
	t.Parallel()
	f, s := newOperatorSystem(t)
	ada, bob := s.ada(), s.login(bobEmail)
	for _, r := range operatorRequests {
		if got := s.anonymous().do(r.method, r.path, r.body); got.status != http.StatusUnauthorized {
			t.Errorf("%s %s, not logged in: got %d, want 401", r.method, r.path, got.status)
		}
		if got := bob.do(r.method, r.path, r.body); got.status != http.StatusNotFound {
			t.Errorf("%s %s, no admin: got %d, want 404", r.method, r.path, got.status)
		}
	}
	if len(f.changes) > 0 {
		t.Errorf("others than admins made the changes %q", f.changes)
	}
	for _, r := range operatorRequests {
		if got := ada.do(r.method, r.path, r.body); got.status != r.status {
			t.Errorf("%s %s, admin: got %d, want %d: %s", r.method, r.path, got.status, r.status, got.body)
		}
	}
	want := []string{"add +14155550109", "rate 14155550109", "rest 14155550109", "put back 14155550109", "remove 14155550109"}
	if diff := cmp.Diff(want, f.changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	f.err = errors.New("broken")
	for _, r := range operatorRequests {
		if got := ada.do(r.method, r.path, r.body); got.status != http.StatusInternalServerError {
			t.Errorf("%s %s, store error: got %d, want 500", r.method, r.path, got.status)
		}
	}
}

// TestKeysOfAdminsAreRefused calls the operations with an API key of an admin.
func TestKeysOfAdminsAreRefused(t *testing.T) {
	t.Parallel()
	f, s := newOperatorSystem(t)
	principal := identity.Principal{UserID: s.users.users[0].ID, Role: identity.RoleAdmin, Key: &identity.Key{}}
	handler := httpapi.New(httpapi.Options{Operator: f, Logger: slog.New(slog.DiscardHandler)})
	for _, r := range operatorRequests {
		request := httptest.NewRequest(r.method, r.path, strings.NewReader(r.body))
		response := httptest.NewRecorder()
		handler.ServeHTTP(response, request.WithContext(identity.WithPrincipal(t.Context(), principal)))
		if response.Code != http.StatusForbidden {
			t.Errorf("%s %s: got %d, want 403", r.method, r.path, response.Code)
		}
	}
}

func TestOperatorRejections(t *testing.T) {
	t.Parallel()
	f, s := newOperatorSystem(t)
	ada := s.ada()
	for name, tt := range map[string]struct {
		method, path, body string
		err                error
		status             int
		want               string
	}{
		"rate that is no number":     {"POST", "/api/admin/senders", `{"number":"+14155550109","rate":"fast"}`, nil, http.StatusBadRequest, `"rule":"type"`},
		"unknown field":              {"POST", "/api/admin/senders/1/rate", `{"speed":"1"}`, nil, http.StatusBadRequest, `"rule":"unknown"`},
		"unknown sender":             {"POST", "/api/admin/senders/1/rest", "", operator.ErrNoSender, http.StatusNotFound, "No sender has this number"},
		"sender of the environment":  {"DELETE", "/api/admin/senders/1", "", operator.ErrSenderOfEnvironment, http.StatusConflict, "PLIVO_SENDER_NUMBER"},
		"unknown parameter":          {"GET", "/api/admin/health?x=1", "", nil, http.StatusBadRequest, `"rule":"unknown"`},
		"the database is not usable": {"GET", "/api/admin/health", "", mms.ErrUnavailable, http.StatusServiceUnavailable, ""},
	} {
		f.err = tt.err
		if got := ada.do(tt.method, tt.path, tt.body); got.status != tt.status || !strings.Contains(got.body, tt.want) {
			t.Errorf("%s: got %d %s, want %d with %q", name, got.status, got.body, tt.status, tt.want)
		}
	}
}

func TestOperatorData(t *testing.T) {
	t.Parallel()
	f, s := newOperatorSystem(t)
	ada := s.ada()
	id, at, tasks := uuid.New(), noon.UTC(), 4
	stamp := at.Format(time.RFC3339)
	interval, rate := 2*time.Second, 30.0
	f.health = operator.Health{
		Postgres: "ok", Redis: "down", Queue: "unknown", SchemaVersion: 12,
		Processes:   []operator.Process{{ID: id, Kind: operator.Worker, Host: "box", Version: "1", Alive: true, StartedAt: at, BeatAt: at}},
		Current:     operator.Sample{At: at, Queued: 1, Tasks: &tasks},
		Account:     operator.AccountState{Account: operator.Account{Type: "standard", Credits: "9.5"}, CheckedAt: &at},
		EndedPauses: []operator.EndedPause{{Pause: mms.Pause{Cause: mms.ReasonCredit, Since: at}, EndedAt: at}},
	}
	f.senders = []operator.Sender{{
		Number: "+14155550100", InEnvironment: true, Interval: &interval, Rate: &rate, Waiting: 2, Wait: 3500 * time.Millisecond,
		AtPlivo: operator.NumberState{CheckedAt: &at, Number: operator.Number{Found: true, MMS: true}},
	}}
	f.runs = []operator.Verification{{ID: 1, Source: operator.ByCLI, StartedAt: at, Findings: []audit.Finding{{Invariant: "I1", What: "messages", Count: 3}}}}
	for path, want := range map[string]map[string]any{
		"/api/admin/health": {
			"postgres": "ok", "redis": "down", "queue": "unknown", "schemaVersion": 12.0, "samples": []any{},
			"processes": []any{map[string]any{"id": id.String(), "kind": "worker", "host": "box", "version": "1", "alive": true, "startedAt": stamp, "heartbeatAt": stamp}},
			"current":   map[string]any{"at": stamp, "queued": 1.0, "waiting": 0.0, "preparing": 0.0, "sending": 0.0, "inDoubt": 0.0, "held": 0.0, "tasks": 4.0},
			"plivo":     map[string]any{"checkedAt": stamp, "type": "standard", "autoRecharge": false, "credits": "9.5"},
			"pauses":    []any{map[string]any{"cause": "plivo_credit", "description": mms.ReasonCredit.Description(), "since": stamp, "endedAt": stamp}},
		},
		"/api/admin/senders": {"senders": []any{map[string]any{
			"number": "+14155550100", "inEnvironment": true, "added": false, "rate": 30.0, "intervalSeconds": 2.0, "waiting": 2.0, "waitSeconds": 4.0,
			"plivo": map[string]any{"checkedAt": stamp, "found": true, "mms": true, "repliesLost": "Replies to this number are lost: it has no application at Plivo."},
		}}},
		"/api/admin/settings": {"settings": []any{map[string]any{"name": "DAILY_CAP", "value": "5", "set": true}}, "workers": []any{}},
		"/api/admin/verifications": {"verifications": []any{map[string]any{
			"id": 1.0, "source": "cli", "startedAt": stamp, "broken": 0.0, "findings": []any{map[string]any{"invariant": "I1", "what": "messages", "count": 3.0, "broken": false}},
		}}},
	} {
		if diff := cmp.Diff(want, decode[map[string]any](t, ada.do("GET", path, ""))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}
