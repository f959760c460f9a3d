package arangodb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// An Action is what a request asks for, for Options.Authorize.
type Action string

// The actions. ActionProgress and ActionAbort are those of uploads and downloads. ActionClient is everything
// outside /_admin/backup.
const (
	ActionCreate   Action = "create"
	ActionList     Action = "list"
	ActionRestore  Action = "restore"
	ActionDelete   Action = "delete"
	ActionUpload   Action = "upload"
	ActionDownload Action = "download"
	ActionProgress Action = "progress"
	ActionAbort    Action = "abort"
	ActionClient   Action = "client"
)

// APIEnabled says who may use the routes under /_admin/backup, like the original's option of that name.
type APIEnabled string

// The values of Options.APIEnabled.
const (
	// APITrue is for all who are let in. It is the default.
	APITrue APIEnabled = "true"
	// APIFalse is for nobody.
	APIFalse APIEnabled = "false"
	// APIJWT is for those with a token that is signed with one of Options.JWTSecrets and names a server, not
	// a user.
	APIJWT APIEnabled = "jwt"
)

// ErrOptions means that New was given Options that cannot be.
var ErrOptions = errors.New("arangodb: bad options")

// ErrUnauthenticated from Options.Authorize or Options.Login makes the answer 401 instead of 403.
var ErrUnauthenticated = errors.New("arangodb: not authenticated")

// Defaults of Options.
const (
	DefaultMaxBodyBytes  = 1 << 20
	DefaultMaxConcurrent = 100
	DefaultMaxAsync      = 1000
	DefaultAsyncKeep     = time.Hour
	DefaultTokenLife     = time.Hour
)

// Options are the settings of a Handler. The zero value serves everything but restores, to everybody.
type Options struct {
	// Restore says what a restore does; InPlace is always set. KeepFailsafes of 0 stands for 1:
	// as in the original there is one FAILSAFE, which the next restore replaces; less than 0
	// keeps all. Nil answers restores with 501.
	Restore *snapshot.RestoreOptions
	// RestoreWait makes a restore answer when it is done, with the name of the folder in which the former
	// state is kept as "previous". Otherwise it answers as a single server of the original does: at once,
	// with "FAILSAFE", and clients watch /_admin/server/availability or /_admin/statistics for its end.
	RestoreWait bool

	// JWTSecrets are what tokens may be signed with, by HS256. The first one signs those of /_open/auth.
	// With them, or with Login, a request without valid credentials is answered with 401.
	JWTSecrets [][]byte
	// Login checks a user's name and password, for basic authentication and for /_open/auth. Any error is a
	// refusal. It must be safe for concurrent use, and takes care of slowing down guesses.
	Login func(ctx context.Context, user, password string) error
	// TokenLife is how long tokens of /_open/auth are valid. Default one hour.
	TokenLife time.Duration
	// Authorize is asked once the caller is known. An error is a refusal, 403 or, for ErrUnauthenticated,
	// 401; its text is logged and not sent. It must be safe for concurrent use. Nil allows everything.
	Authorize func(r *http.Request, caller Caller, action Action) error
	// APIEnabled is APITrue, APIFalse or APIJWT. Default APITrue.
	APIEnabled APIEnabled

	// LocalPathPrefix confines the remote repositories of type "local" to a folder, by whole components:
	// an absolute path with slashes. Empty sets no bound, so that an administrator may have the server
	// write to any folder it can.
	LocalPathPrefix string
	// Transfer is what uploads and downloads begin with: keys, limits and so on. Locations and Bucket are
	// not used.
	Transfer snapshot.TransferOptions
	// UnknownUploadFails answers the upload of an unknown ID with 404, as the original's manual says.
	// Otherwise the answer is 202 and the job fails, as the tests of the official drivers want it.
	UnknownUploadFails bool
	// StartWait is how long the start of an upload or download waits for a failure that the remote store's
	// refusal of the credentials or of permission is the cause of, to answer with 401. Default 0: such a job
	// is answered with 202, and fails.
	StartWait time.Duration

	// Version is what /_api/version tells, and listings for backups of the engine's present
	// DatabaseVersion. The command-line tool refuses a server whose version is not 3 or later.
	// Default: the engine's DatabaseVersion.
	Version string
	// ServerID is the name of the server in a listing. Default "SNGL-" and the repository's ID.
	ServerID string
	// BasePath is a path before all routes, such as "/arango". Default none.
	BasePath string

	// MaxBodyBytes bounds a request's body. Default 1 MiB.
	MaxBodyBytes int64
	// MaxConcurrent is how many requests are served at once; those above it are answered with 503.
	// Default 100.
	MaxConcurrent int
	// MaxAsync is how many asynchronous requests may be under way or wait to be fetched. Default 1000.
	MaxAsync int
	// AsyncKeep is how long the answer of an asynchronous request waits to be fetched. Default one hour.
	AsyncKeep time.Duration
	// Logger hears of refusals, and of failures after the answer. Default: nothing is logged.
	Logger *slog.Logger
}

