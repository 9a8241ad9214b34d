// Package mediacheck checks what is behind a media URL, as Plivo would fetch it. It
// reaches no private host, stores nothing, and does not change pictures.
package mediacheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Limits of a check.
const (
	timeout      = 15 * time.Second // from the lookup of the host to the end of the response
	maxRedirects = 3
	maxRead      = mms.MaxPlivoTotal // bytes of a picture, which may be made to fit
	maxDetail    = 500               // characters
)

// Options configure a Checker.
type Options struct {
	Budget       int  // bytes that the pictures of a message may take together
	AllowPrivate bool // permits private and local hosts, for development
}

// Checker checks media URLs. It is safe for concurrent use.
type Checker struct {
	options Options
	http    *http.Client
}

// New returns a Checker that dials no private or reserved address, whatever name it was
// resolved from, unless the options permit it.
func New(o Options) *Checker {
	guard := ssrf.New(ssrf.WithAnyPort()).Safe
	if o.AllowPrivate {
		guard = nil
	}
	return newChecker(o, guard)
}

func newChecker(o Options, guard func(network, address string, _ syscall.RawConn) error) *Checker {
	dialer := &net.Dialer{ // PreferGo: a lookup that stalls occupies no thread, and ends with the check
		Timeout: 5 * time.Second, Resolver: &net.Resolver{PreferGo: true}, Control: guard,
	}
	c := &Checker{options: o}
	c.http = &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{ // no proxy: it would dial for us and bypass the guard
			DialContext:            dialer.DialContext,
			Protocols:              http1(), // HTTP/2 has no chunks, and a host may answer a fetcher that knows HTTP/1.1 only with them
			DisableCompression:     true,    // no Accept-Encoding: a compressed answer has the wrong length
			DisableKeepAlives:      true,    // each URL is fetched once in a while
			TLSHandshakeTimeout:    5 * time.Second,
			MaxResponseHeaderBytes: 32 << 10,
		},
		CheckRedirect: c.checkRedirect,
	}
	return c
}

func http1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// Check fetches the URL once. Whatever is wrong with the URL, its host or its content is
// part of the result; the error is that of ctx. The data are those of a picture, complete,
// and nil for everything else.
func (c *Checker) Check(ctx context.Context, rawURL string) (mms.MediaCheck, []byte, error) {
	check, data := c.check(ctx, rawURL)
	if err := ctx.Err(); err != nil {
		return mms.MediaCheck{}, nil, fmt.Errorf("checking a media URL: %w", err)
	}
	check.URL = rawURL
	return check, data, nil
}

func (c *Checker) check(ctx context.Context, rawURL string) (mms.MediaCheck, []byte) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return failed(mms.ReasonMediaRefused, "The link is not a URL."), nil
	}
	if err := c.checkTarget(u); err != nil {
		return fetchError(u, err), nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return failed(mms.ReasonMediaRefused, "The link is not a URL."), nil
	}
	request.Header.Set("User-Agent", "Postcard")
	response, err := c.http.Do(request)
	if err != nil {
		return fetchError(u, err), nil
	}
	defer response.Body.Close()
	answered := answer{Response: response, host: response.Request.URL.Hostname(), redirected: response.Request.Response != nil}
	if problem := answered.headerProblem(); problem != nil {
		return *problem, nil
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxRead))
	if err != nil {
		return fetchError(response.Request.URL, err), nil
	}
	return answered.judge(data, c.options.Budget)
}

// linkError says why a URL or redirect is not followed. Its text is for people.
type linkError string

func (e linkError) Error() string { return string(e) }

var errPrivate = errors.New("the host is private")

func (c *Checker) checkRedirect(request *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return linkError(fmt.Sprintf("redirects more than %d times", maxRedirects))
	}
	request.Header.Del("Referer") // a link may contain a secret
	return c.checkTarget(request.URL)
}

// checkTarget checks a URL before it is requested. The guard of the dialer judges what its
// name resolves to.
func (c *Checker) checkTarget(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return linkError("leads to an address that does not start with http:// or https://")
	case u.User != nil:
		return linkError("leads to an address with a user name or password")
	case !c.options.AllowPrivate && mms.IsPrivateHost(u.Hostname()):
		return errPrivate
	}
	return nil
}

// fetchError says why there is no complete answer of a URL. Most causes may pass.
func fetchError(fetched *url.URL, err error) mms.MediaCheck {
	host := fetched.Hostname()
	var link linkError
	var dns *net.DNSError
	var netErr net.Error
	switch {
	case errors.As(err, &link):
		return failed(mms.ReasonMediaRedirects, "The link on %s %s.", host, link)
	case errors.Is(err, errPrivate), errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedNetwork), errors.Is(err, ssrf.ErrProhibitedPort):
		return failed(mms.ReasonMediaPrivate, "The link on %s leads to a private or reserved address, which Plivo cannot reach.", host)
	case errors.As(err, &dns):
		return retry("The host name %s could not be resolved (DNS).", lookedUp(dns.Name, host))
	case errors.As(err, &netErr) && netErr.Timeout():
		return retry("%s did not send the file within %d seconds.", host, int(timeout.Seconds()))
	case isCertificateError(err):
		return retry("The certificate of %s is not valid.", host)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return retry("%s ended the connection before the file was complete.", host)
	}
	return retry("%s could not be reached, or closed the connection without an answer.", host)
}

// lookedUp prefers the name that was looked up, which a redirect may have changed.
func lookedUp(name, host string) string {
	if name = strings.TrimSuffix(name, "."); name != "" {
		return name
	}
	return host
}

func failed(reason mms.Reason, format string, args ...any) mms.MediaCheck {
	return mms.MediaCheck{Result: mms.CheckFailed, Reason: reason, Detail: detail(format, args)}
}

func retry(format string, args ...any) mms.MediaCheck {
	return mms.MediaCheck{Result: mms.CheckRetry, Reason: mms.ReasonMediaUnreachable, Detail: detail(format, args)}
}

func detail(format string, args []any) string {
	text := strings.ToValidUTF8(fmt.Sprintf(format, args...), "\uFFFD")
	text = strings.ReplaceAll(text, "\x00", "\uFFFD")
	if runes := []rune(text); len(runes) > maxDetail {
		return string(runes[:maxDetail-1]) + "…"
	}
	return text
}
