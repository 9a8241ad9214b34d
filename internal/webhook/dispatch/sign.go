package dispatch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/postcard-mms/postcard/internal/webhook"
)

// sign returns the webhook-signature header (Standard Webhooks): one HMAC over ID,
// timestamp and body for each secret in use.
func sign(d webhook.Delivery, body []byte) (string, error) {
	header := ""
	for _, secret := range []webhook.Secret{d.Secret, d.OldSecret} {
		if secret == "" {
			continue
		}
		key, err := secret.Key()
		if err != nil {
			return "", err
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.", d.ID, d.Now.Unix())
		mac.Write(body)
		if header != "" {
			header += " "
		}
		header += "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return header, nil
}
