package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a request.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// ErrSignature means that a request was not signed with the secret, or too long ago.
var ErrSignature = errors.New("webhook: bad signature")

// DefaultTolerance is how far the time of a request may be from now.
const DefaultTolerance = 5 * time.Minute

func sign(secret []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(id + "." + timestamp + "."))
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Verify checks that a request with these headers and this body was signed with the secret,
// not longer than tolerance from now, zero for DefaultTolerance. It fails with
// ErrSignature. Who must not act twice remembers the webhook-id for as long.
func Verify(secret []byte, header http.Header, body []byte, now time.Time, tolerance time.Duration) error {
	if tolerance == 0 {
		tolerance = DefaultTolerance
	}
	id, timestamp := header.Get(HeaderID), header.Get(HeaderTimestamp)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || id == "" {
		return fmt.Errorf("%w: %s or %s is missing", ErrSignature, HeaderID, HeaderTimestamp)
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return fmt.Errorf("%w: it was made %v ago", ErrSignature, age.Round(time.Second))
	}
	want := sign(secret, id, timestamp, body)
	for one := range strings.FieldsSeq(header.Get(HeaderSignature)) {
		if hmac.Equal([]byte(one), []byte(want)) {
			return nil
		}
	}
	return fmt.Errorf("%w: it does not match", ErrSignature)
}
