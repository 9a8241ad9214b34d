package mms

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestEveryConstantHasAText finds the constants in the source, so that a new
// status, reason or event kind cannot be forgotten.
func TestEveryConstantHasAText(t *testing.T) {
	t.Parallel()
	for _, s := range Statuses() {
		if s.Title() == "" || (Message{Status: s}).Explain() == "" || (Message{Status: s, Attempts: 1, Reason: ReasonRateLimited}).Explain() == "" {
			t.Errorf("status %s has no title or explanation", s)
		}
	}
	for name, value := range stringConstants(t) {
		switch {
		case strings.HasPrefix(name, "Reason") && (Reason(value).Description() == value || Reason(value).Description() == ""):
			t.Errorf("%s has no description", name)
		case strings.HasPrefix(name, "ReasonMedia") && Reason(value) != ReasonMediaUnreachable && failedNextSteps[Reason(value)] == "":
			t.Errorf("%s has no next step", name)
		case strings.HasPrefix(name, "Event") && EventKind(value).Title() == value:
			t.Errorf("%s has no title", name)
		}
	}
	for _, o := range []Outcome{Accepted, TransientFailure, PermanentFailure, AccountError, Unknown} {
		if o.Title() == Outcome("").Title() {
			t.Errorf("outcome %s has no title", o)
		}
	}
}

func TestUnknownCodesAreShownUnchanged(t *testing.T) {
	t.Parallel()
	if got := EventKind("new").Title(); got != "new" {
		t.Errorf("event title: got %q, want %q", got, "new")
	}
	if got := Reason("new").Description(); got != "new" {
		t.Errorf("reason: got %q, want %q", got, "new")
	}
	if got := Reason("").Description(); got != "" {
		t.Errorf("no reason: got %q, want none", got)
	}
}

// stringConstants returns the string constants of this package by name.
func stringConstants(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := map[string]string{}
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		addStringConstants(constants, tree)
	}
	if len(constants) < 30 {
		t.Fatalf("found %d constants, want at least 30", len(constants))
	}
	return constants
}

func addStringConstants(constants map[string]string, tree *ast.File) {
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if i < len(spec.Values) {
				if literal, ok := spec.Values[i].(*ast.BasicLit); ok && literal.Kind == token.STRING {
					constants[name.Name], _ = strconv.Unquote(literal.Value)
				}
			}
		}
		return true
	})
}

