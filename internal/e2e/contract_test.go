package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// contract checks every response of an api against its OpenAPI document, and records
// which of the documented responses occurred.
type contract struct {
	t          *testing.T
	url        string
	validator  validator.Validator
	operations []*operation
}

// operation is an operation of the OpenAPI document.
type operation struct {
	id        string
	method    string
	path      string
	pattern   *regexp.Regexp
	hasBody   bool
	examples  map[string]string // of the body, by media type
	byKey     bool              // API keys may call it
	bySession bool
	responses map[string]bool // documented statuses: whether they occurred
}

func readContract(t *testing.T, url string) *contract {
	t.Helper()
	status, text, err := get(t.Context(), url+"/openapi.json")
	if err != nil || status != http.StatusOK {
		t.Fatalf("/openapi.json: got %d (error %v)", status, err)
	}
	document, err := libopenapi.NewDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, violations := v.ValidateDocument(); !ok {
		for _, v := range violations {
			t.Errorf("the OpenAPI document is not valid: %s: %s", v.Message, v.Reason)
		}
	}
	var plain struct {
		Paths map[string]map[string]struct {
			OperationID string
			RequestBody *struct {
				Content map[string]struct{ Example json.RawMessage }
			}
			Security  []map[string][]string
			Responses map[string]struct{}
		}
	}
	if err := json.Unmarshal([]byte(text), &plain); err != nil {
		t.Fatal(err)
	}
	c := &contract{t: t, url: url, validator: v}
	for path, methods := range plain.Paths {
		for method, op := range methods {
			o := &operation{
				id: op.OperationID, method: strings.ToUpper(method), path: path, hasBody: op.RequestBody != nil,
				pattern: regexp.MustCompile("^" + regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, "([^/]+)") + "$"), responses: map[string]bool{},
			}
			if o.hasBody {
				o.examples = map[string]string{}
				for mediaType, content := range op.RequestBody.Content {
					o.examples[mediaType] = string(content.Example)
				}
			}
			for _, scheme := range op.Security {
				if _, ok := scheme["apiKey"]; ok {
					o.byKey = true
				}
				if _, ok := scheme["session"]; ok {
					o.bySession = true
				}
			}
			for status := range op.Responses {
				o.responses[status] = false
			}
			c.operations = append(c.operations, o)
		}
	}
	// Paths without parameters first, because they take precedence.
	slices.SortFunc(c.operations, func(a, b *operation) int {
		return strings.Count(a.path, "{") - strings.Count(b.path, "{")
	})
	return c
}

func (c *contract) find(method, path string) *operation {
	for _, o := range c.operations {
		if o.method == method && o.pattern.MatchString(path) {
			return o
		}
	}
	return nil
}

