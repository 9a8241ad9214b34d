package plivosim_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

// outcome is a scenario's effect as seen by the client and in the ledger.
type outcome struct {
	Status   int    // 0: no answer
	Body     string // see bodyKind
	Broken   bool   // the response failed or was incomplete
	Accepted bool
	State    plivosim.State
	Code     string
}

// bodyKind classifies response bodies as a client does.
func bodyKind(r response) string {
	var fields map[string]any
	switch {
	case r.body == "":
		return "empty"
	case len(r.body) == 1<<20 && json.Unmarshal([]byte(r.body), &fields) != nil:
		return "huge"
	case json.Unmarshal([]byte(r.body), &fields) != nil:
		return "not JSON"
	case fields["error"] != nil:
		return "error"
	}
	switch uuids := fields["message_uuid"].(type) {
	case string:
		return "uuid string"
	case []any:
		return map[int]string{1: "uuid", 2: "two uuids"}[len(uuids)]
	}
	return "no uuid"
}

const (
	del  = plivosim.StateDelivered
	fail = plivosim.StateFailed
)

func scenarioOutcomes() map[plivosim.Scenario]outcome {
	all := map[plivosim.Scenario]outcome{
		plivosim.Delivered:           {202, "uuid", false, true, del, ""},
		plivosim.StaysSent:           {202, "uuid", false, true, plivosim.StateSent, ""},
		plivosim.Undelivered:         {202, "uuid", false, true, plivosim.StateUndelivered, "80"},
		plivosim.FailedSpam:          {202, "uuid", false, true, fail, "30"},
		plivosim.FailedMediaTooLarge: {202, "uuid", false, true, fail, "120"},
		plivosim.SmallMediaOnly:      {202, "uuid", false, true, del, ""},
		plivosim.FailedOptedOut:      {202, "uuid", false, true, fail, "200"},
		plivosim.FailedGeoBarred:     {202, "uuid", false, true, fail, "450"},
		plivosim.FailedExpired:       {202, "uuid", false, true, fail, "420"},
		plivosim.CreditRunsOut:       {202, "uuid", false, true, fail, "900"},
		plivosim.StaysQueued:         {202, "uuid", false, true, plivosim.StateQueued, ""},

		plivosim.AcceptThen500:               {500, "error", false, true, del, ""},
		plivosim.AcceptThen502:               {502, "not JSON", false, true, del, ""},
		plivosim.AcceptThen504:               {504, "not JSON", false, true, del, ""},
		plivosim.AcceptThenDrop:              {0, "empty", true, true, del, ""},
		plivosim.AcceptThenCut:               {202, "not JSON", true, true, del, ""},
		plivosim.AcceptThenStall:             {0, "empty", true, true, del, ""},
		plivosim.AcceptThenStallAfterHeaders: {202, "empty", true, true, del, ""},
		plivosim.AcceptThenDropSilently:      {0, "empty", true, true, del, ""},
		plivosim.AcceptThen500Silently:       {500, "error", false, true, del, ""},
		plivosim.AcceptedEmpty:               {202, "empty", false, true, del, ""},
		plivosim.AcceptedEmptyObject:         {202, "no uuid", false, true, del, ""},
		plivosim.AcceptedCutJSON:             {202, "not JSON", false, true, del, ""},
		plivosim.AcceptedUUIDAsString:        {202, "uuid string", false, true, del, ""},
		plivosim.AcceptedTwoUUIDs:            {202, "two uuids", false, true, del, ""},
		plivosim.AcceptedNoContent:           {204, "empty", false, true, del, ""},
		plivosim.AcceptedHuge:                {202, "uuid", false, true, del, ""},
	}
	maps.Copy(all, refusedOutcomes())
	for _, info := range plivosim.Scenarios() {
		if strings.HasPrefix(string(info.Name), "callback") || strings.HasPrefix(string(info.Name), "signature") {
			all[info.Name] = outcome{202, "uuid", false, true, del, ""}
		}
	}
	return all
}

