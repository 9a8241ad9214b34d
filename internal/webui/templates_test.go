package webui

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	texttemplate "text/template"
	"text/template/parse"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/config"
	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/webhook"
)

var (
	aTime         = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	anID          = uuid.MustParse("0195530a-0000-7000-8000-000000000001")
	units         = 2
	senders       = []mms.PhoneNumber{"+14155550100", "+14155550101"}
	senderChoices = []senderChoice{{senders[0], "15 messages a minute"}, {senders[1], ""}}
)

// titled is the layout of the admin with another title.
func titled(title string) layout {
	l := layouts.admin
	l.Title = title
	return l
}

var memberships = []identity.Membership{
	{Workspace: identity.Workspace{ID: anID, Name: "Shop"}, Permissions: identity.MemberPermissions()},
	{Workspace: identity.Workspace{ID: uuid.Max, Name: "Bank"}, Permissions: []identity.Permission{identity.Read}},
}

// violationsOf returns a violation of each field.
func violationsOf(fields ...string) (violations invalid.Fields) {
	for _, field := range fields {
		violations.Add(field, "rule", "is invalid")
	}
	return violations
}

// layouts are those of a visitor, of one who has still to enter a second factor, a user and
// an admin.
var layouts = struct{ visitor, unfinished, user, admin layout }{
	visitor:    layout{Title: "Title", Signup: true},
	unfinished: layout{Title: "Title", Unfinished: true},
	user:       layout{Title: "Title", User: &identity.Principal{Email: "ada@example.com", Role: identity.RoleUser, WorkspaceID: anID, Permissions: identity.MemberPermissions(), Memberships: memberships}, Pauses: []mms.Pause{{Cause: mms.ReasonCredit, Detail: "no credit", Since: aTime}}},
	admin: layout{
		Title: "Title", Refresh: true, SSO: "Example ID", User: &identity.Principal{Email: "root@example.com", Role: identity.RoleAdmin, Workspace: "root", Memberships: memberships[:1]}, Simulated: true, Flash: "Done.", SilenceOff: true, Zone: "America/New_York",
		Pauses:           []mms.Pause{{Cause: mms.ReasonCredit, Detail: "no credit", Since: aTime}},
		DisabledWebhooks: []webhook.Endpoint{{ID: anID, URL: "https://example.com", DisabledAt: &aTime}},
	},
}