func TestExplainMessage(t *testing.T) {
	t.Parallel()
	final := new(time.Time)
	pause := Pause{Cause: ReasonCredit, Since: time.Date(2026, 3, 9, 7, 5, 0, 0, time.UTC)}
	const paused = "Postcard paused all sending on 9 Mar 2026, 07:05:00 UTC. The Plivo account has no credit left. Messages wait until the operator tops it up. Postcard keeps trying one message at a time and resumes when Plivo accepts one."
	for name, tt := range map[string]struct {
		message Message
		want    string
	}{
		"new":                           {Message{Status: Queued}, "The message is stored and waiting to be sent."},
		"retried":                       {Message{Status: Queued, Attempts: 2, Reason: ReasonUnreachable}, "Plivo could not be reached. It will be tried again (attempts so far: 2)."},
		"paused":                        {Message{Status: Queued, Pause: pause}, "The message is stored and waiting to be sent. " + paused},
		"paused, since an unknown time": {Message{Status: Queued, Pause: Pause{Cause: ReasonCredit}}, "The message is stored and waiting to be sent. " + strings.Replace(paused, " on 9 Mar 2026, 07:05:00 UTC", "", 1)},
		"retried and paused":            {Message{Status: Queued, Attempts: 1, Reason: ReasonUnreachable, Pause: pause}, "Plivo could not be reached. It will be tried again (attempts so far: 1). " + paused},
		"sender rests":                  {Message{Status: Queued, SenderResting: true}, "The message is stored and waiting to be sent. Its sender number rests: an admin has taken it out of use, and the message waits until it is put back or the message expires."},
		"batch paused":                  {Message{Status: Queued, BatchState: BatchPaused, Pause: pause}, "The message is stored and waiting to be sent. Its batch was paused by a user, and it waits until the batch is resumed."},
		"batch canceled":                {Message{Status: Queued, BatchState: BatchCanceled}, "The message is stored and waiting to be sent. Its batch was canceled by a user, and it will be canceled too."},
		"preparing":                     {Message{Status: Queued, Preparing: true}, "The message is stored. Its pictures are being prepared before it is sent."},
		"preparing, with a problem":     {Message{Status: Queued, Preparing: true, MediaProblem: "cdn.example.com did not answer."}, "The message is stored. Its pictures are being prepared before it is sent. cdn.example.com did not answer. Postcard tries again until the message expires."},
		"preparing again":               {Message{Status: Queued, Preparing: true, Attempts: 1, Reason: ReasonPlivoMediaUnknown}, "The message is stored. Its pictures are being prepared before it is sent."},
		"preparing in a paused batch":   {Message{Status: Queued, Preparing: true, BatchState: BatchPaused}, "The message is stored. Its pictures are being prepared before it is sent. Its batch was paused by a user, and it waits until the batch is resumed."},
		"failed pictures":               {Message{Status: Failed, Reason: ReasonMediaNotFound}, "The message was not sent. The host of a picture says that there is nothing at its link (404)."},
		"batch running":                 {Message{Status: Queued, BatchState: BatchRunning}, "The message is stored and waiting to be sent."},
		"in doubt":                      {Message{Status: InDoubt, Reason: ReasonWorkerLost}, "Plivo may or may not have the message. The worker stopped during the call to Plivo. Postcard is checking with Plivo before it does anything else."},
		"held":                          {Message{Status: InDoubt, Held: true, Reason: ReasonAmbiguous}, "Plivo may or may not have the message. Plivo lists a message that could be this one, but it is not certain which message it belongs to. It is held for a decision, because sending it again could reach the recipient twice."},
		"submitted":                     {Message{Status: Submitted}, "Plivo accepted the message and will pass it to the carrier."},
		"submitted and never reported":  {Message{Status: Submitted, FinalAt: final}, "Plivo accepted the message, but never reported what happened to it."},
		"sent":                          {Message{Status: Sent}, "The carrier has the message. In the US and Canada, this is often the last report."},
		"sent and closed":               {Message{Status: Sent, FinalAt: final}, "The carrier has the message. It did not confirm delivery, which is usual in the US and Canada."},
		"sent by a person's decision":   {Message{Status: Sent, FinalAt: final, Reason: ReasonDecidedSent}, "Marked as sent by a person."},
		"undelivered":                   {Message{Status: Undelivered, PlivoCode: "50"}, "The carrier could not deliver the message. The recipient's number is invalid or not a mobile phone. (Plivo's code 50)"},
		"failed at Plivo":               {Message{Status: Failed, Reason: ReasonReported, PlivoCode: "4711"}, "Plivo could not send the message. Plivo's error code is 4711; its meaning is not published."},
		"expired":                       {Message{Status: Failed, Reason: ReasonExpired}, "The message was not sent. It expired before it could be sent."},
		"given up by a person, unknown": {Message{Status: Failed, Reason: ReasonDecidedGiveUp}, "Whether the message was sent is unknown. Given up by a person."},
	} {
		if got := tt.message.Explain(); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestNextStep(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		message Message
		want    string // part of the text; empty: no text
	}{
		"queued":                      {Message{Status: Queued}, ""},
		"delivered":                   {Message{Status: Delivered, FinalAt: new(time.Time)}, ""},
		"batch paused":                {Message{Status: Queued, BatchState: BatchPaused}, "Resume its batch"},
		"in doubt":                    {Message{Status: InDoubt}, ""},
		"held":                        {Message{Status: InDoubt, Held: true}, "Choose"},
		"undelivered":                 {Message{Status: Undelivered, PlivoCode: "50"}, "Check the number"},
		"failed at Plivo":             {Message{Status: Failed, Reason: ReasonReported, PlivoCode: "120"}, "the history says whether Postcard has resent it"},
		"rejected":                    {Message{Status: Failed, Reason: ReasonRejected}, "Correct"},
		"given up by a person":        {Message{Status: Failed, Reason: ReasonDecidedGiveUp}, ""},
		"sent and closed":             {Message{Status: Sent, PlivoUUID: "u", FinalAt: new(time.Time)}, "ask the recipient"},
		"sent by a person's decision": {Message{Status: Sent, Reason: ReasonDecidedSent, FinalAt: new(time.Time)}, ""},
		"sent":                        {Message{Status: Sent}, ""},
	} {
		if got := tt.message.NextStep(); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s: got %q, want %q in it", name, got, tt.want)
		}
	}
}

func TestExplainPlivoCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"30": "spam", "000": "No reason", "0": "No reason", "": "No reason", "4711": "4711; its meaning is not published",
	} {
		got := ExplainPlivoCode(code)
		if !strings.Contains(got.Explain(), want) || got.NextStep == "" || got.Responsible.Description() == "" {
			t.Errorf("ExplainPlivoCode(%q) = %+v, want %q in it", code, got, want)
		}
	}
	for code := range codeMeanings {
		if got := ExplainPlivoCode(code); got.Description == "" || got.NextStep == "" || got.Responsible.Description() == "" || !strings.Contains(got.Explain(), code) {
			t.Errorf("ExplainPlivoCode(%q) = %+v, want every field set", code, got)
		}
	}
}

