package arangodb

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// unauthorized is the answer to credentials that are missing or wrong. Why they are is for the log only.
func unauthorized() *answer {
	a := refuse(http.StatusUnauthorized, http.StatusUnauthorized, "not authorized to execute this request")
	a.header = http.Header{"Www-Authenticate": {`Bearer token_type="JWT", realm="ArangoDB"`, `Basic realm="ArangoDB"`}}
	return &a
}

// identify finds out who sent a request. It refuses one with bad credentials, and before its body is read.
func (h *Handler) identify(r *request) *answer {
	if err := h.authenticate(r); err != nil {
		h.log.Warn("refused a request", "path", r.http.URL.Path, "remote", r.http.RemoteAddr, "error", err)
		return unauthorized()
	}
	return nil
}

// authorize says whether a known caller may do something.
func (h *Handler) authorize(r *request, action Action) *answer {
	forbidden := func(message string) *answer {
		a := refuse(http.StatusForbidden, http.StatusForbidden, "%s", message)
		return &a
	}
	if action != ActionClient {
		switch {
		case h.opts.APIEnabled == APIFalse:
			return forbidden("the hot backup API is disabled")
		case h.opts.APIEnabled == APIJWT && !r.caller.Superuser:
			return forbidden("hotbackup operations need a superuser's token")
		}
	}
	if h.opts.Authorize == nil {
		return nil
	}
	if err := h.opts.Authorize(r.http, r.caller, action); err != nil {
		h.log.Warn("refused a request", "path", r.http.URL.Path, "remote", r.http.RemoteAddr, "user", r.caller.User, "error", err)
		if errors.Is(err, ErrUnauthenticated) {
			return unauthorized()
		}
		return forbidden("you need admin rights for hotbackup operations")
	}
	return nil
}

// authenticate fills in the caller. It fails where credentials are needed and are missing or wrong.
func (h *Handler) authenticate(r *request) error {
	if len(h.opts.JWTSecrets) == 0 && h.opts.Login == nil {
		return nil
	}
	scheme, value, _ := strings.Cut(r.http.Header.Get("Authorization"), " ")
	value = strings.TrimSpace(value)
	switch strings.ToLower(scheme) {
	case "":
		return errors.New("there are no credentials")
	case "bearer":
		claims, err := verifyToken(value, h.opts.JWTSecrets, time.Now())
		if err != nil {
			return err
		}
		// What a token allows holds for the path as it was sent.
		if claims.AllowedPaths != nil && !slices.Contains(claims.AllowedPaths, r.http.URL.Path) {
			return errors.New("the token is not for this path")
		}
		r.caller = Caller{User: claims.User, Server: claims.ServerID, Superuser: claims.User == ""}
		return nil
	case "basic":
		pair, err := base64.StdEncoding.DecodeString(value)
		user, password, ok := strings.Cut(string(pair), ":")
		if err != nil || !ok || h.opts.Login == nil {
			return errors.New("basic authentication that cannot be read or is not offered")
		}
		if err := h.opts.Login(r.http.Context(), user, password); err != nil {
			return err
		}
		r.caller = Caller{User: user}
		return nil
	}
	return errors.New("an unknown authentication scheme")
}

// login serves /_open/auth.
func (h *Handler) login(ctx context.Context, r *request) answer {
	f, refused := parse(r.body)
	if refused != nil {
		return *refused
	}
	user, password := f.text("username"), f.text("password")
	if f.refused != nil {
		return *f.refused
	}
	if h.opts.Login == nil || len(h.opts.JWTSecrets) == 0 {
		return refuse(http.StatusNotFound, http.StatusNotFound, "this server gives no tokens")
	}
	if user == "" {
		return refuse(http.StatusBadRequest, numBadParameter, `"username" is missing`)
	}
	if err := h.opts.Login(ctx, user, password); err != nil {
		h.log.Warn("refused a login", "user", user, "remote", r.http.RemoteAddr, "error", err)
		return refuse(http.StatusUnauthorized, http.StatusUnauthorized, "wrong credentials")
	}
	now := time.Now()
	token := signToken(claims{Issuer: issuer, User: user, IssuedAt: now.Unix(), Expires: now.Add(h.opts.TokenLife).Unix()}, h.opts.JWTSecrets[0])
	return answer{code: http.StatusOK, raw: struct {
		Token string `json:"jwt"`
	}{token}}
}
