package httpapi_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/postcard-mms/postcard/internal/mms"
)

func TestDecision(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	h := undelivered(s.users.users[0].ID)
	h.Status, h.FinalAt, h.Held = mms.InDoubt, nil, true
	s.messages.put(h)
	path := "/api/messages/" + h.ID.String() + "/decision"

	steps := []struct {
		name   string
		client *client
		path   string
		body   string
		status int
	}{
		{"not logged in", s.anonymous(), path, `{"decision":"give_up"}`, http.StatusUnauthorized},
		{"another user", s.login(bobEmail), path, `{"decision":"give_up"}`, http.StatusNotFound},
		{"malformed id", s.ada(), "/api/messages/1/decision", `{"decision":"give_up"}`, http.StatusNotFound},
		{"unknown decision", s.ada(), path, `{"decision":"perhaps"}`, http.StatusBadRequest},
		{"missing decision", s.ada(), path, `{}`, http.StatusBadRequest},
		{"unknown field", s.ada(), path, `{"decision":"give_up","x":1}`, http.StatusBadRequest},
		{"first decision", s.ada(), path, `{"decision":"retry"}`, http.StatusNoContent},
		{"second decision", s.ada(), path, `{"decision":"give_up"}`, http.StatusConflict},
	}
	for _, step := range steps {
		if got := step.client.do("POST", step.path, step.body); got.status != step.status {
			t.Errorf("%s: got %d, want %d: %s", step.name, got.status, step.status, got.body)
		}
	}
	if s.messages.lastDecision != mms.DecideRetry {
		t.Errorf("lastDecision %q, want the first decision alone", s.messages.lastDecision)
	}
	s.messages.err = errors.New("broken")
	if got := s.ada().do("POST", path, `{"decision":"give_up"}`); got.status != http.StatusInternalServerError {
		t.Errorf("store error: got %d, want 500", got.status)
	}
}

func TestQueuePosition(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	h := undelivered(s.users.users[0].ID)
	s.messages.put(h)
	s.messages.position = mms.QueuePosition{Ahead: 2, Wait: 8_500_000_000}
	got := decode[struct {
		QueuePosition struct {
			Ahead       int
			WaitSeconds int
		}
	}](t, s.ada().do("GET", "/api/messages/"+h.ID.String(), ""))
	if got.QueuePosition.Ahead != 2 || got.QueuePosition.WaitSeconds != 9 {
		t.Errorf("got queuePosition %+v, want 2 ahead and 9 s", got.QueuePosition)
	}
}