// RoundTrip checks every response.
func (c *contract) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	o := c.find(r.Method, r.URL.Path)
	if o == nil {
		c.t.Errorf("%s %s is not documented", r.Method, r.URL.Path)
		return response, nil
	}
	status := fmt.Sprint(response.StatusCode)
	if _, documented := o.responses[status]; !documented {
		c.t.Errorf("%s answered %s, which is not documented", o.id, status)
	}
	o.responses[status] = true
	contentType, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	if !strings.HasSuffix(contentType, "json") {
		return response, nil
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		return nil, err
	}
	copied := *response
	copied.Body = io.NopCloser(bytes.NewReader(body))
	if ok, violations := c.validator.ValidateHttpResponse(r, &copied); !ok {
		for _, v := range violations {
			c.t.Errorf("%s, %s: %s: %s\n%s", o.id, status, v.Message, v.Reason, body)
		}
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// user calls the API, with a session or a key.
type user struct {
	t    *testing.T
	url  string
	http *http.Client
	key  string
}

func (c *contract) user(key string) *user {
	jar, err := cookiejar.New(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return &user{t: c.t, url: c.url, key: key, http: &http.Client{Jar: jar, Transport: c, Timeout: time.Minute}}
}

// person signs a user up and returns their session.
func (c *contract) person(email string) *user {
	u := c.user("")
	u.want(http.StatusCreated, "POST", "/api/signup", fmt.Sprintf(`{"email":%q,"password":"correct horse"}`, email))
	return u
}

// newKey creates an API key and returns a user of it.
func (c *contract) newKey(person *user, scopes string) *user {
	key := person.want(http.StatusCreated, "POST", "/api/keys", fmt.Sprintf(`{"name":"test","scopes":[%s]}`, scopes))
	return c.user(fmt.Sprint(key["secret"]))
}

// do sends a request, with a JSON body unless it is empty. Headers are name and value
// in turn.
func (u *user) do(method, path, body string, headers ...string) (int, http.Header, string) {
	u.t.Helper()
	request, err := http.NewRequestWithContext(u.t.Context(), method, u.url+path, strings.NewReader(body))
	if err != nil {
		u.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if u.key != "" {
		request.Header.Set("Authorization", "Bearer "+u.key)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := u.http.Do(request)
	if err != nil {
		u.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	if strings.Contains(response.Header.Get("Content-Type"), "event-stream") {
		return response.StatusCode, response.Header, ""
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		u.t.Fatalf("%s %s: %v", method, path, err)
	}
	return response.StatusCode, response.Header, string(text)
}

// want is do that requires a status and decodes the response.
func (u *user) want(status int, method, path, body string, headers ...string) map[string]any {
	u.t.Helper()
	got, _, text := u.do(method, path, body, headers...)
	if got != status {
		u.t.Fatalf("%s %s %s: got %d %s, want %d", method, path, body, got, text, status)
	}
	decoded := map[string]any{}
	if strings.HasPrefix(text, "{") {
		if err := json.Unmarshal([]byte(text), &decoded); err != nil {
			u.t.Fatal(err)
		}
	}
	return decoded
}

// withIDs returns the path with its parameters filled in.
func (o *operation) withIDs(ids ...string) string {
	for _, id := range ids {
		o = &operation{path: regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllStringFunc(o.path, replaceFirst(id))}
	}
	return o.path
}

func replaceFirst(replacement string) func(string) string {
	done := false
	return func(match string) string {
		if done {
			return match
		}
		done = true
		return replacement
	}
}

const sendBody = `{"to":"+14165551000","text":"Hello","mediaUrl":"https://example.com/a.jpg"}`

// TestAPIContract causes every response that the API documents and checks it against
// the OpenAPI document.
func TestAPIContract(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, url := r.api("ALLOW_PRIVATE_WEBHOOKS=true", "MEDIA_QUOTA=1000")
	c := readContract(t, url)
	ada := c.person("ada.lovelace@example.com")
	key := c.newKey(ada, `"send","read"`)
	reader, stranger := c.newKey(ada, `"read"`), c.user("")
	sender := c.newKey(ada, `"send"`)
	unknown := uuid.NewString()
	root := c.admin(r)

	for _, o := range c.operations {
		path := o.withIDs(unknown, unknown)
		body := ""
		caller := stranger
		switch {
		case strings.HasPrefix(o.path, "/api/admin/"):
			caller = root
			ada.want(http.StatusNotFound, o.method, path, "")
		case o.bySession:
			caller = ada
		}
		if o.hasBody {
			body = `{"nonsense":true}`
		}
		var contentType []string // JSON
		if o.id == "uploadMedia" {
			body, contentType = formOf("nonsense", "", []byte("true"))
		}
		if o.method == http.MethodPost || o.method == http.MethodPatch { // without fields too
			nonsense := `{"nonsense":true}`
			if contentType != nil {
				nonsense = body
			}
			caller.want(http.StatusBadRequest, o.method, path, nonsense, contentType...)
			caller.want(http.StatusUnsupportedMediaType, o.method, path, "x", "Content-Type", "text/plain")
			size := 65 << 10
			if o.id == "createBatch" {
				size = 65 << 20
			}
			if contentType == nil { // the limit of files is too large for a test
				caller.want(http.StatusRequestEntityTooLarge, o.method, path, strings.Repeat("x", size))
			}
		}
		if _, ok := o.responses["400"]; ok {
			caller.want(http.StatusBadRequest, o.method, path+"?nonsense=1", body, contentType...)
		}
		if o.bySession {
			stranger.want(http.StatusUnauthorized, o.method, path, body)
		}
		if o.byKey {
			c.user("pc_wrong").want(http.StatusUnauthorized, o.method, path, body)
			if status, _, _ := reader.do(o.method, path, body); status != http.StatusForbidden {
				sender.want(http.StatusForbidden, o.method, path, body)
			}
		} else if o.bySession {
			key.want(http.StatusForbidden, o.method, path, body)
		}
		if strings.Contains(path, unknown) {
			if o.id == "decideMessage" {
				body = `{"decision":"give_up"}`
			}
			caller.do(o.method, path, body)
		}
	}
	c.exerciseExamples(ada)
	c.exerciseOperator(root)
	c.exerciseWorkspaces(r, ada)
	c.exerciseAccount(stranger, ada)
	c.exerciseMessages(r, ada, key)
	c.exerciseBatches(r, ada, key)
	c.exerciseWebhooks(r, ada)
	c.exerciseMedia(r, ada)
	c.exerciseLimit(r, ada)

	for _, o := range c.operations {
		for status, seen := range o.responses {
			// 500 and 503 need a broken server; the packages' own tests cover them.
			// 250 MB are too many for a test; TestComposeChecksLinks has an api that checks links.
			elsewhere := o.id+status == "uploadMedia413" || o.id+status == "checkMedia200"
			if !seen && !elsewhere && status != "500" && status != "503" {
				t.Errorf("%s documents %s, but no request caused it", o.id, status)
			}
		}
	}
}

// exerciseExamples sends the examples of the OpenAPI document: none may be rejected as
// invalid.
func (c *contract) exerciseExamples(ada *user) {
	for _, o := range c.operations {
		for mediaType, example := range o.examples {
			if o.id == "uploadMedia" { // a picture is no text
				continue
			}
			path := o.withIDs(uuid.NewString(), uuid.NewString())
			if mediaType == "text/csv" {
				path += "?mediaUrl=https://example.com/a.jpg"
				if err := json.Unmarshal([]byte(example), &example); err != nil {
					c.t.Fatal(err)
				}
			}
			submitter := ada
			if !o.bySession {
				submitter = c.user("")
			}
			if status, _, text := submitter.do(o.method, path, example, "Content-Type", mediaType); example == "" || status == http.StatusBadRequest || status == http.StatusUnsupportedMediaType {
				c.t.Errorf("the example of %s, %q: got %d %s, want it to be valid", o.id, example, status, text)
			}
		}
	}
}

// exerciseMedia uploads a picture, reads and deletes it, and exceeds the quota.
func (c *contract) exerciseMedia(r *rig, ada *user) {
	path := "/api/media/" + ada.uploadPixel()
	ada.want(http.StatusOK, "GET", path, "")
	ada.want(http.StatusOK, "GET", path+"/content", "")
	ada.want(http.StatusNotFound, "POST", "/api/media/check", `{"url":"https://example.com/a.jpg"}`)
	form, contentType := formOf("file", "photo.jpg", r.samplePicture("small-photo.jpg"))
	ada.want(http.StatusConflict, "POST", "/api/media", form, contentType...)
	ada.want(http.StatusNoContent, "DELETE", path, "")
}

// admin returns a session of an admin.
func (c *contract) admin(r *rig) *user {
	admin, err := identity.NewUser(uuid.New(), "root@example.com", "correct horse", identity.RoleAdmin)
	if err == nil {
		err = r.store.CreateUser(c.t.Context(), admin)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	root := c.user("")
	root.want(http.StatusOK, "POST", "/api/login", `{"email":"root@example.com","password":"correct horse"}`)
	return root
}

// exerciseOperator reads what operators see, and changes senders.
func (c *contract) exerciseOperator(root *user) {
	for _, path := range []string{"/api/admin/health", "/api/admin/senders", "/api/admin/settings", "/api/admin/verifications"} {
		root.want(http.StatusOK, "GET", path, "")
	}
	const added = "/api/admin/senders/+14155550109"
	root.want(http.StatusNoContent, "POST", "/api/admin/senders", `{"number":"+14155550109","rate":"15"}`)
	root.want(http.StatusNoContent, "POST", added+"/rate", `{"rate":"20"}`)
	root.want(http.StatusNoContent, "POST", added+"/rest", "")
	root.want(http.StatusNoContent, "POST", added+"/put-back", "")
	root.want(http.StatusNoContent, "DELETE", added, "")
	root.want(http.StatusConflict, "DELETE", "/api/admin/senders/+14155550100", "")
}

// exerciseWorkspaces manages the members of Ada's workspace and of a second one.
func (c *contract) exerciseWorkspaces(r *rig, ada *user) {
	user := ada.want(http.StatusOK, "GET", "/api/me", "")["user"].(map[string]any)
	own := uuid.MustParse(fmt.Sprint(user["id"]))
	bob := identity.User{ID: uuid.New(), Email: "bob@example.com", Role: identity.RoleUser, PasswordHash: identity.PasswordHash(strings.Repeat("x", 60))}
	if err := r.store.CreateUser(c.t.Context(), bob); err != nil {
		c.t.Fatal(err)
	}
	second := uuid.MustParse(fmt.Sprint(ada.want(http.StatusCreated, "POST", "/api/workspaces", `{"name":"Second"}`)["id"]))
	for _, workspace := range []uuid.UUID{own, second} {
		if err := r.store.AddMember(c.t.Context(), workspace, bob.Email, identity.MemberPermissions()); err != nil {
			c.t.Fatal(err)
		}
	}
	ada.want(http.StatusOK, "GET", "/api/workspaces", "")
	ada.want(http.StatusNoContent, "POST", "/api/workspaces/"+second.String()+"/switch", "")
	ada.want(http.StatusNoContent, "POST", "/api/workspace", `{"name":"Renamed"}`)
	ada.want(http.StatusNoContent, "POST", "/api/workspaces/"+second.String()+"/leave", "")
	ada.want(http.StatusOK, "GET", "/api/members", "") // of her own workspace again
	members := "/api/members/"
	ada.want(http.StatusNoContent, "POST", members+bob.ID.String(), `{"permissions":["send"]}`)
	ada.want(http.StatusConflict, "POST", members+own.String(), `{"permissions":["send"]}`)
	ada.want(http.StatusBadRequest, "POST", members+bob.ID.String(), `{"permissions":["root"]}`)
	ada.want(http.StatusConflict, "DELETE", members+own.String(), "")
	ada.want(http.StatusConflict, "POST", "/api/workspaces/"+own.String()+"/leave", "")
	ada.want(http.StatusConflict, "POST", "/api/invitations", `{"email":"bob@example.com"}`)
	ada.want(http.StatusNoContent, "DELETE", members+bob.ID.String(), "")
	ada.want(http.StatusNotFound, "POST", members+bob.ID.String(), `{"permissions":["send"]}`)
	invitation := ada.want(http.StatusCreated, "POST", "/api/invitations", `{"email":"bob@example.com","permissions":["send"]}`)
	ada.want(http.StatusOK, "GET", "/api/invitations", "")
	ada.want(http.StatusNoContent, "DELETE", "/api/invitations/"+fmt.Sprint(invitation["id"]), "")
	for c.find("POST", "/api/workspaces").responses["409"] == false {
		ada.do("POST", "/api/workspaces", `{"name":"More"}`)
	}
}

func (c *contract) exerciseAccount(stranger, ada *user) {
	const adas = `{"email":"ada.lovelace@example.com","password":"correct horse"}`
	stranger.want(http.StatusConflict, "POST", "/api/signup", strings.Replace(adas, "correct horse", "another horse", 1))
	stranger.want(http.StatusUnauthorized, "POST", "/api/login", `{"email":"ada.lovelace@example.com","password":"wrong"}`)
	again := c.user("")
	again.want(http.StatusForbidden, "POST", "/api/login", adas, "Sec-Fetch-Site", "cross-site")
	again.want(http.StatusOK, "POST", "/api/login", adas)
	again.want(http.StatusOK, "GET", "/api/me", "")
	again.want(http.StatusForbidden, "POST", "/api/logout", "", "Sec-Fetch-Site", "cross-site")
	again.want(http.StatusNoContent, "POST", "/api/logout", "")
	key := ada.want(http.StatusCreated, "POST", "/api/keys", `{"name":"for revoking","scopes":["read"],"expiresInDays":1,"dailyCap":5}`)
	ada.want(http.StatusOK, "GET", "/api/keys", "")
	ada.want(http.StatusNoContent, "DELETE", "/api/keys/"+fmt.Sprint(key["id"]), "")
	c.user(fmt.Sprint(key["secret"])).want(http.StatusUnauthorized, "GET", "/api/messages", "")
	for i := range 110 {
		ada.do("POST", "/api/keys", fmt.Sprintf(`{"name":"key %d","scopes":["read"]}`, i))
	}
	c.exerciseProfile()
	for c.find("POST", "/api/login").responses["429"] == false {
		stranger.do("POST", "/api/login", `{"email":"nobody@example.com","password":"wrong"}`)
	}
	for i := 0; c.find("POST", "/api/signup").responses["429"] == false; i++ {
		stranger.do("POST", "/api/signup", fmt.Sprintf(`{"email":"u%d@example.com","password":"short"}`, i))
	}
}

// exerciseProfile changes a profile and ends sessions.
func (c *contract) exerciseProfile() {
	carol, other := c.person("carol@example.com"), c.user("")
	other.want(http.StatusOK, "POST", "/api/login", `{"email":"carol@example.com","password":"correct horse"}`)
	carol.want(http.StatusOK, "GET", "/api/account", "")
	carol.want(http.StatusOK, "PATCH", "/api/account", `{"name":"Carol","timeZone":"America/Toronto"}`)
	carol.want(http.StatusConflict, "PATCH", "/api/account", `{"email":"ada.lovelace@example.com","currentPassword":"correct horse"}`)
	carol.want(http.StatusNoContent, "DELETE", "/api/account/sessions/"+other.currentSession(), "")
	carol.want(http.StatusNoContent, "DELETE", "/api/account/sessions", "")
	carol.want(http.StatusOK, "GET", "/api/account/sessions", "")
	for c.find("PATCH", "/api/account").responses["429"] == false {
		carol.do("PATCH", "/api/account", `{"newPassword":"another good one","currentPassword":"a guess"}`)
	}
}

func (c *contract) exerciseMessages(r *rig, ada, key *user) {
	key.want(http.StatusOK, "POST", "/api/send-mms", strings.Replace(sendBody, "{", `{"dryRun":true,`, 1))
	first := key.want(http.StatusAccepted, "POST", "/api/send-mms", sendBody, "Idempotency-Key", "one")
	key.want(http.StatusUnprocessableEntity, "POST", "/api/send-mms", strings.Replace(sendBody, "Hello", "Bye", 1), "Idempotency-Key", "one")
	release := c.occupy(r, ada, "busy")
	key.want(http.StatusConflict, "POST", "/api/send-mms", sendBody, "Idempotency-Key", "busy")
	path := "/api/messages/" + fmt.Sprint(first["id"])
	key.want(http.StatusConflict, "POST", path+"/resend", "")
	key.want(http.StatusConflict, "POST", path+"/decision", `{"decision":"give_up"}`)
	key.want(http.StatusBadRequest, "POST", path+"/decision", `{"decision":"perhaps"}`)
	key.want(http.StatusBadRequest, "GET", path+"?wait=1h", "")
	key.want(http.StatusOK, "POST", path+"/cancel", "")
	key.want(http.StatusAccepted, "POST", path+"/resend", "", "Idempotency-Key", "two")
	key.want(http.StatusUnprocessableEntity, "POST", path+"/resend", "", "Idempotency-Key", "one")
	key.want(http.StatusBadRequest, "POST", path+"/resend", "", "Idempotency-Key", "é")
	release()
	_, header, _ := key.do("GET", path, "")
	key.want(http.StatusNotModified, "GET", path, "", "If-None-Match", header.Get("ETag"))
	key.want(http.StatusNoContent, "GET", path+"/stream", "", "Last-Event-ID", strings.Trim(header.Get("ETag"), `W/"`))
	key.want(http.StatusOK, "GET", path+"/stream", "")
	key.want(http.StatusOK, "GET", "/api/messages/stream", "")
	key.want(http.StatusOK, "GET", "/api/messages?to=%2B14165551000&limit=1&metadata[a]=b&since=2026-01-01T00:00:00Z&text=hello", "")
	key.want(http.StatusBadRequest, "GET", "/api/messages?to=1&cursor=x&limit=0&metadata[]=1&since=now&text="+strings.Repeat("x", 300), "")
	key.want(http.StatusOK, "GET", "/api/messages/export?status=canceled", "")
	key.want(http.StatusBadRequest, "GET", "/api/messages/export?limit=5", "")
	// One message is at Plivo, too late to cancel; one is held for a decision.
	sent, held := key.want(http.StatusAccepted, "POST", "/api/send-mms", sendBody), key.want(http.StatusAccepted, "POST", "/api/send-mms", sendBody)
	for id, update := range map[any]string{
		sent["id"]: `status = 'sent', plivo_uuid = id::text, next_attempt_at = NULL, task_check_at = NULL`,
		held["id"]: `status = 'in_doubt', held = true, next_attempt_at = NULL, task_check_at = NULL`,
	} {
		if _, err := r.store.DB().Exec(`UPDATE messages SET `+update+` WHERE id = $1`, id); err != nil {
			c.t.Fatal(err)
		}
	}
	key.want(http.StatusConflict, "POST", "/api/messages/"+fmt.Sprint(sent["id"])+"/cancel", "")
	key.want(http.StatusNoContent, "POST", "/api/messages/"+fmt.Sprint(held["id"])+"/decision", `{"decision":"give_up"}`)
}

// occupy locks an idempotency key of the user, as a request in progress does, until
// the returned function is called.
func (c *contract) occupy(r *rig, ada *user, key string) (release func()) {
	c.t.Helper()
	me := ada.want(http.StatusOK, "GET", "/api/me", "")
	id := me["user"].(map[string]any)["id"]
	tx, err := r.store.DB().Begin()
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := tx.Exec(`SELECT pg_advisory_xact_lock(hashtextextended($1::uuid || ' ' || $2::text, 0))`, id, key); err != nil {
		c.t.Fatal(err)
	}
	return func() { _ = tx.Rollback() }
}

func (c *contract) exerciseBatches(r *rig, ada, key *user) {
	const body = `{"name":"spring","text":"Hi {{name}}","mediaUrl":"https://example.com/a.jpg","onError":"create_valid",` +
		`"rows":[{"to":"+14165551000","name":"Ada"},{"to":"123","name":"Bob"},{"to":"+14165551001","name":3}]}`
	batch := key.want(http.StatusAccepted, "POST", "/api/batches", body, "Idempotency-Key", "batch")
	again := key.want(http.StatusAccepted, "POST", "/api/batches", body, "Idempotency-Key", "batch")
	if fmt.Sprint(batch) != fmt.Sprint(again) {
		c.t.Errorf("a repeated batch got another response:\n%v\n%v", batch, again)
	}
	key.want(http.StatusUnprocessableEntity, "POST", "/api/batches", strings.Replace(body, "spring", "autumn", 1), "Idempotency-Key", "batch")
	path := "/api/batches/" + fmt.Sprint(batch["id"])
	got := key.want(http.StatusOK, "GET", path, "")
	if got["created"] != 2.0 || got["rejected"] != 1.0 || got["remaining"] != 2.0 {
		c.t.Errorf("got batch %v", got)
	}
	if list := key.want(http.StatusOK, "GET", path+"/errors?limit=1", ""); len(list["errors"].([]any)) != 1 {
		c.t.Errorf("got errors %v", list)
	}
	key.want(http.StatusBadRequest, "GET", path+"/errors?limit=x", "")
	key.want(http.StatusOK, "GET", "/api/batches", "")
	key.want(http.StatusBadRequest, "GET", "/api/batches?status=queued", "")
	key.want(http.StatusOK, "POST", path+"/pause", "")
	key.want(http.StatusOK, "POST", path+"/resume", "")
	key.want(http.StatusOK, "POST", path+"/cancel", "")
	key.want(http.StatusOK, "POST", path+"/cancel", "")
	key.want(http.StatusConflict, "POST", path+"/pause", "")
	key.want(http.StatusConflict, "POST", path+"/resume", "")
	release := c.occupy(r, ada, "busy")
	defer release()
	key.want(http.StatusConflict, "POST", "/api/batches", body, "Idempotency-Key", "busy")
}

func (c *contract) exerciseWebhooks(r *rig, ada *user) {
	webhook := ada.want(http.StatusCreated, "POST", "/api/webhooks", `{"url":"http://127.0.0.1:1/events","statuses":["delivered"],"description":"mine"}`)
	path := "/api/webhooks/" + fmt.Sprint(webhook["id"])
	ada.want(http.StatusOK, "GET", "/api/webhooks", "")
	ada.want(http.StatusOK, "GET", path, "")
	ada.want(http.StatusOK, "POST", path+"/rotate-secret", "")
	event := ada.want(http.StatusAccepted, "POST", path+"/test", "")
	ada.want(http.StatusAccepted, "POST", path+"/events/"+fmt.Sprint(event["id"])+"/replay", "")
	ada.want(http.StatusOK, "GET", path+"/events?limit=5", "")
	ada.want(http.StatusBadRequest, "GET", path+"/events?limit=x", "")
	if _, err := r.store.DB().Exec(`UPDATE webhooks SET disabled_at = now(), disabled_reason = 'failing' WHERE id = $1`, webhook["id"]); err != nil {
		c.t.Fatal(err)
	}
	ada.want(http.StatusConflict, "POST", path+"/test", "")
	ada.want(http.StatusConflict, "POST", path+"/events/"+fmt.Sprint(event["id"])+"/replay", "")
	ada.want(http.StatusOK, "POST", path+"/enable", "")
	ada.want(http.StatusNoContent, "DELETE", path, "")
	for range 11 {
		ada.do("POST", "/api/webhooks", `{"url":"http://127.0.0.1:1/events"}`)
	}
}

// exerciseLimit exceeds the rate limit of a key with every operation that keys may
// call, at a second api process, where sign-up is closed.
func (c *contract) exerciseLimit(r *rig, ada *user) {
	if _, err := r.store.DB().Exec(`UPDATE api_keys SET revoked_at = now()`); err != nil {
		c.t.Fatal(err)
	}
	limited := c.newKey(ada, `"send","read"`)
	_, limited.url = r.api("API_KEY_RATE=1", "SIGNUP=closed")
	stranger := c.user("")
	stranger.url = limited.url
	stranger.want(http.StatusForbidden, "POST", "/api/signup", `{"email":"eve@example.com","password":"correct horse"}`)
	testkit.Eventually(c.t, "the key is limited", func() bool {
		status, header, _ := limited.do("GET", "/api/messages", "")
		return status == http.StatusTooManyRequests && header.Get("Retry-After") != "" && header.Get("RateLimit") != ""
	})
	for _, o := range c.operations {
		if o.byKey {
			limited.want(http.StatusTooManyRequests, o.method, o.withIDs(uuid.NewString(), uuid.NewString()), "")
		}
	}
}
