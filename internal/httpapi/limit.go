package httpapi

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/postcard-mms/postcard/internal/identity"
)

// limitKeys limits the requests per minute of each API key in this process; 0 means
// no limit. Responses carry the RateLimit header fields of
// draft-ietf-httpapi-ratelimit-headers-10.
func limitKeys(perMinute int) func(http.Handler) http.Handler {
	limits := keyLimits{perMinute: perMinute, byKey: map[uuid.UUID]*rate.Limiter{}}
	return func(next http.Handler) http.Handler {
		if perMinute == 0 {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			principal, _ := identity.PrincipalFrom(r.Context())
			if principal.Key == nil {
				next.ServeHTTP(w, r)
				return
			}
			limit := limits.get(principal.Key.ID)
			allowed := limit.Allow()
			remaining := max(0, limit.Tokens())
			untilFull := math.Ceil((float64(perMinute) - remaining) / float64(limit.Limit()))
			w.Header().Set("RateLimit-Policy", fmt.Sprintf(`"key";q=%d;w=60`, perMinute))
			w.Header().Set("RateLimit", fmt.Sprintf(`"key";r=%d;t=%.0f`, int(remaining), untilFull))
			if !allowed {
				w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil((1-remaining)/float64(limit.Limit())))))
				WriteProblem(w, r, http.StatusTooManyRequests, fmt.Sprintf("This API key has exceeded its limit of %d requests per minute. Retry after the time in Retry-After.", perMinute))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// keyLimits holds the token bucket of each API key in use. It never shrinks: a user
// has at most identity.MaxKeys keys.
type keyLimits struct {
	perMinute int
	mu        sync.Mutex
	byKey     map[uuid.UUID]*rate.Limiter
}

func (l *keyLimits) get(key uuid.UUID) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.byKey[key]
	if limit == nil {
		limit = rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)
		l.byKey[key] = limit
	}
	return limit
}
