package plivosim

// Scenario names one way in which the simulator treats a message request. The
// set is closed; Scenarios describes each.
//
// A scenario is chosen by a fault (SetFault), else by the recipient: +1, any
// area code, 555-01NN, where NN is the scenario's suffix, as in +1 415 555 0152.
// Any other recipient, and any NN without a scenario, is treated as Delivered.
// When a request names several recipients, the first decides for all.
type Scenario string

// How an accepted message ends; the request itself is answered 202.
const (
	Delivered           Scenario = "delivered"
	StaysSent           Scenario = "stays-sent"
	Undelivered         Scenario = "undelivered"
	FailedSpam          Scenario = "failed-spam"
	FailedMediaTooLarge Scenario = "failed-media-too-large"
	FailedOptedOut      Scenario = "failed-opted-out"
	FailedGeoBarred     Scenario = "failed-geo-barred"
	FailedExpired       Scenario = "failed-expired"
	CreditRunsOut       Scenario = "credit-runs-out"
	StaysQueued         Scenario = "stays-queued"
)

// Requests that are refused: no message exists afterwards.
const (
	RefusedDestination   Scenario = "refused-destination"
	RefusedUnauthorized  Scenario = "refused-unauthorized"
	RefusedForbidden     Scenario = "refused-forbidden"
	RefusedNotFound      Scenario = "refused-not-found"
	RefusedCredit        Scenario = "refused-credit"
	RefusedEmptyBody     Scenario = "refused-empty-body"
	RateLimitedOnce      Scenario = "rate-limited-once"
	RateLimited          Scenario = "rate-limited"
	RateLimitedNoHint    Scenario = "rate-limited-no-hint"
	RateLimitedEmptyBody Scenario = "rate-limited-empty-body"
)

// Requests that break or get an unclear answer although no message exists.
const (
	ServerError            Scenario = "server-error"
	ServerErrorEmptyBody   Scenario = "server-error-empty-body"
	ServerErrorOnce        Scenario = "server-error-once"
	Unavailable            Scenario = "unavailable"
	TemporaryFailure       Scenario = "temporary-failure"
	DropBeforeAccept       Scenario = "drop-before-accept"
	DropBeforeAcceptOnce   Scenario = "drop-before-accept-once"
	StallBeforeHeaders     Scenario = "stall-before-headers"
	StallAfterHeaders      Scenario = "stall-after-headers"
	HugeError              Scenario = "huge-error"
	Redirect301            Scenario = "redirect-301"
	Redirect302            Scenario = "redirect-302"
	Redirect307            Scenario = "redirect-307"
	EmptyNotAccepted       Scenario = "empty-not-accepted"
	EmptyObjectNotAccepted Scenario = "empty-object-not-accepted"
	CutJSONNotAccepted     Scenario = "cut-json-not-accepted"
	NoContentNotAccepted   Scenario = "no-content-not-accepted"
	StallBeforeHeadersOnce Scenario = "stall-before-headers-once"
	UnavailableOnce        Scenario = "unavailable-once"
)

// Requests that are accepted (the message exists and runs its course) although
// the answer does not say so, or says it badly.
const (
	AcceptThen500               Scenario = "accept-then-500"
	AcceptThen502               Scenario = "accept-then-502"
	AcceptThen504               Scenario = "accept-then-504"
	AcceptThenDrop              Scenario = "accept-then-drop"
	AcceptThenCut               Scenario = "accept-then-cut"
	AcceptThenStall             Scenario = "accept-then-stall"
	AcceptThenStallAfterHeaders Scenario = "accept-then-stall-after-headers"
	AcceptThenDropSilently      Scenario = "accept-then-drop-silently"
	AcceptedEmpty               Scenario = "accepted-empty"
	AcceptedEmptyObject         Scenario = "accepted-empty-object"
	AcceptedCutJSON             Scenario = "accepted-cut-json"
	AcceptedUUIDAsString        Scenario = "accepted-uuid-as-string"
	AcceptedTwoUUIDs            Scenario = "accepted-two-uuids"
	AcceptedNoContent           Scenario = "accepted-no-content"
	AcceptedHuge                Scenario = "accepted-huge"
)

// Accepted and answered as usual; the delivery reports misbehave.
const (
	CallbackBeforeResponse  Scenario = "callback-before-response"
	CallbacksDuplicated     Scenario = "callbacks-duplicated"
	CallbacksOutOfOrder     Scenario = "callbacks-out-of-order"
	CallbacksLost           Scenario = "callbacks-lost"
	CallbacksLate           Scenario = "callbacks-late"
	SignatureWrong          Scenario = "signature-wrong"
	SignatureV2Only         Scenario = "signature-v2-only"
	SignatureBoth           Scenario = "signature-both"
	SignatureSeveral        Scenario = "signature-several"
	SignatureSubaccount     Scenario = "signature-subaccount"
	SignatureWrongV3RightV2 Scenario = "signature-wrong-v3-right-v2"
)

// ScenarioInfo describes a scenario to people.
type ScenarioInfo struct {
	Name        Scenario `json:"name"`
	Suffix      string   `json:"suffix"` // NN of the recipient +1 <area> 555-01NN
	Description string   `json:"description"`
}

// Scenarios lists every scenario in the order of its suffix.
func Scenarios() []ScenarioInfo {
	table := scenarioTable()
	infos := make([]ScenarioInfo, len(table))
	for i, sc := range table {
		infos[i] = sc.ScenarioInfo
	}
	return infos
}

// script is a scenario as the simulator plays it.
type script struct {
	ScenarioInfo
	once      bool   // applies to a recipient's first request only
	accept    bool   // the message exists
	answer    answer // what the client sees
	fate      []step // what happens to the message after it left the queue
	broke     bool   // accepting this message uses up the account's credit
	reporting reporting
	signing   signing
}
