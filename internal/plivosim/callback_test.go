package plivosim_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

func TestDeliveredMessageCallbacks(t *testing.T) {
	t.Parallel()
	clock := newClock()
	b, h := start(t, func(c *plivosim.Config) { c.Now = clock.now }), listen(t)
	uuid := b.send(params(plain, h.url())).uuids()[0]
	calls := h.waitFor(t, 3)

	stamp := "2026-01-15 10:20:30.123456"
	want := values(map[string]string{
		"From": sender, "To": "14155550101", "MessageUUID": uuid, "ParentMessageUUID": uuid,
		"Status": "delivered", "Type": "mms", "Units": "1", "TotalRate": "0.01600", "TotalAmount": "0.01600",
		"MCC": "", "MNC": "", "ErrorCode": "", "PartInfo": "1 of 1", "Sequence": "3",
		"MessageTime": stamp, "QueuedTime": stamp, "SentTime": stamp, "DeliveryReportTime": stamp,
		"requester_ip": "127.0.0.1", "PowerpackUUID": "",
	})
	if diff := cmp.Diff(want, calls[2].fields); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	want.Set("Status", "queued")
	want.Set("Sequence", "1")
	want.Set("SentTime", "")
	want.Set("DeliveryReportTime", "")
	if diff := cmp.Diff(want, calls[0].fields); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	if calls[0].method != http.MethodPost {
		t.Errorf("got method %s, want POST", calls[0].method)
	}
}

