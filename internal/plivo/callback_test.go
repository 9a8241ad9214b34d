package plivo

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postcard-mms/postcard/internal/mms"
)

func TestDecodeReport(t *testing.T) {
	t.Parallel()
	sentAt := time.Date(2026, 1, 15, 10, 20, 31, 0, time.UTC)
	reportedAt := time.Date(2026, 1, 15, 10, 20, 35, 654321000, time.UTC)
	one := 1
	const id = "5b40a428-bfc7-4daf-9d06-726c558bf3b8"
	with := func(pairs ...string) url.Values {
		return fields(append([]string{"MessageUUID", id, "Status", "sent"}, pairs...)...)
	}
	minimal := mms.Report{Token: "token", PlivoUUID: id, State: "sent"}
	tests := map[string]struct {
		fields url.Values
		want   *mms.Report
	}{
		"all fields": {reportFields(), &mms.Report{Token: "token", PlivoUUID: id, State: "delivered",
			Details: mms.Details{Units: &one, Cost: "0.01600", SentAt: &sentAt, ReportedAt: &reportedAt}}},
		"required fields":      {with(), &minimal},
		"unknown fields":       {with("Colour", "blue", "requester_ip", "x"), &minimal},
		"empty fields":         {with("Units", "", "TotalAmount", "", "SentTime", "", "ErrorCode", ""), &minimal},
		"malformed fields":     {with("Units", "many", "TotalAmount", "1/2", "SentTime", "yesterday", "DeliveryReportTime", "0"), &minimal},
		"amounts out of range": {with("Units", "10001", "TotalAmount", "12345678.0"), &minimal},
		"repeated fields":      {url.Values{"MessageUUID": {id, "x"}, "Status": {"sent", "failed"}}, &minimal},
		"missing UUID":         {fields("Status", "sent"), nil},
		"missing status":       {fields("MessageUUID", id), nil},
		"names in lower case":  {fields("messageuuid", id, "status", "sent"), nil},
		"malformed UUID":       {fields("MessageUUID", "a\x00b", "Status", "sent"), nil},
		"long UUID":            {fields("MessageUUID", strings.Repeat("x", 101), "Status", "sent"), nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodeReport("token", tt.fields)
			if tt.want == nil {
				if err == nil {
					t.Errorf("DecodeReport() = %+v, want an error", got)
				}
				return
			}
			if diff := cmp.Diff(*tt.want, got); diff != "" || err != nil {
				t.Errorf("DecodeReport() (-want +got):\n%s%v", diff, err)
			}
		})
	}
}

func FuzzDecodeReport(f *testing.F) {
	f.Add("MessageUUID=u&Status=sent&Units=1&TotalAmount=0.016&SentTime=2026-01-15 10:20:31.000000&ErrorCode=30")
	f.Add("MessageUUID=%00&Status=%ff")
	f.Fuzz(func(t *testing.T, query string) {
		values, _ := url.ParseQuery(query)
		r, err := DecodeReport("t", values)
		if err != nil {
			return
		}
		if r.PlivoUUID == "" || len(r.PlivoUUID) > 100 || r.State == "" || len(r.Cost) > 13 || len(r.ShortCode()) > 32 || r.Units != nil && *r.Units < 0 {
			t.Errorf("DecodeReport(%q) = %+v, want all fields within their limits", query, r)
		}
	})
}

func BenchmarkDecodeReport(b *testing.B) {
	fields := reportFields()
	for b.Loop() {
		if _, err := DecodeReport("token", fields); err != nil {
			b.Fatal(err)
		}
	}
}
