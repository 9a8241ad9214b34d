package e2e

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/postcard-mms/postcard/client"
	"github.com/postcard-mms/postcard/internal/devstack"
	"github.com/postcard-mms/postcard/internal/plivosim"
)

const basePath = "/postcard"

// pathProxy is a site that serves Postcard below basePath and nothing else. It records every
// request.
type pathProxy struct {
	*httptest.Server
	mu       sync.Mutex
	requests []proxied
}

type proxied struct {
	method, path string
	status       int
}

func (p *pathProxy) record(r *http.Request, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, proxied{r.Method, r.URL.Path, status})
}

// newPathProxy starts a proxy in front of the api at addr. rewrite does with the base path and
// the host what the proxy of an operator may do.
func newPathProxy(t *testing.T, addr string, rewrite func(*httputil.ProxyRequest)) *pathProxy {
	t.Helper()
	p := &pathProxy{}
	api := &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0), // browsers close streams
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			rewrite(r)
		},
	}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != basePath && !strings.HasPrefix(r.URL.Path, basePath+"/") {
			p.record(r, http.StatusNotFound)
			http.NotFound(w, r)
			return
		}
		modified := *api
		modified.ModifyResponse = func(response *http.Response) error {
			p.record(r, response.StatusCode)
			return nil
		}
		modified.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Server.Close)
	return p
}

// check expects that all requests stayed below the base path and were answered without an
// error, and that Plivo's callbacks were among them.
func (p *pathProxy) check(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	callbacks := 0
	for _, r := range p.requests {
		if r.status >= 400 {
			t.Errorf("%s %s: got %d", r.method, r.path, r.status)
		}
		if strings.HasPrefix(r.path, basePath+"/callbacks/") {
			callbacks++
		}
	}
	if callbacks == 0 {
		t.Error("no callback came through the proxy")
	}
}

// TestPathBehindProxy uses Postcard below a path of a site as a person does, and through the
// Go client. Messages become delivered by reports, whose signature covers the path.
func TestPathBehindProxy(t *testing.T) {
	t.Parallel()
	for name, rewrite := range map[string]func(*httputil.ProxyRequest){
		"path kept, host replaced": func(*httputil.ProxyRequest) {},
		"path removed, host kept": func(r *httputil.ProxyRequest) {
			r.Out.URL.Path = strings.TrimPrefix(r.Out.URL.Path, basePath)
			r.Out.Host = r.In.Host
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plivosim.Config{})
			port, err := devstack.FreePort()
			if err != nil {
				t.Fatal(err)
			}
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			proxy := newPathProxy(t, addr, rewrite)
			public := proxy.URL + basePath
			vars := []string{"PUBLIC_URL=" + public + "/", "REPORT_WAIT=1h"}
			r.apiAt(addr, vars...)
			browseBelowPath(t, public, func() { r.worker("", vars...) })
			callBelowPath(t, public)
			r.awaitFinal()
			proxy.check(t)
		})
	}
}

