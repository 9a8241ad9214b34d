package maintenance

import (
	"context"
	"time"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Lister lists outbound MMS as Plivo has them, in pages of at most mms.ListPage.
type Lister interface {
	List(ctx context.Context, q mms.ListQuery) (page []mms.Listed, more bool, err error)
}

// ListRateLimit reserves calls of Plivo's list, so that all processes together
// stay below Plivo's limit. The call may start after wait.
type ListRateLimit interface {
	ReserveListCall(ctx context.Context) (wait time.Duration, err error)
}

// maxPageFailures is how often a page may fail after another one of the same list was
// read.
const maxPageFailures = 5

// ListAll reads all pages of a query, as fast as the rate limit allows.
//
// It misses no message that Plivo lists when it starts, whatever the order of the list:
// messages that are added meanwhile move others to later pages, so that they are read
// twice, and Plivo removes none within weeks. After the first page, a page that cannot be
// read is tried again, so that a few errors among many pages do not cost the whole list.
func ListAll(ctx context.Context, plivo Lister, limit ListRateLimit, q mms.ListQuery) ([]mms.Listed, error) {
	var all []mms.Listed
	failures := 0 // of the page
	for {
		q.Offset = len(all)
		page, more, err := listPage(ctx, plivo, limit, q)
		if err != nil {
			failures++
			if len(all) == 0 || failures == maxPageFailures || ctx.Err() != nil {
				return nil, err
			}
			continue
		}
		failures = 0
		all = append(all, page...)
		if !more {
			return all, nil
		}
	}
}

func listPage(ctx context.Context, plivo Lister, limit ListRateLimit, q mms.ListQuery) ([]mms.Listed, bool, error) {
	wait, err := limit.ReserveListCall(ctx)
	if err != nil {
		return nil, false, err
	}
	if err := sleep(ctx, wait); err != nil {
		return nil, false, err
	}
	return plivo.List(ctx, q)
}
