package optools

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// callbackAttempts is how often a callback is sent, and callbackTimeout how long each may
// take.
const (
	callbackAttempts = 3
	callbackTimeout  = 10 * time.Second
)

// allowList are the URLs that may be called.
type allowList []*url.URL

func parseAllowList(texts []string) (allowList, error) {
	var list allowList
	for _, text := range texts {
		u, err := parseCallback(text)
		if err != nil {
			return nil, fmt.Errorf("%w: Callbacks: %v", ErrOptions, err)
		}
		list = append(list, u)
	}
	return list, nil
}

// parseCallback reads a URL that can be called. Its errors do not repeat it.
func parseCallback(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("a URL must begin with http:// or https:// and a host")
	case u.User != nil || u.Fragment != "" || u.Opaque != "":
		return nil, fmt.Errorf("a URL must be without a user, a password and a fragment")
	}
	u.Path = u.JoinPath().Path // without dots that lead upwards
	if u.Port() == "" {
		port := "80"
		if u.Scheme == "https" {
			port = "443"
		}
		u.Host = u.Host + ":" + port
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

// allows says whether a URL may be called. No URL at all is allowed.
func (l allowList) allows(text string) bool {
	if text == "" {
		return true
	}
	u, err := parseCallback(text)
	if err != nil || strings.Contains(u.EscapedPath(), "%2") {
		// An escaped dot or slash might mean something else to who is called.
		return false
	}
	for _, a := range l {
		within := a.Path == "" || u.Path == a.Path || strings.HasPrefix(u.Path, strings.TrimSuffix(a.Path, "/")+"/")
		if u.Scheme == a.Scheme && u.Host == a.Host && within {
			return true
		}
	}
	return false
}

// newCallbackClient returns a client that follows no redirect, which could lead anywhere.
func newCallbackClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	return &http.Client{
		Transport: transport, Timeout: callbackTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// callBack sends a transaction that has ended to the URL that was asked for, behind the
// request.
func (h *Handler) callBack(tx transaction) {
	if tx.Callback == "" {
		return
	}
	// The list may be another one than when the transaction was recorded.
	if !h.allowed.allows(tx.Callback) {
		h.log.Error("optools: callback is not allowed any more", "transaction", tx.ID)
		return
	}
	h.run(func() {
		if err := h.sendCallback(h.ctx, tx); err != nil {
			h.log.Error("optools: callback failed", "transaction", tx.ID, "error", err)
		}
	})
}

// sendCallback tries until the callback is taken, or refused for good.
func (h *Handler) sendCallback(ctx context.Context, tx transaction) error {
	body, err := json.Marshal(tx.show())
	if err != nil {
		return err
	}
	wait := h.options.backoff
	for attempt := 1; ; attempt++ {
		again, err := h.post(ctx, tx.Callback, body)
		if err == nil || !again || attempt == callbackAttempts {
			return err
		}
		select {
		case <-time.After(wait):
			wait *= 4
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// post sends a callback once. again says that it may succeed later.
func (h *Handler) post(ctx context.Context, to string, body []byte) (again bool, err error) {
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return false, fmt.Errorf("it is not a URL")
	}
	rq.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(rq)
	if err != nil {
		// The client's errors name the URL, which may have a secret in its query.
		if wrapped, ok := err.(*url.Error); ok {
			err = wrapped.Err
		}
		return true, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if err := resp.Body.Close(); err != nil {
		return true, err
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable:
		return true, fmt.Errorf("the answer was %d", resp.StatusCode)
	}
	if resp.StatusCode >= 300 {
		return false, fmt.Errorf("the answer was %d", resp.StatusCode)
	}
	return false, nil
}
