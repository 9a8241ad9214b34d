package mms

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTransitions(t *testing.T) {
	t.Parallel()
	reachable := map[Status]bool{Scheduled: true, Queued: true} // where messages begin
	for _, from := range Statuses() {
		for _, to := range Statuses() {
			if from.CanBecome(to) != slices.Contains(StatusesBefore(to), from) {
				t.Errorf("Before(%s) and CanBecome disagree about %s", to, from)
			}
			if from.CanBecome(to) {
				reachable[to] = true
			}
		}
		if !from.Known() {
			t.Errorf("%s is not known", from)
		}
	}
	// What Plivo reports has one order, whichever comes first.
	reported := []Status{Submitted, Sent, Failed, Undelivered, Delivered}
	for i, from := range reported {
		for j, to := range reported {
			if lower := i < j; from.CanBecome(to) != (lower || from == Failed && to == Submitted) {
				t.Errorf("%s may become %s: %v", from, to, from.CanBecome(to))
			}
		}
	}
	for _, s := range Statuses() {
		if !reachable[s] {
			t.Errorf("%s cannot be reached", s)
		}
	}
	if Status("gone").Known() {
		t.Error("a made-up status is known")
	}
}

func TestReported(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]Status{
		"sent": Sent, "delivered": Delivered, "undelivered": Undelivered, "rejected": Undelivered, "failed": Failed,
		"queued": "", "read": "", "": "", "DELIVERED": "",
	} {
		if got, ok := StatusFromReport(state); got != want || ok != (want != "") {
			t.Errorf("Reported(%q) = %q, %v, want %q", state, got, ok, want)
		}
	}
}

func TestEverythingHasWords(t *testing.T) {
	t.Parallel()
	for _, s := range Statuses() {
		if s.Title() == "" || (Message{Status: s}).Explain() == "" || (Message{Status: s, Attempts: 1, Reason: ReasonRateLimited}).Explain() == "" {
			t.Errorf("%s has no words", s)
		}
	}
	for name, value := range constants(t) {
		switch {
		case strings.HasPrefix(name, "Reason") && (Reason(value).Description() == value || Reason(value).Description() == ""):
			t.Errorf("%s has no words", name)
		case strings.HasPrefix(name, "Event") && EventKind(value).Title() == value:
			t.Errorf("%s has no title", name)
		}
	}
	if Outcome("").Title() != "Under way" || Unknown.Title() == "Under way" {
		t.Error("outcomes have no titles")
	}
	if EventKind("new").Title() != "new" || Reason("new").Description() != "new" || Reason("").Description() != "" {
		t.Error("what is not known is not shown as it came")
	}
}

// constants are the string constants of this package by their names.
func constants(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		addConstants(found, tree)
	}
	if len(found) < 30 {
		t.Fatalf("only %d constants were found", len(found))
	}
	return found
}

func addConstants(found map[string]string, tree *ast.File) {
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if i < len(spec.Values) {
				if literal, ok := spec.Values[i].(*ast.BasicLit); ok && literal.Kind == token.STRING {
					found[name.Name], _ = strconv.Unquote(literal.Value)
				}
			}
		}
		return true
	})
}

func TestPlivoCodes(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"30": "spam", "000": "No reason", "": "No reason", "4711": "4711, whose meaning is not published",
	} {
		got := ExplainPlivoCode(code)
		if !strings.Contains(got.Explain(), want) || got.NextStep == "" || got.Responsible.Description() == "" {
			t.Errorf("ExplainPlivoCode(%q) = %+v, want something of %q", code, got, want)
		}
	}
	for code := range codeMeanings {
		if got := ExplainPlivoCode(code); got.Description == "" || got.NextStep == "" || got.Responsible.Description() == "" || !strings.Contains(got.Explain(), code) {
			t.Errorf("code %s is not explained: %+v", code, got)
		}
	}
}