// pageData has the data with which each page is executed. Together they must
// take every branch of its template.
var pageData = map[string][]any{
	"batch": {
		page[batchPage]{layouts.user, batchPage{}},
		page[batchPage]{layouts.user, batchPage{
			Batch:      mms.Batch{ID: anID, Name: "Spring", State: mms.BatchRunning, Created: 3, Rejected: 1, Counts: map[mms.Status]int{mms.Queued: 2, mms.Sent: 1}},
			Open:       2,
			Percent:    33,
			Statuses:   mms.Statuses(),
			Errors:     []mms.RowError{{Row: 2, Field: invalid.Field{Name: "to", Message: "is invalid"}}},
			MoreErrors: true,
		}},
		page[batchPage]{layouts.user, batchPage{Batch: mms.Batch{State: mms.BatchPaused, Rejected: 1}, Open: 1}},
	},
	"batches": {
		page[batchesPage]{layouts.user, batchesPage{}},
		page[batchesPage]{layouts.user, batchesPage{Batches: []mms.Batch{{ID: anID, Name: "Spring", CreatedAt: aTime}, {}}, Older: "/batches?before=1"}},
	},
	"compose": {
		page[composePage]{layouts.user, composePage{}},
		page[composePage]{layouts.visitor, composePage{LoggedOut: true, composeForm: composeForm{From: string(senders[0])}, Uploads: []chosenUpload{{ID: anID.String()}}}},
		page[composePage]{layouts.user, composePage{
			composeForm: composeForm{To: "1", From: string(senders[1]), Text: "Hi", SendAt: "2026-12-24T18:00", ValidFor: "3600", Priority: "high", FirstFrame: true},
			Senders:     senderChoices, Error: "Not sent.", MoreOptions: true, ChecksLinks: true, AskFirstFrame: true,
			Uploads: []chosenUpload{{ID: anID.String(), Src: "not used", Width: 4, Height: 3, Note: "4.3 MB → 260 kB"}},
			Media:   []mediaInput{{ID: "media-0", Label: "Picture"}, {ID: "media-1", Label: "Picture 2", Value: "x", Error: "Picture 2 is invalid"}},
			Summary: []inputError{{ID: "to", Message: "Recipient is invalid"}},
			Errors:  map[string]string{"to": "Recipient is invalid", "from": "Sender is invalid", "text": "Text is invalid", "file": "Picture is invalid", "sendAt": "Send at is invalid", "validFor": "x", "priority": "x"},
		}},
		page[composePage]{layouts.user, composePage{Senders: senderChoices, AskFirstFrame: true}},
		page[composePage]{layouts.user, composePage{Senders: senderChoices[:1]}},
		page[composePage]{layouts.user, composePage{Senders: senderChoices[1:]}},
		page[composePage]{layouts.visitor, composePage{LoggedOut: true}},
		page[composePage]{layouts.user, composePage{Error: "Not confirmed.", MaybeCreated: anID.String()}},
	},
	"continue": {page[continuePage]{layouts.user, continuePage{Name: "Example ID", URL: "https://id.example.com/authorize?state=1"}}},
	"error": {
		page[errorPage]{layouts.visitor, errorPage{}},
		page[errorPage]{layouts.admin, errorPage{Message: "An error.", RequestID: "1"}},
	},
	"invitation": {
		page[invitationPage]{layouts.visitor, invitationPage{Path: "/invitations/1"}},
		page[invitationPage]{layouts.visitor, invitationPage{Path: "/invitations/1", Violations: violationsOf("password"), Error: "Too many attempts."}},
		page[invitationPage]{layouts.visitor, invitationPage{Path: "/invitations/1", LoginPath: "/login", Invitation: identity.Invitation{Known: true, Permissions: identity.MemberPermissions()}}},
		page[invitationPage]{layouts.user, invitationPage{Path: "/invitations/1", Mine: true}},
		page[invitationPage]{layouts.user, invitationPage{Path: "/invitations/1"}},
	},
	"members": {
		page[membersPage]{layouts.user, membersPage{}},
		page[membersPage]{layouts.user, membersPage{
			Members:     []identity.Member{{UserID: anID, Email: "ada@example.com", Permissions: identity.MemberPermissions()}, {}},
			Invitations: []identity.Invitation{{ID: anID, Email: "bob@example.com", Permissions: identity.MemberPermissions(), ExpiresAt: aTime}},
			Link:        "https://example.com/invitations/1", Invited: "bob@example.com", Send: true, Manage: true,
			Violations: violationsOf("email"), Error: "Not invited.",
		}},
	},
	"workspaces": {
		page[workspacesPage]{layouts.user, workspacesPage{}},
		page[workspacesPage]{layout{User: &identity.Principal{}}, workspacesPage{Violations: violationsOf("name"), Error: "Not created."}},
	},
	"health":        healthData,
	"senders":       sendersData,
	"configuration": settingsData,
	"verification":  verificationData,
	"keys": {
		page[keysPage]{layouts.user, keysPage{}},
		page[keysPage]{layouts.user, keysPage{
			Keys: []identity.Key{
				{ID: anID, Name: "Shop", Scopes: identity.KeyPermissions(), DailyCap: 10, LastUsedAt: &aTime, ExpiresAt: &aTime},
				{RevokedAt: &aTime}, {Expired: true}, {},
			},
			Secret: "pc_1", Name: "Shop", Send: true, Read: true, Violations: violationsOf("name"), Error: "Not created.",
		}},
	},
	"list": {
		page[listPage]{layouts.user, listPage{}},
		page[listPage]{layouts.user, listPage{First: true}},
		page[listPage]{layouts.user, listPage{Query: "status=sent", Older: "/messages?before=1", SearchError: "is invalid", TextError: "is invalid"}},
		page[listPage]{layouts.user, listPage{
			Messages: []mms.Message{{ID: anID, Recipient: senders[0], Text: "Hi", Status: mms.Sent, CreatedAt: aTime, Copies: []bool{true}}, {Copies: []bool{false, true}}, {}},
			Status:   mms.Sent, Statuses: mms.Statuses(), Batch: anID.String(), Waiting: true,
		}},
	},
	"login": {
		page[credentials]{layout{}, credentials{}},
		page[credentials]{layouts.visitor, credentials{Error: "Wrong.", SessionEnded: true, PasswordReset: true}},
		page[credentials]{layouts.visitor, credentials{Error: "Wrong.", SessionEnded: true, PasswordsOff: true, Passkeys: true, SSO: &ssoButton{Name: "Example ID", Next: "not used", Reachable: true}}},
		page[credentials]{layouts.visitor, credentials{SSO: &ssoButton{Name: "Example ID"}}},
	},
	"loginfactor": {
		page[loginFactorPage]{layouts.unfinished, loginFactorPage{}},
		page[loginFactorPage]{layouts.unfinished, loginFactorPage{Error: "Wrong.", Passkeys: true}},
	},
	"newpassword": {
		page[newPasswordPage]{layouts.visitor, newPasswordPage{Token: "T"}},
		page[newPasswordPage]{layouts.visitor, newPasswordPage{Token: "T", Error: "Too many.", Violations: violationsOf("password")}},
	},
	"profile": {
		page[profilePage]{titled("Account"), profilePage{}},
		page[profilePage]{layouts.admin, profilePage{
			Name: "Ada", Email: "ada@example.com", TimeZone: "UTC", Error: "Too many.", Violations: violationsOf("name", "email", "timeZone", "newPassword", "currentPassword"),
		}},
	},
	"reset": {
		page[resetPage]{layouts.visitor, resetPage{}},
		page[resetPage]{layouts.visitor, resetPage{CanMail: true, Sent: true}},
		page[resetPage]{layouts.visitor, resetPage{CanMail: true, Email: "x"}},
		page[resetPage]{layouts.visitor, resetPage{CanMail: true, Error: "Too many.", Violations: violationsOf("email")}},
	},
	"sessions": {
		page[sessionsPage]{titled("Sessions"), sessionsPage{}},
		page[sessionsPage]{layouts.user, sessionsPage{
			Current:  anID,
			Sessions: []identity.Session{{ID: anID, Browser: "Firefox on Windows", Address: "192.0.2.1", CreatedAt: aTime, LastUsedAt: aTime}, {Browser: "curl"}},
		}},
	},
	"message": {
		page[messagePage]{layouts.user, messagePage{}},
		page[messagePage]{layouts.user, messagePage{
			History: mms.History{
				Creator: "ada@example.com", KeyName: "Shop",
				Message: mms.Message{
					ID: anID, Sender: senders[0], Recipient: senders[1], Text: "Hi", MediaURLs: []string{"https://example.com/a.jpg"}, Uploads: []mms.MessageUpload{{ID: anID}}, Copies: []bool{false, true},
					Status: mms.Undelivered, PlivoUUID: "1", PlivoCode: "30", Held: true, Priority: mms.Normal, SendAt: &aTime,
					Metadata: map[string]string{"order": "1"}, ResendOf: anID, BatchID: anID, CreatedAt: aTime, FinalAt: &aTime,
					Details: mms.Details{Units: &units, Cost: "0.032", SentAt: &aTime, ReportedAt: &aTime},
				},
				AttemptList: []mms.Attempt{{Ordinal: 1, StartedAt: aTime, FinishedAt: &aTime, Outcome: mms.Accepted, HTTPStatus: 202, Detail: "ok"}, {}},
			},
			QueuePosition: "Next.", NextAttempt: &aTime, Responsible: "Plivo",
			Replies: []mms.Inbound{{Text: "STOP", Keyword: mms.KeywordStop, MediaURLs: []string{"https://example.com/b.jpg"}}, {Text: "START", Keyword: mms.KeywordStart}, {}},
			Timeline: []timelineEntry{
				{Event: mms.Event{At: aTime, Kind: mms.EventResent, Detail: anID.String()}, After: time.Second},
				{Event: mms.Event{At: aTime, Kind: mms.EventRefitted, Detail: "as message " + anID.String()}},
				{Event: mms.Event{At: aTime, Kind: mms.EventHeld, Attempt: 1, Detail: string(mms.ReasonAmbiguous)}},
				{Event: mms.Event{At: aTime, Kind: mms.EventCreated}},
			},
		}},
		page[messagePage]{layouts.user, messagePage{History: mms.History{Message: mms.Message{Recipient: "+16245550142", Status: mms.Scheduled, SendAt: &aTime, PlivoCode: "x", Details: mms.Details{Cost: "0"}}}}},
	},
	"newbatch": {
		page[newBatchPage]{layouts.user, newBatchPage{}},
		page[newBatchPage]{layouts.user, newBatchPage{From: string(senders[1]), CreateValid: true, Senders: senderChoices, Errors: []string{"Row 2: to is invalid"}, Rejected: 1}},
		page[newBatchPage]{layouts.user, newBatchPage{Errors: []string{"File is missing"}}},
		page[newBatchPage]{layouts.user, newBatchPage{Errors: []string{"Rows must be in UTF-8"}, AskWindows1252: true, AskFirstFrame: true}},
		page[newBatchPage]{layouts.user, newBatchPage{Errors: []string{"Text is too long"}, Windows1252: true, FirstFrame: true, Uploads: []chosenUpload{{ID: anID.String(), Width: 4, Height: 3, Note: "8 kB"}}}},
		page[newBatchPage]{layouts.user, newBatchPage{Errors: []string{"Not confirmed."}, MaybeCreated: anID.String(), Uploads: []chosenUpload{{ID: anID.String()}}}},
	},
	"overview": {
		page[overviewPage]{layouts.user, overviewPage{}},
		page[overviewPage]{layouts.admin, overviewPage{Choices: overviewPeriods, Overview: mms.Overview{Totals: map[mms.Status]int{mms.Queued: 1}}}},
		page[overviewPage]{layouts.admin, overviewPage{
			Overview: mms.Overview{
				Totals:  map[mms.Status]int{mms.Sent: 1},
				Medians: []mms.Median{{Status: mms.Sent, Took: time.Second, Messages: 1}},
				Reasons: []mms.ReasonCount{{Reason: mms.ReasonExpired, Messages: 1}},
			},
			Period: 7, Choices: overviewPeriods, AllUsers: true, Rated: true, Percent: 100,
			Rows:  []overviewRow{{Date: "1 Mar", Total: 1, Reached: 1}},
			Chart: newChart(make([]overviewRow, 30)),
		}},
		page[overviewPage]{layouts.user, overviewPage{
			Overview: mms.Overview{Totals: map[mms.Status]int{mms.Sent: 1}},
			Chart:    newChart([]overviewRow{{Date: "1 Mar", Total: 3, Reached: 1, Failed: 1, Open: 1}}),
		}},
	},
	"secondfactor": {
		page[factorPage]{titled("Second factor"), factorPage{}},
		page[factorPage]{layouts.unfinished, factorPage{On: true, Required: true, Error: "Wrong."}},
		page[factorPage]{layouts.unfinished, factorPage{On: true, Required: true, Setup: &totpSetup{Secret: "ABCD", QR: "data:image/png;base64,AAAA"}}},
		page[factorPage]{layouts.user, factorPage{On: true, HasPassword: true, Codes: []string{"abcde-fghij"}, Factors: identity.SecondFactors{TOTP: &identity.TOTP{ConfirmedAt: &aTime}}}},
		page[factorPage]{layouts.user, factorPage{On: true, HasPassword: true, PasskeysOn: true, PasskeyName: "Phone"}},
		page[factorPage]{layouts.user, factorPage{On: true, HasPassword: true, PasskeysOn: true, Factors: identity.SecondFactors{Passkeys: []identity.Passkey{{ID: anID, Name: "Phone", LastUsedAt: &aTime}, {}}}}},
		page[factorPage]{layouts.user, factorPage{On: true, PasskeysOn: true, Factors: identity.SecondFactors{TOTP: &identity.TOTP{ConfirmedAt: &aTime}, Passkeys: []identity.Passkey{{}}}}},
	},
	"signup": {
		page[credentials]{layout{}, credentials{}},
		page[credentials]{layouts.visitor, credentials{Error: "Wrong.", Violations: violationsOf("email", "password")}},
	},
	"sso": {
		page[ssoPage]{layouts.user, ssoPage{Name: "Example ID"}},
		page[ssoPage]{titled("Single sign-on"), ssoPage{Name: "Example ID", Reachable: true, Error: "Not linked."}},
		page[ssoPage]{layouts.user, ssoPage{Name: "Example ID", Linked: &identity.Identity{CreatedAt: aTime}}},
		page[ssoPage]{layouts.user, ssoPage{Name: "Example ID", Linked: &identity.Identity{Email: "ada@example.com", CreatedAt: aTime, LastLoginAt: &aTime}, Unlinkable: true}},
	},
	"suppressions": {
		page[suppressionsPage]{layouts.admin, suppressionsPage{}},
		page[suppressionsPage]{layouts.admin, suppressionsPage{Search: "x", SearchError: "is invalid"}},
		page[suppressionsPage]{layouts.admin, suppressionsPage{EverySender: true, List: []mms.Suppression{{Recipient: senders[1], Reason: mms.SuppressedByRecipient, CreatedAt: aTime}}}},
		page[suppressionsPage]{layouts.admin, suppressionsPage{Search: string(senders[0])}},
		page[suppressionsPage]{layouts.admin, suppressionsPage{
			List: []mms.Suppression{{Sender: senders[0], Recipient: senders[1], Reason: mms.SuppressedByAdmin, CreatedAt: aTime}, {Recipient: senders[1], Reason: mms.SuppressedByAdmin, CreatedAt: aTime}},
			More: "/admin/suppressions?after=1", Senders: senders, Sender: string(senders[1]), Violations: violationsOf("numbers", "sender"),
		}},
	},
	"webhook": {
		page[webhookPage]{layouts.user, webhookPage{}},
		page[webhookPage]{layouts.user, webhookPage{
			Endpoint: webhook.Endpoint{ID: anID, URL: "https://example.com", Description: "Shop", Statuses: []mms.Status{mms.Sent, mms.Failed}, DisabledAt: &aTime, OldSecretUntil: &aTime},
			Secret:   "whsec_1",
			Events: []webhook.Event{
				{ID: anID, WebhookID: anID, MessageID: anID, Status: mms.Sent, Version: 1, State: webhook.Failed, Attempts: 1, HTTPStatus: 500, Error: "an error"},
				{State: webhook.Pending, Attempts: 1, DueAt: &aTime},
			},
		}},
	},
	"webhooks": {
		page[webhooksPage]{layouts.user, webhooksPage{}},
		page[webhooksPage]{layouts.user, webhooksPage{
			Webhooks: []webhook.Endpoint{{ID: anID, URL: "https://example.com", Description: "Shop", Statuses: []mms.Status{mms.Sent, mms.Failed}}, {}},
			Chosen:   map[mms.Status]bool{mms.Sent: true}, Statuses: mms.Statuses(), Violations: violationsOf("url", "statuses[0]"), Error: "Not added.",
		}},
	},
}

