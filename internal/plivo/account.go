package plivo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

// StatusError says that Plivo answered a query with another status than 200. Its text is for
// operators.
type StatusError int

func (e StatusError) Error() string {
	switch {
	case e == http.StatusUnauthorized:
		return "Plivo rejected the credentials (401)"
	case e == http.StatusNotFound:
		return "Plivo does not know it (404)"
	case e == http.StatusTooManyRequests:
		return "Plivo's limit on requests was exceeded (429)"
	case e >= http.StatusInternalServerError:
		return fmt.Sprintf("Plivo answered with a server error (%d)", int(e))
	}
	return fmt.Sprintf("Plivo answered with status %d", int(e))
}

// Problem describes an error of a query for operators.
func Problem(err error) string {
	var status StatusError
	switch {
	case errors.As(err, &status):
		return status.Error() + "."
	case errors.Is(err, errUnreadable):
		return "Plivo's answer was malformed."
	}
	return "Plivo could not be reached."
}

var errUnreadable = errors.New("the answer of Plivo is malformed")

// query gets an object below the account into body. An empty format means the account itself.
func (c *Client) query(ctx context.Context, body any, format string, params ...any) error {
	x := exchange{mayWrite: func() bool { return true }}
	request, err := c.sdk.NewRequest(http.MethodGet, nil, format, params...)
	if err != nil {
		return fmt.Errorf("creating a request: %w", err)
	}
	// The SDK ends the path of the account in two slashes.
	request.URL.Path = strings.TrimRight(request.URL.Path, "/") + "/"
	err = c.sdk.ExecuteRequest(request.WithContext(x.observe(ctx)), body)
	switch {
	case x.status == 0:
		return withoutURL(err)
	case x.status != http.StatusOK:
		return StatusError(x.status)
	case err != nil:
		return errUnreadable
	}
	return nil
}

// Account returns the account. Problem describes its error.
func (c *Client) Account(ctx context.Context) (operator.Account, error) {
	var body struct {
		AuthID       string     `json:"auth_id"`
		AccountType  string     `json:"account_type"`
		BillingMode  string     `json:"billing_mode"`
		AutoRecharge bool       `json:"auto_recharge"`
		CashCredits  anyLiteral `json:"cash_credits"`
	}
	err := c.query(ctx, &body, "")
	if err == nil && body.AuthID != c.sdk.AuthId {
		err = errUnreadable
	}
	if err != nil {
		return operator.Account{}, fmt.Errorf("getting the account from Plivo: %w", err)
	}
	return operator.Account{Type: body.AccountType, BillingMode: body.BillingMode, AutoRecharge: body.AutoRecharge, Credits: literal(body.CashCredits)}, nil
}

// Number returns what Plivo says about a number of the account, and asks about its
// application, which has the message URL. A number that the account does not have is not an
// error. Problem describes its error.
func (c *Client) Number(ctx context.Context, number mms.PhoneNumber) (operator.Number, error) {
	const doing = "getting a number from Plivo: %w"
	var body struct {
		Number      string     `json:"number"`
		Type        string     `json:"number_type"`
		MMS         bool       `json:"mms_enabled"`
		Application string     `json:"application"` // a path
		TenDLC      anyLiteral `json:"tendlc_registration_status"`
		Campaign    anyLiteral `json:"tendlc_campaign_id"`
		TollFree    anyLiteral `json:"toll_free_sms_verification"`
	}
	digits := strings.TrimPrefix(string(number), "+")
	err := c.query(ctx, &body, "Number/%s", digits)
	var status StatusError
	switch {
	case errors.As(err, &status) && status == http.StatusNotFound:
		return operator.Number{}, nil
	case err == nil && strings.TrimPrefix(body.Number, "+") != digits:
		err = errUnreadable
	}
	if err != nil {
		return operator.Number{}, fmt.Errorf(doing, err)
	}
	found := operator.Number{
		Found: true, Type: body.Type, MMS: body.MMS, TenDLC: literal(body.TenDLC), Campaign: literal(body.Campaign), TollFree: literal(body.TollFree),
	}
	if body.Application == "" {
		return found, nil
	}
	found.Application = true
	var application struct {
		MessageURL string `json:"message_url"`
	}
	if err := c.query(ctx, &application, "Application/%s", path.Base(body.Application)); err != nil {
		return operator.Number{}, fmt.Errorf(doing, err)
	}
	found.MessageURL = application.MessageURL
	return found, nil
}

// literal returns the value, or "" for null.
func literal(a anyLiteral) string {
	if a == "null" {
		return ""
	}
	return string(a)
}
