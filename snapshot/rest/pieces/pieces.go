package pieces

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdstill/holdstill/snapshot"
)

// Defaults of Options.
const (
	DefaultMaxBody     = 8 << 20
	DefaultMaxRequests = 64
	DefaultKeepAlive   = 15 * time.Second
)

var (
	// ErrOptions means that New was given settings that cannot be.
	ErrOptions = errors.New("pieces: bad options")
	// ErrClosed means that the Handler is closed. A second Close returns it, and it is the
	// cause with which the contexts of requests end.
	ErrClosed = errors.New("pieces: the handler is closed")
)

// An Action is what a request wants to do, for Options.Authorize.
type Action string

// The actions. ActionRead is that of everything that changes nothing: listings, status,
// progress, connect and the version. A cancel has the action of what it ends.
const (
	ActionRead    Action = "read"
	ActionCreate  Action = "create"
	ActionRestore Action = "restore"
	ActionDelete  Action = "delete"
)

// Options are the settings of a Handler. The zero value serves everything but restores and
// backups of chosen assets, to everybody.
type Options struct {
	// BasePath stands before the paths of the routes. It begins with a slash and does not end
	// with one. Default: none, as the clients expect.
	BasePath string
	// Authorize decides who may do what. Its error refuses the request with status 511 and
	// the error's text. Health and the description of the API are open to all. Nil allows
	// everything: then who reaches the address may do everything.
	Authorize func(*http.Request, Action) error

	// Create are the settings for backups. Label is not used; Metadata is kept in each, with
	// the two entries MetadataDevice and MetadataPlatform.
	Create snapshot.CreateOptions
	// Assets says what belongs to the assets that a client chose: patterns for the paths in a
	// snapshot, as in CreateOptions.Include. An error refuses the request. Nil refuses all
	// backups of chosen assets.
	Assets func(ctx context.Context, assets []Asset) ([]string, error)

	// Restore says where a backup is restored to, and how: for a server that goes on running
	// with To, InPlace, Stop and Start. Stop must not wait for requests to this Handler to
	// end: one of them may be waiting for the restore. KeepFailsafes of 0 stands for 1, since no
	// client can remove one; less than 0 keeps all. While To is empty restores are refused.
	Restore snapshot.RestoreOptions
	// RestoreAssets is asked where to restore a backup of chosen assets, which does not hold
	// everything and cannot replace the whole. Nil refuses to restore such a backup.
	RestoreAssets func(ctx context.Context, s *snapshot.Snapshot) (snapshot.RestoreOptions, error)

	// DeviceName and Platform are kept in new backups, and shown for those that have none.
	// Default: the host's name, and that of the operating system. A Platform must be one of
	// WEB MACOS LINUX WINDOWS FUCHSIA IOS ANDROID UNKNOWN.
	DeviceName, Platform string

	// MaxBody bounds the body of a request, in bytes. Default 8 MiB.
	MaxBody int64
	// MaxRequests is how many requests are served at once, those that wait for a backup and
	// streams included; more get status 503. Default 64.
	MaxRequests int
	// KeepAlive is how often something is sent on a stream while nothing changes. Default 15
	// seconds.
	KeepAlive time.Duration
	// Origins are the web pages that may use this Handler from a browser, such as
	// "https://app.example.com", besides those of its own address.
	Origins []string
	// Logger hears of damaged snapshots that are left out of a listing. Default: nothing is
	// logged.
	Logger *slog.Logger
}

// A Handler answers Pieces OS's calls for backups. It is safe for concurrent use.
type Handler struct {
	engine *snapshot.Engine
	opts   Options
	mux    *http.ServeMux
	routes []route
	cross  *http.CrossOriginProtection
	slots  chan struct{}

	life context.Context
	end  context.CancelCauseFunc
	// mu guards closed, and that nothing is added to running after it is set.
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup

	ids idMaker
}