// A Caller is who sent a request.
type Caller struct {
	// User is the name that Login accepted, or that a token names; empty if none.
	User string
	// Superuser is set for a token that names a server in place of a user.
	Superuser bool
	// Server is what such a token calls itself.
	Server string
}

// A Handler serves the interface. It is safe for concurrent use. Close it before the engine.
type Handler struct {
	engine *snapshot.Engine
	opts   Options
	log    *slog.Logger
	routes map[string]map[string]endpoint // path, method
	slots  chan struct{}
	async  *asyncJobs
	// started is when the database was last started, in nanoseconds since the epoch, as far as the handler
	// knows.
	started atomic.Int64
	// restoring counts restores that were accepted and have not ended.
	restoring atomic.Int64
	// life ends with Close, and background has what goes on behind answers.
	life       context.Context
	endLife    context.CancelFunc
	background sync.WaitGroup
	// mu guards closed; background grows only while it is held and closed is false.
	mu     sync.Mutex
	closed bool
}

// New returns a Handler for an engine. It fails with ErrOptions.
func New(engine *snapshot.Engine, opts Options) (*Handler, error) {
	if engine == nil {
		return nil, fmt.Errorf("%w: the engine is nil", ErrOptions)
	}
	if err := opts.complete(engine); err != nil {
		return nil, err
	}
	h := &Handler{engine: engine, opts: opts, log: opts.Logger, slots: make(chan struct{}, opts.MaxConcurrent)}
	h.routes = h.table()
	h.started.Store(time.Now().UnixNano())
	h.life, h.endLife = context.WithCancel(context.Background())
	h.async = newAsyncJobs(opts.MaxAsync, opts.AsyncKeep)
	return h, nil
}

// Close ends asynchronous requests that are under way and waits for them; requests after it are answered with
// 503. Restores, uploads and downloads are jobs of the engine, and go on.
func (h *Handler) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.endLife()
	h.background.Wait()
	return nil
}

// spawn runs work in the background, unless the handler is closed.
func (h *Handler) spawn(work func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.background.Go(work)
	return true
}

// complete checks the options and fills in defaults.
func (o *Options) complete(engine *snapshot.Engine) error {
	defaultTo(&o.MaxBodyBytes, DefaultMaxBodyBytes)
	defaultTo(&o.MaxConcurrent, DefaultMaxConcurrent)
	defaultTo(&o.MaxAsync, DefaultMaxAsync)
	defaultTo(&o.AsyncKeep, DefaultAsyncKeep)
	defaultTo(&o.TokenLife, DefaultTokenLife)
	defaultTo(&o.APIEnabled, APITrue)
	defaultTo(&o.Version, engine.DatabaseVersion())
	defaultTo(&o.ServerID, "SNGL-"+engine.Repository().ID())
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxBodyBytes < 0 || o.MaxConcurrent < 0 || o.MaxAsync < 0 || o.AsyncKeep < 0 || o.TokenLife < 0 || o.StartWait < 0 {
		return fmt.Errorf("%w: a limit is negative", ErrOptions)
	}
	switch o.APIEnabled {
	case APITrue, APIFalse:
	case APIJWT:
		if len(o.JWTSecrets) == 0 {
			return fmt.Errorf("%w: APIEnabled %q needs JWTSecrets", ErrOptions, APIJWT)
		}
	default:
		return fmt.Errorf("%w: APIEnabled %q is none of %q, %q, %q", ErrOptions, o.APIEnabled, APITrue, APIFalse, APIJWT)
	}
	for i, secret := range o.JWTSecrets {
		if len(secret) == 0 {
			return fmt.Errorf("%w: JWTSecrets[%d] is empty", ErrOptions, i)
		}
	}
	if o.BasePath != "" && (!strings.HasPrefix(o.BasePath, "/") || strings.HasSuffix(o.BasePath, "/")) {
		return fmt.Errorf("%w: BasePath %q must begin with a slash, and not end with one", ErrOptions, o.BasePath)
	}
	if o.LocalPathPrefix != "" {
		probe := repo.LocationConfig{"local": {"type": "local"}}
		if _, err := repo.ParseLocationWithin("local:"+o.LocalPathPrefix, probe, o.LocalPathPrefix); err != nil {
			return fmt.Errorf("%w: LocalPathPrefix: %w", ErrOptions, err)
		}
	}
	if o.Restore != nil {
		if o.Restore.To == "" {
			return fmt.Errorf("%w: Restore.To is empty", ErrOptions)
		}
		restore := *o.Restore
		restore.InPlace = true
		defaultTo(&restore.KeepFailsafes, 1)
		o.Restore = &restore
	}
	return nil
}

func defaultTo[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}
