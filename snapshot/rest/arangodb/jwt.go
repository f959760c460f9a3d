package arangodb

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// issuer is what "iss" is in every token.
const issuer = "arangodb"

// clockSkew is how far a client's clock may be ahead.
const clockSkew = time.Minute

// maxToken bounds a token, in bytes.
const maxToken = 16 << 10

// claims are what a token says. Times are in seconds since the epoch.
type claims struct {
	Issuer       string   `json:"iss"`
	User         string   `json:"preferred_username,omitempty"`
	ServerID     string   `json:"server_id,omitempty"`
	AllowedPaths []string `json:"allowed_paths,omitempty"`
	IssuedAt     int64    `json:"iat,omitempty"`
	Expires      int64    `json:"exp,omitempty"`
}

var errToken = errors.New("the token is not valid")

// verifyToken checks a JSON web token (RFC 7519) signed by HS256 with one of the secrets. No other algorithm
// is known, so that a token cannot choose one.
func verifyToken(token string, secrets [][]byte, now time.Time) (*claims, error) {
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return nil, errToken
	}
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	var head struct {
		Algorithm string   `json:"alg"`
		Critical  []string `json:"crit"`
	}
	if err != nil || json.Unmarshal(header, &head) != nil || head.Algorithm != "HS256" || head.Critical != nil {
		return nil, errToken
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, errToken
	}
	valid := false
	for _, secret := range secrets {
		valid = hmac.Equal(signature, sign(parts[0]+"."+parts[1], secret)) || valid
	}
	if !valid {
		return nil, errors.New("the token is signed with another secret")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, errToken
	}
	// Clients write times as fractions, too.
	var c struct {
		claims
		IssuedAt float64  `json:"iat"`
		Expires  *float64 `json:"exp"`
	}
	if json.Unmarshal(payload, &c) != nil {
		return nil, errToken
	}
	seconds := float64(now.UnixNano()) / 1e9
	switch {
	case c.Issuer != issuer:
		return nil, errors.New("the token's issuer is another")
	case c.User == "" && c.ServerID == "":
		return nil, errors.New("the token names neither a user nor a server")
	case c.Expires != nil && *c.Expires <= seconds:
		return nil, errors.New("the token has expired")
	case c.IssuedAt > seconds+clockSkew.Seconds():
		return nil, errors.New("the token was issued in the future; compare the clocks")
	}
	return &c.claims, nil
}

// signToken makes a token.
func signToken(c claims, secret []byte) string {
	payload, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and numbers can always be written
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(sign(text, secret))
}

func sign(text string, secret []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
