package plivosim

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"
)

// applicationID is the id of the one application, to which all numbers belong.
const applicationID = "10000000000000001"

// SetMessageURL changes the message URL of the configuration.
func (s *Simulator) SetMessageURL(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messageURL = url
}

func (s *Simulator) message() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.messageURL
}

// account serves GET /v1/Account/{id}/. The simulated account is a prepaid one and has the
// credits of the configuration, which sending does not reduce.
func (s *Simulator) account(x *exchange) {
	s.answer(x, answer{status: http.StatusOK, contentType: jsonType, body: func(r reply) string {
		return jsonText(map[string]any{
			"api_id": r.apiID, "account_type": "standard", "auth_id": s.cfg.AuthID, "name": "Simulated account", "city": "", "state": "",
			"timezone": "UTC", "billing_mode": "prepaid", "auto_recharge": false, "cash_credits": s.cfg.Credits,
		})
	}}, reply{})
}

// numberRecord is a number as GET and LIST return it. The values of the registration are our
// choice: Plivo does not document them.
type numberRecord struct {
	APIID       string  `json:"api_id,omitempty"` // GET only
	Number      string  `json:"number"`
	Alias       *string `json:"alias"`
	NumberType  string  `json:"number_type"`
	Country     string  `json:"country"`
	City        string  `json:"city"`
	Carrier     string  `json:"carrier"`
	Voice       bool    `json:"voice_enabled"`
	SMS         bool    `json:"sms_enabled"`
	MMS         bool    `json:"mms_enabled"`
	SMSRate     string  `json:"sms_rate"`
	MMSRate     string  `json:"mms_rate"`
	VoiceRate   string  `json:"voice_rate"`
	MonthlyRate string  `json:"monthly_rental_rate"`
	RenewalDate string  `json:"renewal_date"`
	AddedOn     string  `json:"added_on"`
	Application *string `json:"application"`
	SubAccount  *string `json:"sub_account"`
	Campaign    string  `json:"tendlc_campaign_id"`
	TenDLC      string  `json:"tendlc_registration_status"`
	TollFree    string  `json:"toll_free_sms_verification"`
	TollFreeJob string  `json:"toll_free_sms_verification_order_status"`
	ResourceURI string  `json:"resource_uri"`
}

// tollFree holds the area codes of toll-free numbers.
const tollFree = "800 833 844 855 866 877 888"

// numberRecord describes a number of the account.
func (s *Simulator) numberRecord(digits string) numberRecord {
	n := numberRecord{
		Number: digits, NumberType: "local", Country: "United States", Carrier: "Plivo", Voice: true, SMS: true, MMS: true,
		SMSRate: "0.00000", MMSRate: "0.00000", VoiceRate: "0.00000", MonthlyRate: "0.50000", RenewalDate: "2030-01-01", AddedOn: "2026-01-01",
		Campaign: "CSIMUL8", TenDLC: "COMPLETED",
		ResourceURI: "/v1/Account/" + s.cfg.AuthID + "/Number/" + digits + "/",
	}
	if len(digits) == 11 && strings.Contains(tollFree, digits[1:4]) {
		n.NumberType, n.Campaign, n.TenDLC, n.TollFree, n.TollFreeJob = "tollfree", "", "", "verified", "COMPLETED"
	}
	if s.message() != "" {
		n.Application = optional("/v1/Account/" + s.cfg.AuthID + "/Application/" + applicationID + "/")
	}
	return n
}

// hasNumber reports whether the account has the number: one of the configuration or, without
// any, each that could send.
func (s *Simulator) hasNumber(digits string) bool {
	if len(s.numbers) == 0 {
		return isNorthAmerican(digits)
	}
	return s.numbers[digits]
}

// getNumber serves GET /v1/Account/{id}/Number/{number}/.
func (s *Simulator) getNumber(x *exchange) {
	digits := chi.URLParam(x.r, "number")
	if !s.hasNumber(digits) {
		s.answer(x, refusal(http.StatusNotFound, "not found"), reply{})
		return
	}
	s.answer(x, answer{status: http.StatusOK, contentType: jsonType, body: func(r reply) string {
		record := s.numberRecord(digits)
		record.APIID = r.apiID
		return jsonText(record)
	}}, reply{})
}

// listNumbers serves GET /v1/Account/{id}/Number/. It lists the numbers of the
// configuration, since it cannot list all that could send.
func (s *Simulator) listNumbers(x *exchange) {
	limit, offset, err := paging(x.r.URL.Query())
	if err != nil {
		s.answer(x, refusal(http.StatusBadRequest, err.Error()), reply{})
		return
	}
	all := slices.Sorted(maps.Keys(s.numbers))
	records := []numberRecord{}
	for _, digits := range all[min(offset, len(all)):min(offset+limit, len(all))] {
		records = append(records, s.numberRecord(digits))
	}
	s.answer(x, answer{status: http.StatusOK, contentType: jsonType, body: func(r reply) string {
		return jsonText(map[string]any{"api_id": r.apiID, "meta": newMeta(x.r.URL, limit, offset, len(all)), "objects": records})
	}}, reply{})
}

// getApplication serves GET /v1/Account/{id}/Application/{application}/.
func (s *Simulator) getApplication(x *exchange) {
	messageURL := s.message()
	if messageURL == "" || chi.URLParam(x.r, "application") != applicationID {
		s.answer(x, refusal(http.StatusNotFound, "not found"), reply{})
		return
	}
	s.answer(x, answer{status: http.StatusOK, contentType: jsonType, body: func(r reply) string {
		return jsonText(map[string]any{
			"api_id": r.apiID, "app_id": applicationID, "app_name": "Postcard", "enabled": true,
			"message_url": messageURL, "message_method": http.MethodPost,
			"resource_uri": "/v1/Account/" + s.cfg.AuthID + "/Application/" + applicationID + "/",
		})
	}}, reply{})
}
