package plivosim

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
)

// signing selects the signature headers of a callback.
type signing int

const (
	// signV3 sends V3 and Ma-V3. Plivo's docs describe V2, but open-source integrations
	// by a Plivo employee receive V3 in production. V3 is the default so that a
	// client that never checks V3 fails its tests.
	signV3 signing = iota
	signV2
	signBoth
	signWrong
	signSeveral
	signSubaccount
	signWrongV3RightV2
)

// foreignToken is a token that the client does not know: wrong, retired, or of a
// subaccount.
const foreignToken = "not-the-token-of-this-account"

const headerStem = "X-Plivo-Signature-"

// signCall sets the signature headers of one callback request.
func (s *Simulator) signCall(h http.Header, how signing, method, rawURL string, fields url.Values) {
	nonce := newNonce()
	v3 := func(token string) string { return SignV3(token, method, rawURL, nonce, fields) }
	v2 := func(token string) string { return SignV2(token, rawURL, nonce) }
	own := s.cfg.AuthToken

	switch how {
	case signV3:
		setSignatures(h, "V3", nonce, v3(own), v3(own))
	case signV2:
		setSignatures(h, "V2", nonce, v2(own), v2(own))
	case signBoth:
		setSignatures(h, "V3", nonce, v3(own), v3(own))
		setSignatures(h, "V2", nonce, v2(own), v2(own))
	case signWrong:
		setSignatures(h, "V3", nonce, v3(foreignToken), v3(foreignToken))
	case signSeveral:
		both := strings.Join([]string{v3(foreignToken), v3(own)}, ", ")
		setSignatures(h, "V3", nonce, both, both)
	case signSubaccount:
		setSignatures(h, "V3", nonce, v3(foreignToken), v3(own))
	case signWrongV3RightV2:
		setSignatures(h, "V3", nonce, v3(foreignToken), v3(foreignToken))
		setSignatures(h, "V2", nonce, v2(own), v2(own))
	}
}

// setSignatures sets the header of the sending account, that of the main
// account, and the nonce.
func setSignatures(h http.Header, version, nonce, sender, main string) {
	h.Set(headerStem+version, sender)
	h.Set(headerStem+"Ma-"+version, main)
	h.Set(headerStem+version+"-Nonce", nonce)
}

// newNonce returns 20 random digits.
func newNonce() string {
	digits := make([]byte, 20)
	for i := range digits {
		digits[i] = byte('0' + rand.IntN(10))
	}
	return string(digits)
}
