package plivosim_test

import (
	"maps"
	"net/url"
	"slices"
	"testing"

	"github.com/postcard-mms/postcard/internal/plivosim"
)

const (
	sdkURL   = "https://plivobin.non-prod.plivops.com/api/v1/validate_signature03.xml"
	sdkToken = "Y2Q2ZDgxZmY5YWRiOTI5YmQ1Njg0MTAxZWIyOTc4"
	sdkNonce = "31627761595286130198"
	ourNonce = "48213907561122334455"
	ourHost  = "https://mms.example.com"
)

func values(m map[string]string) url.Values {
	v := url.Values{}
	for name, value := range m {
		v.Set(name, value)
	}
	return v
}

// sdkFields returns the fields of the signature tests in Plivo's SDKs.
func sdkFields() url.Values {
	const call = "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36"
	return values(map[string]string{
		"Direction": "outbound", "From": "19792014278", "CallStatus": "in-progress", "BillRate": "0.002",
		"ParentAuthID": "MANWVLYTK4ZWU1YTY4QA", "Event": "StartApp", "SessionStart": "2020-04-08 11:34:33.238707",
		"To":       "sip:PlivoSignature382029104058171078704104@phone-qa.voice.plivodev.com",
		"SIP-H-To": "<sip:PlivoSignature382029104058171078704104@52.9.11.55;transport=udp>;tag=1",
		"ALegUUID": call, "ALegRequestUUID": call, "CallUUID": call, "RequestUUID": call,
	})
}

func reportFields() url.Values {
	const message = "5b40a428-bfc7-4daf-9d06-726c558bf3b8"
	return values(map[string]string{
		"From": "14155550100", "To": "14155550123", "MessageUUID": message, "ParentMessageUUID": message,
		"Status": "delivered", "Type": "mms", "Units": "1", "TotalRate": "0.01600", "TotalAmount": "0.01600",
		"MCC": "310", "MNC": "410", "ErrorCode": "", "PartInfo": "1 of 1", "Sequence": "3",
		"MessageTime": "2026-01-15 10:20:30.123456", "QueuedTime": "2026-01-15 10:20:30.200000",
		"SentTime": "2026-01-15 10:20:31.000000", "DeliveryReportTime": "2026-01-15 10:20:35.654321",
		"requester_ip": "203.0.113.7", "PowerpackUUID": "",
	})
}

