package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/postcard-mms/postcard/internal/plivosim"
	"github.com/postcard-mms/postcard/internal/testkit"
)

// raw sends a request as text and returns the status line of the final response.
func raw(t *testing.T, address, request string) string {
	t.Helper()
	var dialer net.Dialer
	c, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(address, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// TestClientsAsTheyAre sends what HTTP clients send, to real processes and servers.
func TestClientsAsTheyAre(t *testing.T) {
	t.Parallel()
	r := newRig(t, plivosim.Config{})
	_, address := r.api()
	c := readContract(t, address)
	ada := c.person("ada.lovelace@example.com")
	key := c.newKey(ada, `"send","read"`)
	messages := func() int { return r.count(`SELECT count(*) FROM messages`) }

	for _, header := range []string{"Idempotency-Key:\r\n", "Idempotency-Key: \t\r\n", "Idempotency-Key: a\r\nIdempotency-Key: b\r\n", "Idempotency-Key: a\r\nIdempotency-Key:\r\n"} {
		got := raw(t, address, fmt.Sprintf("POST /api/send-mms HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", key.key, header, len(sendBody), sendBody))
		if got != "HTTP/1.1 400 Bad Request" || messages() != 0 {
			t.Errorf("%q: got %s and %d messages, want 400 and none", header, got, messages())
		}
	}
	for expect, want := range map[string]string{"100-continue": "HTTP/1.1 100 Continue", "100-Continue": "HTTP/1.1 100 Continue", "200-ok": "HTTP/1.1 417 Expectation Failed"} {
		got := raw(t, address, fmt.Sprintf("POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: %s\r\nContent-Length: 2\r\n\r\n", expect))
		if got != want {
			t.Errorf("Expect: %s: got %s, want %s", expect, got, want)
		}
	}

	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write([]byte(strings.Replace(sendBody, "{", `{"validFor":3600.0,"from":null,`, 1))); err != nil {
		t.Fatal(err)
	}
	w.Close()
	created := key.want(http.StatusAccepted, "POST", "/api/send-mms", zipped.String(), "Content-Encoding", "gzip", "Idempotency-Key", "zipped")
	if created["nextAttemptAt"] != nil {
		t.Errorf("nextAttemptAt: got %v, want none: the first attempt is due", created["nextAttemptAt"])
	}
	id := fmt.Sprint(created["id"])
	key.want(http.StatusOK, "GET", "/api/messages/"+strings.ToUpper(id), "")
	for _, query := range []string{
		"since=0000-01-01T00:00:00Z&until=9999-12-31T23:59:59-23:59", "since=0001-01-01T00:00:00Z", "until=9999-12-31T23:59:60Z",
		"since=2020-01-01T00:00:00+01:00", "to=+14165551000",
	} {
		list := key.want(http.StatusOK, "GET", "/api/messages?"+query, "")
		if found, _ := list["messages"].([]any); len(found) != 1 {
			t.Errorf("%s: got %d messages, want 1", query, len(found))
		}
	}

	batch := key.want(http.StatusAccepted, "POST", "/api/batches", `{"mediaUrl":"https://example.com/a.jpg","rows":[{"to":"+14165551001","note":null}]}`)
	path := "/api/batches/" + fmt.Sprint(batch["id"])
	if state := key.want(http.StatusOK, "GET", path, "")["state"]; state != "running" {
		t.Errorf("before a worker runs: got state %v, want running", state)
	}
	r.worker("")
	testkit.EventuallyWithin(t, drainTimeout, "the batch is finished", func() bool {
		return key.want(http.StatusOK, "GET", path, "")["state"] == "finished"
	})
	r.awaitFinal()
	final := key.want(http.StatusOK, "GET", "/api/messages/"+id, "")
	status, _, _ := key.do("GET", "/api/messages/"+id+"?wait=60s", "", "If-None-Match", fmt.Sprintf(`W/"%v"`, final["version"]))
	if status != http.StatusNotModified {
		t.Errorf("waiting for a final message: got %d, want 304", status)
	}
}