func TestCallbacksByScenario(t *testing.T) {
	t.Parallel()
	tests := map[plivosim.Scenario][]string{
		plivosim.Delivered:              {"queued", "sent", "delivered"},
		plivosim.StaysSent:              {"queued", "sent"},
		plivosim.StaysQueued:            {"queued"},
		plivosim.Undelivered:            {"queued", "sent", "undelivered"},
		plivosim.FailedSpam:             {"queued", "failed"},
		plivosim.AcceptThen500:          {"queued", "sent", "delivered"},
		plivosim.AcceptThenDrop:         {"queued", "sent", "delivered"},
		plivosim.CallbacksDuplicated:    {"queued", "queued", "sent", "sent", "delivered", "delivered"},
		plivosim.CallbacksOutOfOrder:    {"delivered", "sent", "queued"},
		plivosim.CallbacksLate:          {"queued", "sent", "delivered"},
		plivosim.CallbackBeforeResponse: {"queued", "sent", "delivered"},
	}
	for name, want := range tests {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			b, h := start(t), listen(t)
			b.setFault(plivosim.Fault{Scenario: name})
			b.send(params(plain, h.url()))
			h.waitFor(t, len(want))
			if diff := cmp.Diff(want, h.statuses()); diff != "" {
				t.Errorf("mismatch (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailedCallbackHasErrorCode(t *testing.T) {
	t.Parallel()
	b, h := start(t), listen(t)
	b.send(params("14155550114", h.url()))
	last := h.waitFor(t, 2)[1].fields
	got := []string{last.Get("Status"), last.Get("ErrorCode"), last.Get("TotalAmount"), last.Get("DeliveryReportTime")}
	if diff := cmp.Diff([]string{"failed", "120", "0.00000", ""}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestNoCallbacksWhenLost(t *testing.T) {
	t.Parallel()
	for _, name := range []plivosim.Scenario{plivosim.CallbacksLost, plivosim.AcceptThenDropSilently, plivosim.AcceptThen500Silently} {
		b, h := start(t), listen(t)
		b.setFault(plivosim.Fault{Scenario: name, Count: 1})
		b.send(params(plain, h.url()))
		eventually(t, "delivery", func() bool { return b.sim.Ledger()[0].State == plivosim.StateDelivered })
		b.send(params(plain, h.url())) // its callbacks show that the way is clear
		for _, c := range h.waitFor(t, 3) {
			if c.fields.Get("MessageUUID") != b.sim.Ledger()[1].UUID {
				t.Errorf("%s: got callback %v, want none", name, c.fields)
			}
		}
	}
}

func TestResponseWaitsForEarlyCallback(t *testing.T) {
	t.Parallel()
	b := start(t)
	called, release := make(chan struct{}), make(chan struct{})
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.FormValue("Status") == "queued" {
			close(called)
			<-release
		}
	}))
	t.Cleanup(hook.Close)
	answered := make(chan response, 1)
	go func() { answered <- b.send(params("14155550170", map[string]any{"url": hook.URL})) }()
	<-called
	if status := b.sim.Requests()[0].Status; status != 0 {
		t.Errorf("got status %d before the callback ended, want no response yet", status)
	}
	close(release)
	if got := <-answered; got.status != http.StatusAccepted {
		t.Errorf("got status %d, want 202", got.status)
	}
}

func TestCallbackRetries(t *testing.T) {
	t.Parallel()
	type attempt struct {
		Attempt, HTTPStatus int
	}
	tests := []struct {
		name     string
		statuses []int
		want     []attempt
	}{
		{"success on the last attempt", []int{500, 404, 302, 204}, []attempt{{1, 500}, {2, 404}, {3, 302}, {4, 204}}},
		{"four failures", []int{503}, []attempt{{1, 503}, {2, 503}, {3, 503}, {4, 503}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, h := start(t), listen(t, tt.statuses...)
			b.send(params("14155550119", h.url())) // stays queued: one report
			eventually(t, "all attempts", func() bool { return len(b.sim.Ledger()[0].Callbacks) == len(tt.want) })
			var got []attempt
			for _, c := range b.sim.Ledger()[0].Callbacks {
				got = append(got, attempt{c.Attempt, c.HTTPStatus})
				if c.Status != plivosim.StateQueued || c.Sequence != 1 || c.Error != "" {
					t.Errorf("got unexpected call %+v", c)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("mismatch (-want +got):\n%s", diff)
			}
			if len(h.all()) != len(tt.want) {
				t.Errorf("got %d requests, want %d", len(h.all()), len(tt.want))
			}
		})
	}
}

func TestRetryHasNewNonceAndSameFields(t *testing.T) {
	t.Parallel()
	b, h := start(t), listen(t, 500, 200)
	b.send(params("14155550119", h.url()))
	calls := h.waitFor(t, 2)
	const nonce = "X-Plivo-Signature-V3-Nonce"
	if calls[0].header.Get(nonce) == calls[1].header.Get(nonce) {
		t.Error("the retry reused the nonce, want a new one")
	}
	if diff := cmp.Diff(calls[0].fields, calls[1].fields); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestUnreachableHookIsRecordedWithoutURL(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.send(params("14155550119", map[string]any{"url": "http://127.0.0.1:1/secret-token"}))
	eventually(t, "an attempt", func() bool { return len(b.sim.Ledger()[0].Callbacks) > 0 })
	c := b.sim.Ledger()[0].Callbacks[0]
	if c.HTTPStatus != 0 || c.Error == "" || strings.Contains(c.Error, "secret-token") {
		t.Errorf("got unexpected call %+v", c)
	}
}

func TestSlowHookIsRetried(t *testing.T) {
	t.Parallel()
	b := start(t)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // reads the body, so that the client's leaving is noticed
		<-r.Context().Done()
	}))
	t.Cleanup(hook.Close)
	b.send(params("14155550119", map[string]any{"url": hook.URL}))
	eventually(t, "an attempt that timed out", func() bool { return len(b.sim.Ledger()[0].Callbacks) > 0 })
	want := plivosim.CallbackCall{Status: plivosim.StateQueued, Sequence: 1, Attempt: 1, Error: "context deadline exceeded"}
	got := b.sim.Ledger()[0].Callbacks[0]
	if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(time.Time{})); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestCallbackUsesURLAndMethodAsGiven(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "POST"} {
		b, h := start(t), listen(t)
		given := h.server.URL + "/a%2Fb/c?z=1&m=x%20y"
		b.send(params("14155550119", map[string]any{"url": given, "method": method}))
		c := h.waitFor(t, 1)[0]
		if c.method != method || !strings.HasPrefix(c.url, given) || c.fields.Get("Status") != "queued" {
			t.Errorf("got unexpected call %s %s %v", c.method, c.url, c.fields)
		}
		fields := c.fields
		if method == http.MethodGet {
			fields.Del("z")
			fields.Del("m")
		}
		want := plivosim.SignV3(authToken, method, given, c.header.Get("X-Plivo-Signature-V3-Nonce"), fields)
		if got := c.header.Get("X-Plivo-Signature-V3"); got != want {
			t.Errorf("%s: got signature %s, want %s", method, got, want)
		}
	}
}