func TestWhatNow(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		m    Message
		want string
	}{
		"waiting":                  {Message{Status: Queued}, ""},
		"delivered":                {Message{Status: Delivered, FinalAt: new(time.Time)}, ""},
		"held":                     {Message{Status: InDoubt, Held: true}, "decide"},
		"undelivered":              {Message{Status: Undelivered, PlivoCode: "50"}, "Check the number"},
		"failed at Plivo":          {Message{Status: Failed, Reason: ReasonReported, PlivoCode: "120"}, "smaller"},
		"refused":                  {Message{Status: Failed, Reason: ReasonRejected}, "Correct"},
		"given up":                 {Message{Status: Failed, Reason: ReasonDecidedGiveUp}, ""},
		"closed at sent":           {Message{Status: Sent, PlivoUUID: "u", FinalAt: new(time.Time)}, "ask the recipient"},
		"sent, by a person's word": {Message{Status: Sent, Reason: ReasonDecidedSent, FinalAt: new(time.Time)}, ""},
		"sent, still waited":       {Message{Status: Sent}, ""},
	} {
		if got := tt.m.NextStep(); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s: %q, want something of %q", name, got, tt.want)
		}
	}
}

func TestReportsInShort(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Report{
		"sent":                  {State: "sent", Code: "000"},
		"failed, code 30":       {State: "failed", Code: "30"},
		"odd":                   {State: "o\x00d\xffd"},
		strings.Repeat("x", 32): {State: strings.Repeat("x", 99)},
	} {
		if got := r.Summary(); got != want {
			t.Errorf("Words() = %q, want %q", got, want)
		}
	}
}

func TestPlaceWords(t *testing.T) {
	t.Parallel()
	for want, place := range map[string]QueuePosition{
		"It is next in line.":                                           {Wait: time.Second},
		"1 message ahead, about 1 minute.":                              {Ahead: 1},
		"3 messages ahead, about 2 minutes.":                            {Ahead: 3, Wait: 61 * time.Second},
		"99 messages ahead, about 3 hours.":                             {Ahead: 99, Wait: 121 * time.Minute},
		"0 messages ahead, about 10 minutes.":                           {Wait: 10 * time.Minute},
		"5000 messages or more are ahead: about 12 hours at the least.": {Ahead: MaxCounted, Wait: 11*time.Hour + time.Minute},
		"Its batch is canceled.":                                        {Batch: BatchCanceled},
		"Its batch is paused.":                                          {Ahead: 2, Batch: BatchPaused},
		"All sending is paused. " + ReasonCredit.Description():          {Paused: ReasonCredit, Batch: BatchPaused},
	} {
		if got := place.Description(); got != want {
			t.Errorf("Words() of %+v = %q, want %q", place, got, want)
		}
	}
}

func TestWhereABatchStands(t *testing.T) {
	t.Parallel()
	waiting := map[Status]int{Queued: 2, Delivered: 1}
	for _, tt := range []struct {
		batch          Batch
		title, explain string
	}{
		{Batch{State: BatchRunning, HasUnsent: true, Counts: waiting}, "Being sent", "The batch is being sent. Left: 2 messages."},
		{Batch{State: BatchRunning, HasUnsent: true, Counts: waiting, Paused: ReasonCredit}, "Waiting", "All sending is paused. " + ReasonCredit.Description() + " Left: 2 messages."},
		{Batch{State: BatchPaused, HasUnsent: true, Counts: waiting, Paused: ReasonCredit}, "Paused", "The batch is paused. Messages whose time runs out meanwhile fail. Left: 2 messages."},
		{Batch{State: BatchCanceled, HasUnsent: true, Counts: waiting}, "Canceled", "The batch is canceled. What had been handed to Plivo before stays sent."},
		{Batch{State: BatchRunning, Counts: map[Status]int{Failed: 1, Sent: 1}, Paused: ReasonCredit}, "Done", "All messages of the batch have been handed to Plivo or have ended. 1 message failed or could not be delivered."},
		{Batch{State: BatchPaused}, "Done", "All messages of the batch have been handed to Plivo or have ended."},
	} {
		if title, explain := tt.batch.Title(), tt.batch.Explain(); title != tt.title || explain != tt.explain {
			t.Errorf("%+v: %q, %q; want %q, %q", tt.batch, title, explain, tt.title, tt.explain)
		}
	}
}