func refusedOutcomes() map[plivosim.Scenario]outcome {
	all := make(map[plivosim.Scenario]outcome)
	for name, seen := range map[plivosim.Scenario]outcome{
		plivosim.RefusedDestination:     {Status: 400, Body: "error"},
		plivosim.RefusedUnauthorized:    {Status: 401, Body: "error"},
		plivosim.RefusedForbidden:       {Status: 403, Body: "error"},
		plivosim.RefusedNotFound:        {Status: 404, Body: "error"},
		plivosim.RefusedCredit:          {Status: 400, Body: "error"},
		plivosim.RefusedEmptyBody:       {Status: 400, Body: "empty"},
		plivosim.RateLimitedOnce:        {Status: 429, Body: "error"},
		plivosim.RateLimited:            {Status: 429, Body: "error"},
		plivosim.RateLimitedNoHint:      {Status: 429, Body: "error"},
		plivosim.RateLimitedEmptyBody:   {Status: 429, Body: "empty"},
		plivosim.ServerError:            {Status: 500, Body: "error"},
		plivosim.ServerErrorEmptyBody:   {Status: 500, Body: "empty"},
		plivosim.ServerErrorOnce:        {Status: 500, Body: "error"},
		plivosim.Unavailable:            {Status: 503, Body: "error"},
		plivosim.UnavailableOnce:        {Status: 503, Body: "error"},
		plivosim.TemporaryFailure:       {Status: 503, Body: "not JSON"},
		plivosim.DropBeforeAccept:       {Status: 0, Body: "empty", Broken: true},
		plivosim.DropBeforeAcceptOnce:   {Status: 0, Body: "empty", Broken: true},
		plivosim.StallBeforeHeaders:     {Status: 0, Body: "empty", Broken: true},
		plivosim.StallBeforeHeadersOnce: {Status: 0, Body: "empty", Broken: true},
		plivosim.StallAfterHeaders:      {Status: 202, Body: "empty", Broken: true},
		plivosim.HugeError:              {Status: 500, Body: "huge"},
		plivosim.Redirect301:            {Status: 301, Body: "empty"},
		plivosim.Redirect302:            {Status: 302, Body: "empty"},
		plivosim.Redirect307:            {Status: 307, Body: "empty"},
		plivosim.EmptyNotAccepted:       {Status: 202, Body: "empty"},
		plivosim.EmptyObjectNotAccepted: {Status: 202, Body: "no uuid"},
		plivosim.CutJSONNotAccepted:     {Status: 202, Body: "not JSON"},
		plivosim.NoContentNotAccepted:   {Status: 204, Body: "empty"},
	} {
		all[name] = seen
	}
	return all
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	want := scenarioOutcomes()
	var last string
	for _, info := range plivosim.Scenarios() {
		if info.Suffix <= last || info.Description == "" {
			t.Errorf("%s: got suffix %q after %q and description %q, want ascending suffixes and a description", info.Name, info.Suffix, last, info.Description)
		}
		last = info.Suffix
		expected, ok := want[info.Name]
		if !ok {
			t.Errorf("%s is missing from the expected outcomes", info.Name)
		}
		delete(want, info.Name)
		t.Run(string(info.Name), func(t *testing.T) {
			t.Parallel()
			testScenario(t, info, expected)
		})
	}
	if len(want) > 0 {
		t.Errorf("Scenarios lacks %v", slices.Collect(maps.Keys(want)))
	}
}