// browseBelowPath logs in, sends a message, watches it, and opens the queues and the API
// reference. It only follows links.
func browseBelowPath(t *testing.T, public string, startWorker func()) {
	t.Helper()
	ctx := browser(t)
	err := chromedp.Listen(ctx, func(event any) {
		e, ok := event.(*network.EventRequestWillBeSent)
		if !ok {
			return
		}
		address := e.Request.URL
		foreign := strings.HasPrefix(address, "https://example.com/") || // the picture of the message
			strings.HasPrefix(address, "https://fonts.googleapis.com/") || // blocked by the dashboard's policy
			strings.HasPrefix(address, "data:")
		if !foreign && address != public && !strings.HasPrefix(address, public+"/") {
			t.Errorf("the browser requested %s, want only URLs below %s", address, public)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	do(t, ctx, "logging in", chromedp.Navigate(public), chromedp.WaitVisible(`#email`),
		chromedp.SendKeys(`#email`, "admin@example.com"), chromedp.SendKeys(`#password`, "correct horse"), chromedp.Submit(`#password`),
		chromedp.WaitVisible(`.empty`))
	do(t, ctx, "sending a message", chromedp.Click(`//a[text()="New message"]`), chromedp.WaitVisible(`form.postcard`),
		chromedp.SendKeys(`#to`, "4165551234"), chromedp.SendKeys(`#media-0`, "https://example.com/picture.jpg"),
		chromedp.Submit(`#to`), chromedp.WaitVisible(`#status.queued`))
	markPage(t, ctx)
	startWorker()
	do(t, ctx, "watching it", chromedp.WaitVisible(`#status.delivered`))
	wantNotReloaded(t, ctx)
	do(t, ctx, "opening the list", chromedp.Click(`//a[text()="All messages"]`), chromedp.WaitVisible(`.messages .delivered`))
	do(t, ctx, "opening the queues", chromedp.Click(`//a[text()="Queues"]`), chromedp.WaitVisible(`//a[text()="messages"]`))
	do(t, ctx, "opening a queue", chromedp.Click(`//a[text()="messages"]`), chromedp.WaitVisible(`//*[text()="Tasks"]`),
		chromedp.Reload(), chromedp.WaitVisible(`//*[text()="Tasks"]`))
	do(t, ctx, "opening the settings", chromedp.Navigate(public+"/settings"), chromedp.WaitVisible(`//a[text()="API reference"]`))
	do(t, ctx, "opening the API reference", chromedp.Click(`//a[text()="API reference"]`), chromedp.WaitVisible(`//h2[contains(., "Postcard")]`))
	do(t, ctx, "logging out", chromedp.Navigate(public+"/overview"), chromedp.WaitVisible(`.account button`),
		chromedp.Click(`.account button`), chromedp.WaitVisible(`#password`))
	if at := read(t, ctx, chromedp.Location()); at != public+"/login" {
		t.Errorf("after logging out: got page %s, want %s", at, public+"/login")
	}
}

// callBelowPath sends a message with the Go client and opens what belongs to no page.
func callBelowPath(t *testing.T, public string) {
	t.Helper()
	api := newClient(t, public)
	m, err := api.Send(t.Context(), client.MessageParams{To: "+14165551235", MediaURLs: []string{"https://example.com/a.jpg"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := public + "/api/messages/" + m.ID; m.StatusURL != want {
		t.Errorf("got statusUrl %s, want %s", m.StatusURL, want)
	}
	if m, err = api.Wait(t.Context(), m.ID); err != nil || m.Status != "delivered" {
		t.Errorf("got status %s and error %v, want delivered", m.Status, err)
	}
	for _, path := range []string{"/livez", "/readyz", "/favicon.ico", "/docs", "/docs/", "/openapi.json", ""} {
		status, body, err := get(t.Context(), public+path)
		if err != nil || status != http.StatusOK {
			t.Errorf("%s: got %d and error %v, want 200", path, status, err)
		}
		if want := `"servers":[{"url":"` + public + `"}]`; path == "/openapi.json" && !strings.Contains(body, want) {
			t.Errorf("%s lacks %s", path, want)
		}
	}
}

// TestPlivoCallsAnotherAddress has people and Plivo reach the api at different addresses.
func TestPlivoCallsAnotherAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	port, err := devstack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	const public = "http://postcard.example.com/postcard"
	vars := []string{"PUBLIC_URL=" + public, "CALLBACK_URL=http://" + addr + "/plivo", "REPORT_WAIT=1h"}
	r.apiAt(addr, vars...)
	r.worker("", vars...)
	m, err := newClient(t, "http://"+addr+basePath).Send(t.Context(), client.MessageParams{To: "+14165551234", MediaURLs: []string{"https://example.com/a.jpg"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := public + "/api/messages/" + m.ID; m.StatusURL != want {
		t.Errorf("got statusUrl %s, want %s", m.StatusURL, want)
	}
	r.awaitFinal()
	if n := r.count(`SELECT count(*) FROM messages WHERE status = 'delivered'`); n != 1 {
		t.Errorf("got %d delivered messages, want 1", n)
	}
	for _, entry := range r.sim.Ledger() {
		if want := "http://" + addr + "/plivo/callbacks/plivo/status/"; !strings.HasPrefix(entry.CallbackURL, want) {
			t.Errorf("Plivo got the URL %s, want one below %s", entry.CallbackURL, want)
		}
	}
}
