package plivo

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// The vectors were computed with Plivo's SDKs for Go, Python and Node. Where the
// Go SDK differs (D1, D2), they are those of Node and Python.
const (
	vectorToken = "test_auth_token_0001"
	vectorNonce = "48213907561122334455"

	sdkToken = "Y2Q2ZDgxZmY5YWRiOTI5YmQ1Njg0MTAxZWIyOTc4"
	sdkNonce = "31627761595286130198"
	sdkURL   = "https://plivobin.non-prod.plivops.com/api/v1/validate_signature03.xml"
)

func sdkFields() url.Values {
	id := "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36"
	return fields(
		"Direction", "outbound", "From", "19792014278", "CallStatus", "in-progress", "BillRate", "0.002",
		"ParentAuthID", "MANWVLYTK4ZWU1YTY4QA", "Event", "StartApp", "SessionStart", "2020-04-08 11:34:33.238707",
		"To", "sip:PlivoSignature382029104058171078704104@phone-qa.voice.plivodev.com",
		"SIP-H-To", "<sip:PlivoSignature382029104058171078704104@52.9.11.55;transport=udp>;tag=1",
		"ALegUUID", id, "ALegRequestUUID", id, "CallUUID", id, "RequestUUID", id)
}

func reportFields() url.Values {
	id := "5b40a428-bfc7-4daf-9d06-726c558bf3b8"
	return fields(
		"From", "14155550100", "To", "14155550123", "MessageUUID", id, "ParentMessageUUID", id,
		"Status", "delivered", "Type", "mms", "Units", "1", "TotalRate", "0.01600", "TotalAmount", "0.01600",
		"MCC", "310", "MNC", "410", "ErrorCode", "", "PartInfo", "1 of 1", "Sequence", "3",
		"MessageTime", "2026-01-15 10:20:30.123456", "QueuedTime", "2026-01-15 10:20:30.200000",
		"SentTime", "2026-01-15 10:20:31.000000", "DeliveryReportTime", "2026-01-15 10:20:35.654321",
		"requester_ip", "203.0.113.7", "PowerpackUUID", "")
}

func fields(pairs ...string) url.Values {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return values
}