func TestLogParameterMasksRecipient(t *testing.T) {
	t.Parallel()
	for log, want := range map[string]string{
		"false": "14155550XXX", "content_only": "14155550XXX", "true": "14155550101", "number_only": "14155550101",
	} {
		b, h := start(t), listen(t)
		b.send(params(plain, h.url(), map[string]any{"log": log}))
		if got := h.waitFor(t, 1)[0].fields.Get("To"); got != want {
			t.Errorf("log=%s: got To %s, want %s", log, got, want)
		}
		if got := b.listed("")[0].To; got != want {
			t.Errorf("log=%s: got to_number %s, want %s", log, got, want)
		}
		if got := b.sim.Ledger()[0].To; got != "14155550101" {
			t.Errorf("log=%s: got %s in the ledger, want the full number", log, got)
		}
	}
}

func TestSignatureHeaders(t *testing.T) {
	t.Parallel()
	tests := map[plivosim.Scenario]map[string]string{
		plivosim.Delivered:               {"V3": "valid", "Ma-V3": "valid"},
		plivosim.SignatureWrong:          {"V3": "invalid", "Ma-V3": "invalid"},
		plivosim.SignatureV2Only:         {"V2": "valid", "Ma-V2": "valid"},
		plivosim.SignatureBoth:           {"V3": "valid", "Ma-V3": "valid", "V2": "valid", "Ma-V2": "valid"},
		plivosim.SignatureSeveral:        {"V3": "invalid, valid", "Ma-V3": "invalid, valid"},
		plivosim.SignatureSubaccount:     {"V3": "invalid", "Ma-V3": "valid"},
		plivosim.SignatureWrongV3RightV2: {"V3": "invalid", "Ma-V3": "invalid", "V2": "valid", "Ma-V2": "valid"},
	}
	for name, want := range tests {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			b, h := start(t), listen(t)
			b.setFault(plivosim.Fault{Scenario: name})
			b.send(params(plain, h.url()))
			if diff := cmp.Diff(want, judge(h.waitFor(t, 1)[0])); diff != "" {
				t.Errorf("mismatch (-want +got):\n%s", diff)
			}
		})
	}
}

// judge checks every signature header of a call against the account's token.
func judge(c call) map[string]string {
	want := map[string]string{
		"V3": plivosim.SignV3(authToken, c.method, c.url, c.header.Get("X-Plivo-Signature-V3-Nonce"), c.fields),
		"V2": plivosim.SignV2(authToken, c.url, c.header.Get("X-Plivo-Signature-V2-Nonce")),
	}
	got := make(map[string]string)
	for _, name := range []string{"V3", "Ma-V3", "V2", "Ma-V2"} {
		header := c.header.Get("X-Plivo-Signature-" + name)
		if header == "" {
			continue
		}
		var verdicts []string
		for signature := range strings.SplitSeq(header, ", ") {
			verdict := "invalid"
			if signature == want[strings.TrimPrefix(name, "Ma-")] {
				verdict = "valid"
			}
			verdicts = append(verdicts, verdict)
		}
		got[name] = strings.Join(verdicts, ", ")
	}
	return got
}

func TestCloseInterruptsCallbacks(t *testing.T) {
	t.Parallel()
	b := start(t)
	called := make(chan struct{}, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		called <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(hook.Close)
	b.send(params(plain, map[string]any{"url": hook.URL}))
	<-called
	b.sim.Close()
	if got := b.sim.Ledger()[0].Callbacks; len(got) != 0 {
		t.Errorf("got recorded attempts %+v, want none", got)
	}
}
