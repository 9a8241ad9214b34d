package plivosim

// Scenario names one behaviour of the simulator for a message request. Scenarios lists
// and describes all of them.
//
// A fault (SetFault) chooses the scenario, or else the recipient does: +1, any area code,
// 555-01NN, where NN is the scenario's suffix, as in +1 415 555 0152. Every other
// recipient gets Delivered. The first of several recipients decides for the request.
type Scenario string

// The final states of messages that were accepted with 202.
const (
	Delivered           Scenario = "delivered"
	StaysSent           Scenario = "stays-sent"
	Undelivered         Scenario = "undelivered"
	FailedSpam          Scenario = "failed-spam"
	FailedMediaTooLarge Scenario = "failed-media-too-large"
	SmallMediaOnly      Scenario = "small-media-only"
	FailedOptedOut      Scenario = "failed-opted-out"
	FailedGeoBarred     Scenario = "failed-geo-barred"
	FailedExpired       Scenario = "failed-expired"
	CreditRunsOut       Scenario = "credit-runs-out"
	StaysQueued         Scenario = "stays-queued"
)

// Requests that are refused: no message is created.
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

// Requests that fail, or get an unclear response, although no message is created.
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

// Requests that are accepted (the message exists and goes through its states) although the
// response is lost, wrong or malformed.
const (
	AcceptThen500               Scenario = "accept-then-500"
	AcceptThen502               Scenario = "accept-then-502"
	AcceptThen504               Scenario = "accept-then-504"
	AcceptThenDrop              Scenario = "accept-then-drop"
	AcceptThenCut               Scenario = "accept-then-cut"
	AcceptThenStall             Scenario = "accept-then-stall"
	AcceptThenStallAfterHeaders Scenario = "accept-then-stall-after-headers"
	AcceptThenDropSilently      Scenario = "accept-then-drop-silently"
	AcceptThen500Silently       Scenario = "accept-then-500-silently"
	AcceptedEmpty               Scenario = "accepted-empty"
	AcceptedEmptyObject         Scenario = "accepted-empty-object"
	AcceptedCutJSON             Scenario = "accepted-cut-json"
	AcceptedUUIDAsString        Scenario = "accepted-uuid-as-string"
	AcceptedTwoUUIDs            Scenario = "accepted-two-uuids"
	AcceptedNoContent           Scenario = "accepted-no-content"
	AcceptedHuge                Scenario = "accepted-huge"
)

// Accepted with 202; the delivery reports or their signatures are faulty.
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

// ScenarioInfo describes a scenario for people.
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

// script is how the simulator carries out a scenario.
type script struct {
	ScenarioInfo
	once       bool   // applies to a recipient's first request only
	accept     bool   // the message exists
	answer     answer // what the client sees
	steps      []step // the message's states after it left the queue
	maxMedia   int    // bytes of all media together above which the message fails; 0: no limit
	lastCredit bool   // accepting this message uses up the account's credit
	reporting  reporting
	signing    signing
}
