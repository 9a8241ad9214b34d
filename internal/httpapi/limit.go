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

// limitKeys lets each API key make so many requests a minute, at this process;
// 0: any number. Answers tell how many are left, in the header fields of the
// IETF's draft (draft-ietf-httpapi-ratelimit-headers-10).
func limitKeys(perMinute int) func(http.Handler) http.Handler {
	limits := keyLimits{perMinute: perMinute, of: map[uuid.UUID]*rate.Limiter{}}
	return func(next http.Handler) http.Handler {
		if perMinute == 0 {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, _ := identity.PrincipalFrom(r.Context())
			if who.Key == nil {
				next.ServeHTTP(w, r)
				return
			}
			limit := limits.get(who.Key.ID)
			allowed := limit.Allow()
			left := max(0, limit.Tokens())
			untilFull := math.Ceil((float64(perMinute) - left) / float64(limit.Limit()))
			w.Header().Set("RateLimit-Policy", fmt.Sprintf(`"key";q=%d;w=60`, perMinute))
			w.Header().Set("RateLimit", fmt.Sprintf(`"key";r=%d;t=%.0f`, int(left), untilFull))
			if !allowed {
				w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil((1-left)/float64(limit.Limit())))))
				WriteProblem(w, r, http.StatusTooManyRequests, fmt.Sprintf("This API key may make %d requests a minute. Try again in a moment.", perMinute))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// keyLimits are the token buckets of the keys that have been used. There are
// few: identity.MaxKeys for each user.
type keyLimits struct {
	perMinute int
	mu        sync.Mutex
	of        map[uuid.UUID]*rate.Limiter
}

func (l *keyLimits) get(key uuid.UUID) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.of[key]
	if limit == nil {
		limit = rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)
		l.of[key] = limit
	}
	return limit
}
