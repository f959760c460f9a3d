package optools

import (
	"fmt"
	"time"

	"github.com/holdstill/holdstill/transfer/webhook"
)

// callbackAttempts is how often a callback is sent, and callbackTimeout how long each attempt may
// take.
const (
	callbackAttempts = 3
	callbackTimeout  = 10 * time.Second
)

// newHooks returns what sends callbacks.
func newHooks(options Options) (*webhook.Sender, error) {
	hooks, err := webhook.New(webhook.Options{
		Allow: options.Callbacks, Networks: options.CallbackNetworks, Secret: options.CallbackSecret,
		Attempts: callbackAttempts, Timeout: options.patience, MinDelay: options.backoff,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: Callbacks, CallbackNetworks or CallbackSecret: %w", ErrOptions, err)
	}
	return hooks, nil
}

// mayCall says whether a URL may be called. No URL at all is allowed.
func (h *Handler) mayCall(url string) bool { return url == "" || h.hooks.Check(url) == nil }

// callBack sends a transaction that has ended to the URL that was asked for, behind the
// request. The URL is looked at again: the list may be another one than when the transaction
// was recorded.
func (h *Handler) callBack(tx transaction) {
	if tx.Callback == "" {
		return
	}
	h.run(func() {
		if err := h.hooks.Post(h.ctx, tx.Callback, tx.show()); err != nil {
			h.log.Error("optools: callback failed", "transaction", tx.ID, "error", err)
		}
	})
}