func TestEventDescription(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		event Event
		want  string
	}{
		"report of a delivery": {Event{Kind: EventReport, Status: Delivered, Detail: "delivered"}, "Delivered"},
		"report of a failure":  {Event{Kind: EventReport, Status: Failed, Detail: "failed, code 30"}, "failed, code 30"},
		"evidence":             {Event{Kind: EventEvidenceFound, Detail: "u-1"}, "Plivo's UUID is u-1"},
		"texted STOP":          {Event{Kind: EventSuppressed, Detail: "recipient +14155550100"}, "the recipient opted out by a text message to +1 415-555-0100"},
		"opted out at Plivo":   {Event{Kind: EventSuppressed, Detail: "plivo +14155550100"}, "Plivo reported that the recipient opted out of messages from +1 415-555-0100"},
		"added for a sender":   {Event{Kind: EventSuppressed, Detail: "admin +14155550100"}, "an admin added the opt-out for sender +1 415-555-0100"},
		"added for all":        {Event{Kind: EventSuppressed, Detail: "admin "}, "Added by an admin"},
		"older suppression":    {Event{Kind: EventSuppressed}, ""},
		"reason":               {Event{Kind: EventInDoubt, Detail: string(ReasonWorkerLost)}, ReasonWorkerLost.Description()},
		"canceled":             {Event{Kind: EventCanceled}, ""},
		"prepared":             {Event{Kind: EventPrepared}, ""},
		"prepared with a note": {Event{Kind: EventPrepared, Detail: "Picture 1 was copied."}, "Picture 1 was copied."},
		"unusable pictures":    {Event{Kind: EventMediaFailed, Detail: "Picture 1: cdn.example.com answered 404."}, "Picture 1: cdn.example.com answered 404."},
		"canceled with batch":  {Event{Kind: EventCanceled, Detail: "batch"}, "together with its batch"},
	} {
		if got := tt.event.Description(); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestQueuePositionDescription(t *testing.T) {
	t.Parallel()
	for want, position := range map[string]QueuePosition{
		"It is next in the queue.":                                  {Wait: time.Second},
		"1 message ahead, about 1 minute.":                          {Ahead: 1},
		"3 messages ahead, about 2 minutes.":                        {Ahead: 3, Wait: 61 * time.Second},
		"99 messages ahead, about 3 hours.":                         {Ahead: 99, Wait: 121 * time.Minute},
		"0 messages ahead, about 10 minutes.":                       {Wait: 10 * time.Minute},
		"At least 5000 messages are ahead: about 12 hours or more.": {Ahead: MaxCounted, Wait: 11*time.Hour + time.Minute},
		"No message is ahead of it.":                                {Batch: BatchCanceled},
		"2 messages ahead.":                                         {Ahead: 2, Wait: time.Hour, Batch: BatchPaused},
		"1 message ahead.":                                          {Ahead: 1, Paused: true, Batch: BatchRunning},
		"At least 5000 messages are ahead of it.":                   {Ahead: MaxCounted, Wait: time.Hour, Paused: true},
	} {
		if got := position.Description(); got != want {
			t.Errorf("%+v: got %q, want %q", position, got, want)
		}
	}
}

func TestExplainBatch(t *testing.T) {
	t.Parallel()
	const done = "Every message of the batch has been submitted to Plivo, has failed or was canceled."
	counts := map[Status]int{Queued: 2, Delivered: 1}
	for _, tt := range []struct {
		batch          Batch
		title, explain string
	}{
		{Batch{State: BatchRunning, HasUnsent: true, Counts: counts}, "Sending", "The batch is being sent. 2 messages remaining."},
		{Batch{State: BatchRunning, HasUnsent: true, Counts: counts, Pause: Pause{Cause: ReasonCredit}}, "Waiting", Pause{Cause: ReasonCredit}.Explain() + " 2 messages remaining."},
		{Batch{State: BatchPaused, HasUnsent: true, Counts: counts, Pause: Pause{Cause: ReasonCredit}}, "Paused", "The batch is paused. Messages that expire in the meantime fail. 2 messages remaining."},
		{Batch{State: BatchCanceled, HasUnsent: true, Counts: counts}, "Canceled", "The batch is canceled. Messages already submitted to Plivo are not recalled."},
		{Batch{State: BatchRunning, Counts: map[Status]int{Failed: 1, Sent: 1}, Pause: Pause{Cause: ReasonCredit}}, "Finished", done + " 1 message failed or could not be delivered."},
		{Batch{State: BatchPaused}, "Finished", done},
	} {
		if finished := tt.batch.Progress() == BatchFinished; finished != (tt.title == "Finished") {
			t.Errorf("%+v: got progress %s with title %s", tt.batch, tt.batch.Progress(), tt.title)
		}
		if title, explain := tt.batch.Title(), tt.batch.Explain(); title != tt.title || explain != tt.explain {
			t.Errorf("%+v: got %q, %q; want %q, %q", tt.batch, title, explain, tt.title, tt.explain)
		}
	}
}
