package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"github.com/postcard-mms/postcard/internal/mms"
)

// hosts are the hosts of a connection string.
type hosts struct {
	configs []pq.Config // one for each host, in order
	target  pq.TargetSessionAttrs

	last atomic.Int32 // the host of the last success
}

// newHosts returns the hosts of a configuration of parseURL.
func newHosts(config pq.Config) (*hosts, error) {
	h := &hosts{target: config.TargetSessionAttrs}
	others := config.Multi
	config.Multi, config.Runtime = nil, nil
	for i := range len(others) + 1 {
		if i > 0 {
			config.Host, config.Hostaddr, config.Port = others[i-1].Host, others[i-1].Hostaddr, others[i-1].Port
		}
		if _, err := pq.NewConnectorConfig(config.Clone()); err != nil {
			return nil, errors.New("opening the database: its connection string cannot be used") // err may contain the password
		}
		h.configs = append(h.configs, config.Clone())
	}
	return h, nil
}

// setSettings returns the statement that sets a session's settings, "" for none. They
// could also be sent in the startup packet, but connection poolers refuse connections
// that do.
func setSettings(settings map[string]string) string {
	var calls []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		calls = append(calls, fmt.Sprintf("set_config(%s, %s, false)", pq.QuoteLiteral(name), pq.QuoteLiteral(settings[name])))
	}
	if len(calls) == 0 {
		return ""
	}
	return "SELECT " + strings.Join(calls, ", ")
}

// connect opens a connection to the first acceptable host. It starts with the host of
// the last success, so that after a failover no connection waits for the host that is
// gone. When any server is acceptable it starts with the first, so that one pool has one
// server.
func (h *hosts) connect(ctx context.Context, open func(context.Context, pq.Config) (*conn, error)) (*conn, error) {
	first := int(h.last.Load())
	if h.target == "" || h.target == pq.TargetSessionAttrsAny {
		first = 0
	}
	var errs []error
	for i := range h.configs {
		n := (first + i) % len(h.configs)
		opened, err := openWithin(ctx, len(h.configs)-i, func(ctx context.Context) (*conn, error) { return open(ctx, h.configs[n]) })
		if err == nil {
			h.last.Store(int32(n))
			return opened, nil
		}
		errs = append(errs, explainConnect(err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, connectError{errors.Join(errs...)}
}

// openWithin opens a connection within an equal share of the time that ctx leaves to this
// and the other hosts. Otherwise a first host that does not answer at all would use up the
// deadline of each request, and none would get to the next host.
func openWithin(ctx context.Context, hosts int, open func(context.Context) (*conn, error)) (*conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		share := time.Until(deadline) / time.Duration(hosts)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, share)
		defer cancel()
	}
	return open(ctx)
}

// connectError is mms.ErrUnavailable, whatever the reason: a standby that refuses
// writes and a name that cannot be resolved may be gone when the caller tries again.
type connectError struct{ error }

// Unwrap returns both errors.
func (e connectError) Unwrap() []error { return []error{mms.ErrUnavailable, e.error} }

// explainConnect says what to do about errors that a setting causes.
func explainConnect(err error) error {
	var pqErr *pq.Error
	var certificateErr *tls.CertificateVerificationError
	switch {
	case errors.Is(err, pq.ErrSSLNotSupported):
		return fmt.Errorf("the server does not offer TLS; if that is intended, set sslmode=disable in the connection string: %w", err)
	case errors.As(err, &certificateErr):
		return fmt.Errorf("the server's certificate cannot be verified, which sslmode=verify-full and channel_binding=require ask for; set sslrootcert to the file of the provider's CA: %w", err)
	case !errors.As(err, &pqErr):
		return err
	case pqErr.SQLState() == "53300":
		return fmt.Errorf("the server has no free connection; lower DATABASE_MAX_CONNECTIONS of the api and the workers, or raise the server's limit: %w", err)
	case strings.Contains(pqErr.Message, "no more connections allowed"):
		return fmt.Errorf("the connection pooler has no free connection; lower DATABASE_MAX_CONNECTIONS of the api and the workers, or raise max_client_conn in PgBouncer: %w", err)
	case strings.Contains(pqErr.Message, "unsupported startup parameter"):
		return fmt.Errorf("the connection pooler refuses a parameter of the connection string; remove it, or add it to ignore_startup_parameters in PgBouncer: %w", err)
	}
	return err
}