// New returns a Handler for an engine. It fails with ErrOptions. Close it before the engine.
func New(engine *snapshot.Engine, opts Options) (*Handler, error) {
	if engine == nil {
		return nil, fmt.Errorf("%w: the engine is nil", ErrOptions)
	}
	if b := opts.BasePath; b != "" && (!strings.HasPrefix(b, "/") || strings.HasSuffix(b, "/") || strings.ContainsAny(b, "{} ?#")) {
		return nil, fmt.Errorf("%w: BasePath %q: it must begin with a slash, not end with one, and have none of {} ?#", ErrOptions, b)
	}
	if opts.MaxBody < 0 || opts.MaxRequests < 0 || opts.KeepAlive < 0 {
		return nil, fmt.Errorf("%w: MaxBody, MaxRequests and KeepAlive cannot be negative", ErrOptions)
	}
	opts.MaxBody = cmp.Or(opts.MaxBody, DefaultMaxBody)
	opts.MaxRequests = cmp.Or(opts.MaxRequests, DefaultMaxRequests)
	opts.KeepAlive = cmp.Or(opts.KeepAlive, DefaultKeepAlive)
	opts.Restore.KeepFailsafes = cmp.Or(opts.Restore.KeepFailsafes, 1)
	if opts.DeviceName == "" {
		// Without a name of its own the machine has that of its kind.
		name, err := os.Hostname()
		if err != nil || name == "" {
			name = runtime.GOOS
		}
		opts.DeviceName = name
	}
	opts.Platform = cmp.Or(opts.Platform, platformOf(runtime.GOOS))
	if !slices.Contains(platforms, opts.Platform) {
		return nil, fmt.Errorf("%w: Platform %q is not one of %s", ErrOptions, opts.Platform, strings.Join(platforms, " "))
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{
		engine: engine, opts: opts, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection(),
		slots: make(chan struct{}, opts.MaxRequests),
	}
	for _, origin := range opts.Origins {
		if err := h.cross.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("%w: Origins: %w", ErrOptions, err)
		}
	}
	h.life, h.end = context.WithCancelCause(context.Background())
	h.addRoutes()
	return h, nil
}

// Close ends the requests under way, streams and WebSockets included, and waits for them.
// Backups and restores that they began go on: they belong to the engine. A second call
// returns ErrClosed.
func (h *Handler) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return ErrClosed
	}
	h.closed = true
	h.mu.Unlock()
	h.end(ErrClosed)
	h.running.Wait()
	return nil
}

// enter counts a request in, unless the Handler is closed.
func (h *Handler) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.running.Add(1)
	return true
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.enter() {
		h.fail(w, &statusError{http.StatusServiceUnavailable, "the server is shutting down"})
		return
	}
	defer h.running.Done()
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		h.fail(w, &statusError{http.StatusServiceUnavailable, "too many requests at once"})
		return
	}
	if err := h.cross.Check(r); err != nil {
		h.fail(w, &statusError{http.StatusForbidden, err.Error()})
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.life, func() { cancel(ErrClosed) })()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	h.mux.ServeHTTP(w, r.WithContext(ctx))
}

// A route is one of the calls. Its handler answers by itself or returns an error.
type route struct {
	method, path string
	action       Action // empty: open to all
	serve        func(http.ResponseWriter, *http.Request) error
}

func (h *Handler) addRoutes() {
	h.routes = []route{
		{"POST", "/backup", ActionCreate, h.backupAssets},
		{"POST", "/backup/asset", ActionCreate, h.backupAsset},
		{"GET", "/backup/{backup}", ActionRead, h.getBackup},
		{"POST", "/backup/{backup}/restore", ActionRestore, h.restore},
		{"POST", "/backup/{backup}/restore/streamed", ActionRestore, h.restoreStreamed},
		{"GET", "/backup/{backup}/restore/streamed/websocket", ActionRestore, h.restoreWebSocket},
		{"POST", "/backup/{backup}/creation/cancel", ActionCreate, h.cancelCreation},
		{"GET", "/backup/{backup}/creation/status", ActionRead, h.creationStatus},
		{"POST", "/backup/{backup}/restoration/cancel", ActionRestore, h.cancelRestoration},
		{"GET", "/backup/{backup}/restoration/status", ActionRead, h.restorationStatus},
		{"GET", "/backups", ActionRead, h.listBackups},
		{"POST", "/backups/create", ActionCreate, h.create},
		{"POST", "/backups/create/streamed", ActionCreate, h.createStreamed},
		{"GET", "/backups/create/streamed/websocket", ActionCreate, h.createWebSocket},
		{"GET", "/backups/streamed/progress", ActionRead, h.progress},
		{"POST", "/backups/{backup}/delete", ActionDelete, h.deleteBackup},
		{"POST", "/connect", ActionRead, h.connect},
		{"GET", "/.well-known/health", "", h.health},
		{"GET", "/.well-known/version", ActionRead, h.version},
		{"GET", "/openapi.json", "", h.openAPI},
	}
	for _, route := range h.routes {
		h.mux.HandleFunc(route.method+" "+h.opts.BasePath+route.path, func(w http.ResponseWriter, r *http.Request) {
			action := route.action
			if action != "" && h.opts.Authorize != nil {
				if err := h.opts.Authorize(r, action); err != nil {
					h.fail(w, &statusError{http.StatusNetworkAuthenticationRequired, err.Error()})
					return
				}
			}
			if err := route.serve(w, r); err != nil {
				h.fail(w, err)
			}
		})
	}
}

// health answers who asks whether the server is up.
func (h *Handler) health(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
	return nil
}