func TestSignV3Vectors(t *testing.T) {
	t.Parallel()
	const post, get = http.MethodPost, http.MethodGet
	tests := map[string]struct {
		token, method, uri, nonce string
		form                      url.Values
		want                      string
	}{
		"O2 post with query":        {sdkToken, post, sdkURL + "/?a=b&c=d", sdkNonce, sdkFields(), "k7Pusd4OxCIjR5IfA9iedDNu/h/gbdYqdzG/MiYtd1c="},
		"O3 get with query":         {sdkToken, get, sdkURL + "/?a=b&c=d", sdkNonce, sdkFields(), "UBq8jAtd32wR8EK9VgxbBn4n5rpI/l1H9iN4WfSEHFQ="},
		"O4 post":                   {sdkToken, post, sdkURL, sdkNonce, sdkFields(), "iAjE5QqI37mbkYe4w3jTMudqEzbDufdqi7sYwTu64e0="},
		"O5 get":                    {sdkToken, get, sdkURL, sdkNonce, sdkFields(), "i/MQsaQSAd6fiKhOh2qeeeLHZ9faldADSb3/7+Akfbc="},
		"inbound message":           {"FAKE_AUTH_TOKEN_1234567890", post, "https://example.com/plivo/inbound", "f4b1c2d3e5", fields("From", "+14150000001", "To", "+14150000002", "Text", "test", "Type", "sms", "MessageUUID", "11111111-2222-3333-4444-555555555555"), "BsYEsmZvb8pj7+RQtDfliZnZKIBlAmvq4t8a3d6MkXU="},
		"T1 report":                 {vectorToken, post, "https://mms.example.com/webhooks/plivo/status/3f1c9b7e", vectorNonce, reportFields(), "Zq9YOfZfUbR39FoNjps9PrYklovr3zxktbVBebbPEEg="},
		"T2 report, port and query": {vectorToken, post, "https://mms.example.com:8443/webhooks/plivo/status?m=01JABCDEF&k=v1", vectorNonce, reportFields(), "GUdnqxhCYmhSplvNlA3hA1Pw2D/RGdDPK4RKaAym7xg="},
		"T3 no fields":              {vectorToken, post, "https://mms.example.com/webhooks/plivo/status/3f1c9b7e", vectorNonce, nil, "B8g+zy+3W2EmgGdgT1is01yMenH+xwIJOSNXxFhTtxs="},
		"T3q query, no fields":      {vectorToken, post, "https://mms.example.com/webhooks/plivo/status?m=01JABCDEF", vectorNonce, nil, "zuELyFAR5EgzxQ0rwP/3Js027Gf8fHzWyfihKb8sasM="},
		"T4 get":                    {vectorToken, get, "https://mms.example.com/webhooks/plivo/status?m=01JABCDEF", vectorNonce, fields("MessageUUID", "5b40a428-bfc7-4daf-9d06-726c558bf3b8", "Status", "delivered"), "b5lM7HYAQWoYV+f6a87hmNEikCxg1Q1v1Cd+AwReUmk="},
		"D1 value ends in a dot":    {vectorToken, post, "https://mms.example.com/in?x=1", "1", fields("From", "1", "Text", "Bye."), "cYLPv/AG1UzMNMoshDLWuJZ8ierAJebSK65HaXloYlg="},
		"D2 escape in the path":     {vectorToken, post, "https://mms.example.com/a%20b/c", "1", fields("From", "1"), "vgF3vtwkUlPCDS06YhLqSehiTC5gNu1BGmyDok1dyVY="},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := signV3(tt.token, tt.method, tt.uri, tt.nonce, tt.form)
			if err != nil || got != tt.want {
				t.Errorf("signV3() = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestSignV2Vectors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ token, uri, nonce, want string }{
		{"my_auth_token", "https://answer.url", "12345", "ehV3IKhLysWBxC1sy8INm0qGoQYdYsHwuoKjsX7FsXc="},                                              // O1
		{"FAKE_AUTH_TOKEN_1234567890", "https://example.com/plivo/inbound", "v2nonce123", "11SrlUsMnaVucWWYpH2WykVm2JxMFLOQfuRZxoH0Qf0="},             // from a third party's tests
		{vectorToken, "https://mms.example.com:8443/webhooks/plivo/status/3f1c9b7e?m=1", vectorNonce, "xQh9AtDXuhwbR1dnOdjazU6iO5Kyc+CIERugfit2uIM="}, // T6
		{vectorToken, "https://mms.example.com:8443/webhooks/plivo/status/3f1c9b7e#x?m=1", vectorNonce, "xQh9AtDXuhwbR1dnOdjazU6iO5Kyc+CIERugfit2uIM="},
	} {
		if got := signV2(tt.token, tt.uri, tt.nonce); got != tt.want {
			t.Errorf("signV2(%q) = %q, want %q", tt.uri, got, tt.want)
		}
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	const good = "Zq9YOfZfUbR39FoNjps9PrYklovr3zxktbVBebbPEEg="
	goodV2 := signV2(vectorToken, "https://mms.example.com/webhooks/plivo/status/3f1c9b7e", vectorNonce)
	verifier := Verifier{Tokens: []string{vectorToken}, CallbackURL: "https://mms.example.com"}
	tests := map[string]struct {
		verifier Verifier
		headers  map[string]string
		form     url.Values
		want     Scheme
	}{
		"main account":             {verifier, map[string]string{headerMaV3: good, headerNonce3: vectorNonce}, reportFields(), V3},
		"sending account":          {verifier, map[string]string{headerV3: good, headerNonce3: vectorNonce}, reportFields(), V3},
		"second signature matches": {verifier, map[string]string{headerMaV3: "no", headerV3: good, headerNonce3: vectorNonce}, reportFields(), V3},
		"several signatures":       {verifier, map[string]string{headerMaV3: "bm8= , " + good, headerNonce3: vectorNonce}, reportFields(), V3},
		"wrong signature":          {verifier, map[string]string{headerMaV3: "no" + good, headerNonce3: vectorNonce}, reportFields(), 0},
		"empty signature":          {verifier, map[string]string{headerMaV3: "", headerNonce3: vectorNonce}, reportFields(), 0},
		"no signature":             {verifier, map[string]string{headerNonce3: vectorNonce}, reportFields(), 0},
		"no nonce":                 {verifier, map[string]string{headerMaV3: good}, reportFields(), 0},
		"other nonce":              {verifier, map[string]string{headerMaV3: good, headerNonce3: "1"}, reportFields(), 0},
		"changed field":            {verifier, map[string]string{headerMaV3: good, headerNonce3: vectorNonce}, fields("Status", "sent"), 0},
		"no token configured":      {Verifier{CallbackURL: "https://mms.example.com"}, map[string]string{headerMaV3: good, headerNonce3: vectorNonce}, reportFields(), 0},
		"other callback URL":       {Verifier{Tokens: []string{vectorToken}, CallbackURL: "http://mms.example.com"}, map[string]string{headerMaV3: good, headerNonce3: vectorNonce}, reportFields(), 0},
		"previous token":           {Verifier{Tokens: []string{"new", vectorToken}, CallbackURL: "https://mms.example.com"}, map[string]string{headerMaV3: good, headerNonce3: vectorNonce}, reportFields(), V3},
		"empty token":              {Verifier{Tokens: []string{"", vectorToken}, CallbackURL: "https://mms.example.com"}, map[string]string{headerMaV3: good, headerNonce3: vectorNonce}, reportFields(), 0},
		"V2":                       {verifier, map[string]string{headerV2: goodV2, headerNonce2: vectorNonce}, reportFields(), V2},
		"V2, main account":         {verifier, map[string]string{headerMaV2: "x," + goodV2, headerNonce2: vectorNonce}, fields("Status", "sent"), V2},
		"V2, wrong signature":      {verifier, map[string]string{headerV2: good, headerNonce2: vectorNonce}, reportFields(), 0},
		"V2, no nonce":             {verifier, map[string]string{headerV2: goodV2}, reportFields(), 0},
		"wrong V3 and valid V2":    {verifier, map[string]string{headerV3: "bm8=", headerNonce3: vectorNonce, headerV2: goodV2, headerNonce2: vectorNonce}, reportFields(), 0},
		"V3 nonce and valid V2":    {verifier, map[string]string{headerNonce3: vectorNonce, headerV2: goodV2, headerNonce2: vectorNonce}, reportFields(), 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The request's host and scheme are a proxy's and must be ignored.
			r := httptest.NewRequest(http.MethodPost, "http://10.0.0.7:8080/webhooks/plivo/status/3f1c9b7e", strings.NewReader(""))
			for header, value := range tt.headers {
				r.Header.Set(header, value)
			}
			if got, err := tt.verifier.Verify(r, tt.form); got != tt.want || (err == nil) != (tt.want != 0) {
				t.Errorf("Verify() = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestSignV3SortsAndSignsRepeatedValues(t *testing.T) {
	t.Parallel()
	want, err := signV3("t", http.MethodPost, "https://example.com/x", "1", url.Values{"A": {"2", "1"}})
	if err != nil {
		t.Fatal(err)
	}
	reordered, err := signV3("t", http.MethodPost, "https://example.com/x", "1", url.Values{"A": {"1", "2"}})
	if err != nil || reordered != want {
		t.Errorf("values in another order: got %q, %v, want %q", reordered, err, want)
	}
	single, err := signV3("t", http.MethodPost, "https://example.com/x", "1", url.Values{"A": {"1"}})
	if err != nil || single == want {
		t.Errorf("without the second value: got %q, %v, want another signature", single, err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("/webhooks/plivo/status/x", "a=b", "Status=sent", "c2ln", "1")
	f.Add("/a%20b", "%zz", "=&=", ",,", "")
	f.Fuzz(func(t *testing.T, path, query, body, signature, nonce string) {
		form, _ := url.ParseQuery(body)
		r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}}
		r.Header.Set(headerMaV3, signature)
		r.Header.Set(headerNonce3, nonce)
		verifier := Verifier{Tokens: []string{vectorToken}, CallbackURL: "https://mms.example.com"}
		if _, err := verifier.Verify(r, form); err == nil {
			t.Errorf("Verify() succeeded for the random V3 signature %q", signature)
		}
		r.Header = http.Header{}
		r.Header.Set(headerV2, signature)
		r.Header.Set(headerNonce2, nonce)
		if _, err := verifier.Verify(r, form); err == nil {
			t.Errorf("Verify() succeeded for the random V2 signature %q", signature)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	form := reportFields()
	r := httptest.NewRequest(http.MethodPost, "/webhooks/plivo/status/3f1c9b7e", nil)
	r.Header.Set(headerMaV3, "Zq9YOfZfUbR39FoNjps9PrYklovr3zxktbVBebbPEEg=")
	r.Header.Set(headerNonce3, vectorNonce)
	verifier := Verifier{Tokens: []string{vectorToken}, CallbackURL: "https://mms.example.com"}
	for b.Loop() {
		if _, err := verifier.Verify(r, form); err != nil {
			b.Fatal(err)
		}
	}
}