// The vectors were computed with Plivo's Node and Python SDKs. O1 to O5 are from the SDKs'
// own tests, AOS from those of a third party.
func TestSignV3(t *testing.T) {
	t.Parallel()
	inbound := values(map[string]string{
		"From": "+14150000001", "To": "+14150000002", "Text": "test", "Type": "sms",
		"MessageUUID": "11111111-2222-3333-4444-555555555555",
	})
	tests := []struct {
		name, token, method, url, nonce string
		fields                          url.Values
		want                            string
	}{
		{"O2", sdkToken, "POST", sdkURL + "/?a=b&c=d", sdkNonce, sdkFields(), "k7Pusd4OxCIjR5IfA9iedDNu/h/gbdYqdzG/MiYtd1c="},
		{"O3", sdkToken, "GET", sdkURL + "/?a=b&c=d", sdkNonce, sdkFields(), "UBq8jAtd32wR8EK9VgxbBn4n5rpI/l1H9iN4WfSEHFQ="},
		{"O4", sdkToken, "POST", sdkURL, sdkNonce, sdkFields(), "iAjE5QqI37mbkYe4w3jTMudqEzbDufdqi7sYwTu64e0="},
		{"O5", sdkToken, "GET", sdkURL, sdkNonce, sdkFields(), "i/MQsaQSAd6fiKhOh2qeeeLHZ9faldADSb3/7+Akfbc="},
		{"T1", authToken, "POST", ourHost + "/webhooks/plivo/status/3f1c9b7e", ourNonce, reportFields(), "Zq9YOfZfUbR39FoNjps9PrYklovr3zxktbVBebbPEEg="},
		{"T2", authToken, "POST", ourHost + ":8443/webhooks/plivo/status?m=01JABCDEF&k=v1", ourNonce, reportFields(), "GUdnqxhCYmhSplvNlA3hA1Pw2D/RGdDPK4RKaAym7xg="},
		{"T3", authToken, "POST", ourHost + "/webhooks/plivo/status/3f1c9b7e", ourNonce, nil, "B8g+zy+3W2EmgGdgT1is01yMenH+xwIJOSNXxFhTtxs="},
		{"T3q", authToken, "POST", ourHost + "/webhooks/plivo/status?m=01JABCDEF", ourNonce, nil, "zuELyFAR5EgzxQ0rwP/3Js027Gf8fHzWyfihKb8sasM="},
		{
			"T4", authToken, "GET", ourHost + "/webhooks/plivo/status?m=01JABCDEF", ourNonce,
			values(map[string]string{"MessageUUID": "5b40a428-bfc7-4daf-9d06-726c558bf3b8", "Status": "delivered"}),
			"b5lM7HYAQWoYV+f6a87hmNEikCxg1Q1v1Cd+AwReUmk=",
		},
		{"D1", authToken, "POST", ourHost + "/in?x=1", "1", values(map[string]string{"From": "1", "Text": "Bye."}), "cYLPv/AG1UzMNMoshDLWuJZ8ierAJebSK65HaXloYlg="},
		{"D2", authToken, "POST", ourHost + "/a%20b/c", "1", values(map[string]string{"From": "1"}), "vgF3vtwkUlPCDS06YhLqSehiTC5gNu1BGmyDok1dyVY="},
		{"AOS", "FAKE_AUTH_TOKEN_1234567890", "POST", "https://example.com/plivo/inbound", "f4b1c2d3e5", inbound, "BsYEsmZvb8pj7+RQtDfliZnZKIBlAmvq4t8a3d6MkXU="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := plivosim.SignV3(tt.token, tt.method, tt.url, tt.nonce, tt.fields); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestSignV2(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, token, url, nonce, want string }{
		{"O1", "my_auth_token", "https://answer.url", "12345", "ehV3IKhLysWBxC1sy8INm0qGoQYdYsHwuoKjsX7FsXc="},
		{"T6", authToken, ourHost + ":8443/webhooks/plivo/status/3f1c9b7e?m=1", ourNonce, "xQh9AtDXuhwbR1dnOdjazU6iO5Kyc+CIERugfit2uIM="},
		{"AOS", "FAKE_AUTH_TOKEN_1234567890", "https://example.com/plivo/inbound", "v2nonce123", "11SrlUsMnaVucWWYpH2WykVm2JxMFLOQfuRZxoH0Qf0="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := plivosim.SignV2(tt.token, tt.url, tt.nonce); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestSignV3Rules covers rules without a published vector: pairs of requests that must
// have the same signature.
func TestSignV3Rules(t *testing.T) {
	t.Parallel()
	sign := func(method, rawURL string, fields url.Values) string {
		return plivosim.SignV3(authToken, method, rawURL, "1", fields)
	}
	tests := []struct {
		name string
		a, b string
	}{
		{
			"values of a query are decoded and sorted",
			sign("GET", ourHost+"/in?b=%C3%A9+x&a=1&a=0", nil),
			sign("GET", ourHost+"/in", url.Values{"a": {"0", "1"}, "b": {"é x"}}),
		},
		{
			"repeated fields are sorted",
			sign("POST", ourHost+"/in", url.Values{"a": {"2", "1"}}),
			sign("POST", ourHost+"/in", url.Values{"a": {"1", "2"}}),
		},
		{"fragment is dropped", sign("POST", ourHost+"/in#x", nil), sign("POST", ourHost+"/in", nil)},
		{
			"malformed escape is unchanged",
			sign("GET", ourHost+"/in?a=%zz", nil),
			sign("GET", ourHost+"/in", url.Values{"a": {"%zz"}}),
		},
	}
	for _, tt := range tests {
		if tt.a != tt.b {
			t.Errorf("%s: got %s and %s, want equal", tt.name, tt.a, tt.b)
		}
	}
	names := slices.Sorted(maps.Keys(reportFields()))
	if last := names[len(names)-1]; last != "requester_ip" {
		t.Errorf("got last name %s, want names sorted bytewise", last)
	}
}
