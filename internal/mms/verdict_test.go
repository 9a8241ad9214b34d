package mms

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	oneUUID := []string{"u-1"}
	readError := errors.New("unexpected EOF")
	tests := map[string]struct {
		answer  Answer
		outcome Outcome
		reason  Reason
	}{
		"accepted":                 {Answer{Written: true, Status: 202, UUIDs: oneUUID}, Accepted, ""},
		"accepted with 200":        {Answer{Written: true, Status: 200, UUIDs: oneUUID}, Accepted, ""},
		"no UUID":                  {Answer{Written: true, Status: 202}, Unknown, ReasonMalformedResponse},
		"two UUIDs":                {Answer{Written: true, Status: 202, UUIDs: []string{"a", "b"}}, Unknown, ReasonMalformedResponse},
		"empty UUID":               {Answer{Written: true, Status: 202, UUIDs: []string{""}}, Unknown, ReasonMalformedResponse},
		"UUID with a line break":   {Answer{Written: true, Status: 202, UUIDs: []string{"a\nb"}}, Unknown, ReasonMalformedResponse},
		"truncated after the UUID": {Answer{Written: true, Status: 202, UUIDs: oneUUID, Err: readError}, Unknown, ReasonMalformedResponse},
		"not written":              {Answer{Err: readError}, TransientFailure, ReasonUnreachable},
		"no response":              {Answer{Written: true, Err: readError}, Unknown, ReasonNoResponse},
		"moved permanently":        {Answer{Written: true, Status: 301}, AccountError, ReasonEndpoint},
		"found":                    {Answer{Written: true, Status: 302}, Unknown, ReasonServerError},
		"see other":                {Answer{Written: true, Status: 303}, Unknown, ReasonServerError},
		"bad request":              {Answer{Written: true, Status: 400, Text: "no"}, PermanentFailure, ReasonRejected},
		"no credit, two words":     {Answer{Written: true, Status: 400, Text: "Insufficient credit"}, AccountError, ReasonCredit},
		"no credit, one word":      {Answer{Written: true, Status: 400, Text: "InsufficientCredit"}, AccountError, ReasonCredit},
		"unknown media id":         {Answer{Written: true, Status: 400, Text: "media_id 4711 not found", MediaIDs: true}, TransientFailure, ReasonPlivoMediaUnknown},
		"media has expired":        {Answer{Written: true, Status: 400, Text: "One of the Media has expired", MediaIDs: true}, TransientFailure, ReasonPlivoMediaUnknown},
		"media id, but none sent":  {Answer{Written: true, Status: 400, Text: "media_id 4711 not found"}, PermanentFailure, ReasonRejected},
		"media id, other status":   {Answer{Written: true, Status: 422, Text: "media_id 4711 not found", MediaIDs: true}, PermanentFailure, ReasonRejected},
		"media id in a 500":        {Answer{Written: true, Status: 500, Text: "media_id 4711 not found", MediaIDs: true}, Unknown, ReasonServerError},
		"too many media":           {Answer{Written: true, Status: 400, Text: "more than 10 media", MediaIDs: true}, PermanentFailure, ReasonRejected},
		"bad number, with media":   {Answer{Written: true, Status: 400, Text: "'1' is not a valid phone number.", MediaIDs: true}, PermanentFailure, ReasonRejected},
		"unauthorized":             {Answer{Written: true, Status: 401}, AccountError, ReasonCredentials},
		"payment required":         {Answer{Written: true, Status: 402}, AccountError, ReasonCredit},
		"forbidden":                {Answer{Written: true, Status: 403}, PermanentFailure, ReasonForbidden},
		"not found":                {Answer{Written: true, Status: 404}, AccountError, ReasonEndpoint},
		"request timeout":          {Answer{Written: true, Status: 408}, Unknown, ReasonNoResponse},
		"unprocessable":            {Answer{Written: true, Status: 422}, PermanentFailure, ReasonRejected},
		"too many requests":        {Answer{Written: true, Status: 429}, TransientFailure, ReasonRateLimited},
		"server error":             {Answer{Written: true, Status: 500}, Unknown, ReasonServerError},
		"server error, cut off":    {Answer{Written: true, Status: 500, Err: readError}, Unknown, ReasonMalformedResponse},
		"non-standard status":      {Answer{Written: true, Status: 777}, Unknown, ReasonServerError},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := Judge(tt.answer)
			if v.Outcome != tt.outcome || v.Reason != tt.reason || v.HTTPStatus != tt.answer.Status {
				t.Errorf("Judge(%+v) = %+v, want outcome %s and reason %q", tt.answer, v, tt.outcome, tt.reason)
			}
			if (v.PlivoUUID != "") != (v.Outcome == Accepted) {
				t.Errorf("got UUID %q with outcome %s", v.PlivoUUID, v.Outcome)
			}
		})
	}
}

// TestJudgeNeverRisksADuplicate judges random answers: only a clear rejection may
// be judged as not accepted.
func TestJudgeNeverRisksADuplicate(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		a := Answer{Written: random.IntN(4) > 0}
		if random.IntN(5) > 0 {
			a.Written, a.Status = true, 200+random.IntN(400)
		}
		for range random.IntN(3) {
			a.UUIDs = append(a.UUIDs, []string{"", "u"}[random.IntN(2)])
		}
		if random.IntN(2) == 0 {
			a.Err = errors.New("x")
		}
		v := Judge(a)
		clearRejection := a.Status/100 == 4 || !a.Written || a.Status == 301 || a.Status == 307 || a.Status == 308
		if !clearRejection && v.Outcome != Unknown && v.Outcome != Accepted {
			t.Fatalf("Judge(%+v) = %s without a clear rejection", a, v.Outcome)
		}
		if v.Outcome == Accepted && (a.Status/100 != 2 || len(a.UUIDs) != 1 || a.Err != nil) {
			t.Fatalf("Judge(%+v) = accepted without exactly one UUID in a complete 2xx response", a)
		}
	}
}

func TestDetailIsBoundedAndStorable(t *testing.T) {
	t.Parallel()
	v := Judge(Answer{Written: true, Status: 400, Text: "\x00\xff" + strings.Repeat("é", MaxDetail), APIID: strings.Repeat("a", 200)})
	if len(v.Detail) > MaxDetail || strings.Contains(v.Detail, "\x00") || !utf8.ValidString(v.Detail) || len(v.APIID) > 100 {
		t.Errorf("got a detail of %d bytes and an API ID of %d; want at most %d and 100, valid UTF-8 without NUL", len(v.Detail), len(v.APIID), MaxDetail)
	}
}

func BenchmarkJudge(b *testing.B) {
	for name, answer := range map[string]Answer{
		"accepted": {Written: true, Status: 202, UUIDs: []string{"5b40a428-bfc7-4daf-9d06-726c558bf3b8"}, APIID: "db3ce55a-7f1d-11e1-8ea7-1231380bc196"},
		"rejected": {Written: true, Status: 400, Text: "the destination number is not valid"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Judge(answer)
			}
		})
	}
}