func testScenario(t *testing.T, info plivosim.ScenarioInfo, want outcome) {
	b := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	switch {
	case strings.Contains(string(info.Name), "stall-after"):
		time.AfterFunc(time.Second/2, cancel)
	case strings.Contains(string(info.Name), "stall"):
		go b.leaveStall(cancel, want.Accepted)
	}
	to := "161355501" + info.Suffix
	raw, err := json.Marshal(params(to))
	if err != nil {
		t.Fatal(err)
	}
	r := b.do(ctx, http.MethodPost, "/v1/Account/"+authID+"/Message/", string(raw))
	got := outcome{Status: r.status, Body: bodyKind(r), Broken: r.err != nil}

	if entries := b.sim.Ledger(); len(entries) > 0 {
		if len(entries) > 1 || entries[0].To != to || entries[0].Scenario != info.Name {
			t.Errorf("got unexpected ledger %+v", entries)
		}
		got.Accepted = true
		eventually(t, string(want.State), func() bool { return b.sim.Ledger()[0].State == want.State })
		got.State, got.Code = b.sim.Ledger()[0].State, b.sim.Ledger()[0].ErrorCode
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
	request := b.sim.Requests()[0]
	if request.Scenario != info.Name || request.Accepted != want.Accepted || request.Status != want.Status {
		t.Errorf("got unexpected request %+v", request)
	}
}

// leaveStall cancels a stalled request, like a client, once it has been recorded.
func (b *bench) leaveStall(cancel context.CancelFunc, accepted bool) {
	defer cancel()
	eventually(b.t, "the stalled request", func() bool {
		all := b.sim.Requests()
		return len(all) == 1 && all[0].Scenario != "" && all[0].Accepted == accepted
	})
}

func TestOnceScenariosApplyOnce(t *testing.T) {
	t.Parallel()
	tests := map[plivosim.Scenario]int{
		plivosim.RateLimitedOnce:      429,
		plivosim.ServerErrorOnce:      500,
		plivosim.UnavailableOnce:      503,
		plivosim.DropBeforeAcceptOnce: 0,
	}
	for name, first := range tests {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			b := start(t)
			b.setFault(plivosim.Fault{Scenario: name})
			var got []int
			for _, to := range []string{plain, plain, "+14155550102", plain} {
				got = append(got, b.send(params(to)).status)
			}
			if diff := cmp.Diff([]int{first, 202, first, 202}, got); diff != "" {
				t.Errorf("mismatch (-want +got):\n%s", diff)
			}
			if n := len(b.sim.Ledger()); n != 2 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	b := start(t)
	for suffix, want := range map[string]string{"26": "1", "27": "1", "28": "", "29": ""} {
		if got := b.send(params("141555501" + suffix)).header.Get("Retry-After"); got != want {
			t.Errorf("suffix %s: got Retry-After %q, want %q", suffix, got, want)
		}
	}
}

func TestFollowedRedirectIsRecordedAsRequest(t *testing.T) {
	t.Parallel()
	b := start(t)
	first := b.send(params("14155550145"))
	const path = "/v1/Account/" + authID + "/Message/"
	if got := first.header.Get("Location"); got != "?redirected=1" {
		t.Fatalf("got Location %q", got)
	}
	raw, err := json.Marshal(params("14155550145"))
	if err != nil {
		t.Fatal(err)
	}
	b.do(t.Context(), http.MethodPost, path+first.header.Get("Location"), string(raw))
	if n := len(b.sim.Requests()); n != 2 {
		t.Errorf("got %d requests, want 2", n)
	}
}

func TestNoCreditRefusesAndFailsMessages(t *testing.T) {
	t.Parallel()
	clock := newClock()
	b := start(t, func(c *plivosim.Config) {
		c.Now = clock.now
		c.NumberRate = 0.001 // the second message waits for 1000 s, scaled to 1 s
	})
	b.send(params("+14155550110"))
	b.send(params("+14155550110"))
	got := []int{b.send(params("14155550118")).status, b.send(params(plain)).status}
	eventually(t, "failure of what was queued", func() bool { return b.sim.Ledger()[1].ErrorCode == "900" })
	clock.advance(2 * time.Minute)
	got = append(got, b.send(params(plain)).status)
	if diff := cmp.Diff([]int{202, 400, 202}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestCloseEndsStalledRequests(t *testing.T) {
	t.Parallel()
	b := start(t)
	ended := make(chan response)
	go func() { ended <- b.send(params("14155550155")) }()
	eventually(t, "the stall", func() bool { return len(b.sim.Ledger()) == 1 })
	b.sim.Close()
	select {
	case got := <-ended:
		if got.err == nil {
			t.Errorf("got response %+v, want none", got)
		}
	case <-time.After(waitTimeout):
		t.Fatal("the stalled request did not end after Close")
	}
	if got := b.send(params(plain)); got.err == nil {
		t.Errorf("after Close: got response %+v, want a closed connection", got)
	}
	if n := len(b.sim.Ledger()); n != 1 {
		t.Errorf("%d messages in the ledger", n)
	}
}
