package intake

import (
	"crypto/sha256"
	"encoding/json"

	"github.com/postcard-mms/postcard/internal/mms"
)

// Fingerprint identifies a request for mms.Idempotency. Requests with the same
// operation, parameters and extra values have the same fingerprint, however the
// client encoded them; an empty list or object counts as none. The idempotency key itself
// does not count. A batch passes a hash of its rows in extra.
func Fingerprint(operation string, params mms.CreateParams, extra ...string) [32]byte {
	params.Idempotency = mms.Idempotency{}
	if len(params.MediaURLs) == 0 {
		params.MediaURLs = nil
	}
	if len(params.Metadata) == 0 {
		params.Metadata = nil
	}
	encoded, _ := json.Marshal(struct {
		Operation string
		Params    mms.CreateParams
		Extra     []string
	}{operation, params, extra}) // strings and numbers can always be encoded
	return sha256.Sum256(encoded)
}
