package optools

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer/webhook"
)

// ErrClosed means that the Handler is closed.
var ErrClosed = errors.New("optools: the handler is closed")

// maxBodies is how many bodies of requests are held in memory at a time.
const maxBodies = 4

// A Handler serves the routes. It is safe for concurrent use.
type Handler struct {
	engine  *snapshot.Engine
	options Options
	log     *slog.Logger
	mux     *http.ServeMux
	writes  *window
	bodies  chan struct{}
	hooks   *webhook.Sender
	txs     *transactions

	// ctx ends with Close; work counts what goes on behind requests.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	// mu guards what follows.
	mu     sync.Mutex
	closed bool
	// latest is the backup that was started last, nil if none was.
	latest *backup
	// restoring says that a restore is under way.
	restoring bool
}

// New returns a Handler for an engine. It fails with ErrOptions, or where the records of
// transactions cannot be read. Close it before the engine.
func New(engine *snapshot.Engine, options Options) (*Handler, error) {
	if engine == nil || options.Source == "" || options.Store == nil {
		return nil, fmt.Errorf("%w: an engine, Source and Store are needed", ErrOptions)
	}
	if err := options.complete(); err != nil {
		return nil, err
	}
	hooks, err := newHooks(options)
	if err != nil {
		return nil, err
	}
	h := &Handler{
		engine: engine, options: options, log: options.Logger, writes: newWindow(options.WritesPerMinute),
		bodies: make(chan struct{}, maxBodies), hooks: hooks,
	}
	if h.txs, err = openTransactions(options.TransactionsDir, h.log, options.now); err != nil {
		return nil, errors.Join(err, hooks.Close(context.Background()))
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.mux = h.routes()
	if options.Automatic {
		h.work.Go(h.automatic)
	}
	return h, nil
}

// complete sets defaults and checks the rest.
func (o *Options) complete() error {
	set := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	set(&o.Databases.Components, "athena_components")
	set(&o.Databases.Sessions, "athena_sessions")
	set(&o.Databases.System, "athena_system")
	o.BasePath = strings.TrimRight(o.BasePath, "/")
	if o.BasePath != "" && (!strings.HasPrefix(o.BasePath, "/") || strings.ContainsAny(o.BasePath, "{}?# ")) {
		return fmt.Errorf("%w: BasePath %q must begin with a slash, without braces and blanks", ErrOptions, o.BasePath)
	}
	if o.BaseURL != "" {
		u, err := url.Parse(o.BaseURL)
		if err != nil || u.Host == "" || u.Scheme == "" {
			return fmt.Errorf("%w: BaseURL must be a URL with a scheme and a host", ErrOptions)
		}
		o.BaseURL = strings.TrimRight(o.BaseURL, "/")
	}
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.WritesPerMinute == 0 {
		o.WritesPerMinute = DefaultWritesPerMinute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.backoff == 0 {
		o.backoff = time.Second
	}
	if o.patience == 0 {
		o.patience = callbackTimeout
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// Close ends what goes on behind requests, restores, callbacks and automatic backups, and
// waits for it. A restore that it ends is an error in its transaction; what it wrote stays. A
// backup that a request started goes on until the engine is closed. Requests that come later
// get an error. A second call returns ErrClosed.
func (h *Handler) Close() error {
	h.mu.Lock()
	closed := h.closed
	h.closed = true
	h.mu.Unlock()
	if closed {
		return ErrClosed
	}
	h.cancel()
	h.work.Wait()
	// All that it sends is part of the work.
	return h.hooks.Close(context.Background())
}

// run starts work behind a request, unless the handler is closed.
func (h *Handler) run(work func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.work.Go(work)
	return true
}

// url returns the address of a path on this server, as a client sees it.
func (h *Handler) url(r *http.Request, path string) string {
	base := h.options.BaseURL
	if base == "" {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		base = scheme + "://" + r.Host
	}
	return base + h.options.BasePath + path
}