func newTestPages(t *testing.T) *Pages {
	t.Helper()
	pages, err := New(Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

func TestEveryPageHasData(t *testing.T) {
	t.Parallel()
	got := slices.Sorted(maps.Keys(pageData))
	want := slices.Sorted(maps.Keys(newTestPages(t).templates))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages with data (-embedded templates +pageData):\n%s", diff)
	}
}

func TestEveryPageExecutes(t *testing.T) {
	t.Parallel()
	pages := newTestPages(t)
	for name, list := range pageData {
		for i, data := range list {
			var out strings.Builder
			if err := pages.templates[name].Execute(&out, data); err != nil {
				t.Errorf("%s with data %d: %v", name, i, err)
			}
			if strings.Contains(out.String(), "ZgotmplZ") { // what html/template writes instead of an unsafe value
				t.Errorf("%s with data %d: html/template rejected a value", name, i)
			}
		}
	}
}

// TestEveryLinkHasThePathOfThePublicURL expects that no page and no script refers to a path
// of the site that is not below it.
func TestEveryLinkHasThePathOfThePublicURL(t *testing.T) {
	t.Parallel()
	pages, err := New(Options{PublicURL: "https://example.com/postcard", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for name, list := range pageData {
		for _, data := range list {
			var out strings.Builder
			if err := pages.templates[name].Execute(&out, data); err != nil {
				t.Fatal(err)
			}
			for _, link := range rootedPath.FindAllStringSubmatch(out.String(), -1) {
				links++
				if !strings.HasPrefix(link[1], "/postcard/") {
					t.Errorf("%s refers to %s, want a path below /postcard/", name, link[1])
				}
			}
		}
	}
	if links < 100 {
		t.Errorf("got %d links, want those of all pages", links)
	}
	for name := range pages.static.versions {
		content, err := staticFiles.ReadFile("static/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if found := rootedPath.Find(content); found != nil {
			t.Errorf("%s refers to %s, want no path from the root of the site", name, found)
		}
	}
}

// rootedPath matches quoted paths from the root of a site, such as "/messages".
var rootedPath = regexp.MustCompile(`["'(](/[a-z][^"'() ]*)`)

// FuzzLocalPath expects that a browser which follows the path stays below the public URL.
func FuzzLocalPath(f *testing.F) {
	for _, seed := range []string{"/postcard/messages", "/postcard/../x", "/postcard/%2e%2e/x", "//evil.example", `/\evil.example`, "/postcard", "/postcard/x/..//..", "/postcard/?a=b#c"} {
		f.Add(seed)
	}
	public, err := url.Parse("https://example.com/postcard")
	if err != nil {
		f.Fatal(err)
	}
	pages, err := New(Options{PublicURL: public.String(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, next string) {
		followed, err := public.Parse(pages.localPath(next))
		if err != nil {
			t.Fatalf("%q: %v", next, err)
		}
		if followed.Host != public.Host || followed.Path != public.Path && !strings.HasPrefix(followed.Path, public.Path+"/") {
			t.Errorf("%q leads to %s, want a URL below %s", next, followed, public)
		}
	})
}

// TestReservedPaths expects config to refuse the first part of each route as the path of
// PUBLIC_URL.
func TestReservedPaths(t *testing.T) {
	t.Parallel()
	err := chi.Walk(newTestPages(t).router, func(_, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		first, _, _ := strings.Cut(strings.TrimPrefix(route, "/"), "/")
		if first == "" {
			return nil
		}
		if _, err := config.ReadAPI(map[string]string{"PUBLIC_URL": "https://example.com/" + first}); !strings.Contains(err.Error(), "begins with /"+first+",") {
			t.Errorf("PUBLIC_URL may begin with /%s, want it refused", first)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestEveryBranchExecutes checks that pageData takes every branch of every
// template, and makes every if both true and false. To see which branches are
// taken, it parses the templates with text/template, which has the same syntax
// but no escaping, and puts a marker at the start of each branch.
func TestEveryBranchExecutes(t *testing.T) {
	t.Parallel()
	functions := texttemplate.FuncMap(newTestPages(t).functions())
	taken := map[string]bool{} // by name of the branch
	for name, list := range pageData {
		tmpl, err := texttemplate.New(path.Base(layoutFile)).Funcs(functions).ParseFS(templateFiles, layoutFile, "templates/"+name+".html")
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range tmpl.Templates() {
			for _, branch := range markBranches(part.Tree, part.Tree.Root) {
				if !taken[branch] { // another page may have taken one of the layout's
					taken[branch] = false
				}
			}
		}
		for i, data := range list {
			var out strings.Builder
			if err := tmpl.Execute(&out, data); err != nil {
				t.Errorf("%s with data %d: %v", name, i, err)
			}
			for _, marker := range branchMarker.FindAllStringSubmatch(out.String(), -1) {
				taken[marker[1]] = true
			}
		}
	}
	if len(taken) < 100 {
		t.Errorf("got %d branches, want those of all templates", len(taken))
	}
	for _, branch := range slices.Sorted(maps.Keys(taken)) {
		if !taken[branch] {
			t.Errorf("no data takes the branch %s", branch)
		}
	}
}

// branchMarker matches what mark inserts.
var branchMarker = regexp.MustCompile(`\x00([^\x00]*)\x00`)

// markBranches marks all branches below node and returns their names.
func markBranches(tree *parse.Tree, node parse.Node) (names []string) {
	var branch *parse.BranchNode
	switch n := node.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			names = append(names, markBranches(tree, child)...)
		}
		return names
	case *parse.IfNode:
		branch = &n.BranchNode
		if n.ElseList == nil {
			n.ElseList = &parse.ListNode{NodeType: parse.NodeList}
		}
	case *parse.WithNode:
		branch = &n.BranchNode
	case *parse.RangeNode:
		branch = &n.BranchNode
	default:
		return nil
	}
	location, _ := tree.ErrorContext(node)
	name := fmt.Sprintf("%s %s", location, branch.Pipe)
	names = append(names, mark(tree, branch.List, name)...)
	if branch.ElseList != nil {
		names = append(names, mark(tree, branch.ElseList, name+", else")...)
	}
	return names
}

// mark inserts a marker with the name at the start of a branch, and marks the
// branches in it.
func mark(tree *parse.Tree, list *parse.ListNode, name string) []string {
	names := append(markBranches(tree, list), name)
	list.Nodes = slices.Insert(list.Nodes, 0, parse.Node(&parse.TextNode{NodeType: parse.NodeText, Text: []byte("\x00" + name + "\x00")}))
	return names
}
