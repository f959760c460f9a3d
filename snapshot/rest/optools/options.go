package optools

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/holdstill/holdstill/snapshot/rest/optools/docsource"
)

// Errors of New, and those that Options.Authorize may return.
var (
	// ErrOptions means that New was given options that cannot be.
	ErrOptions = errors.New("optools: bad options")
	// ErrUnauthenticated means that a request does not say who it is from, or not truly.
	ErrUnauthenticated = errors.New("optools: not authenticated")
	// ErrForbidden means that the caller may not do what the request asks for.
	ErrForbidden = errors.New("optools: not allowed")
)

// An Action is what a caller must be allowed to do.
type Action string

// The actions of the routes.
const (
	// ActionSettings is for everything about backups.
	ActionSettings Action = "blockchain.optools.settings"
	// ActionView is for reading transactions.
	ActionView Action = "blockchain.optools.view"
	// ActionNotifications is for making and changing transactions.
	ActionNotifications Action = "blockchain.notifications.manage"
)

// A Caller is who sent a request.
type Caller struct {
	// Email is shown with transactions, censored. Empty: a dash.
	Email string
	// UUID is shown with transactions as it is. Empty: a dash.
	UUID string
}

// Databases are the names of the databases in the documents of backups.
type Databases struct {
	// Components, Sessions and System default to athena_components, athena_sessions and
	// athena_system.
	Components, Sessions, System string
}

// DefaultMaxBody is the most that the body of a request may have, in bytes.
const DefaultMaxBody = 25 << 20

// DefaultWritesPerMinute is how many POST and PUT requests are served in a minute.
const DefaultWritesPerMinute = 25

// Options are the settings of New. Source and Store must be set.
type Options struct {
	// Source is the name under which the engine has the docsource.Source.
	Source string
	// Store is what restores write to.
	Store docsource.Store
	// Databases are the names of the databases that skip lists are about.
	Databases Databases

	// BasePath is what comes before /api and /ak/api in the paths of requests, such as
	// "/console". Default: nothing.
	BasePath string
	// BaseURL begins the URLs in answers, such as "https://console.example.com". BasePath is
	// added to it. Default: the scheme and the host of the request.
	BaseURL string
	// InstanceID is in the answer to requests that are not allowed, as "iid".
	InstanceID string
	// Versions are kept in backups as "ibp_versions", such as {"tag": "2.5.0-26"}.
	Versions map[string]string

	// Authorize decides about a request. It fails with ErrUnauthenticated, for which the
	// answer is 401, or any other error: 403. It must be safe for concurrent use. Nil allows
	// everything to everybody, for a server that is guarded otherwise.
	Authorize func(r *http.Request, action Action) (Caller, error)
	// MaxBody is the most that the body of a request may have, in bytes. Default
	// DefaultMaxBody. A restore holds its document in memory about twice.
	MaxBody int64
	// WritesPerMinute is how many POST and PUT requests are served in any minute, of all
	// callers together. Default DefaultWritesPerMinute; less than 0 is no limit.
	WritesPerMinute int

	// Callbacks are the URLs that a client_webhook_url may have or begin with, such as
	// "https://hooks.example.com/done/". Scheme, host and port must be equal, and the path the
	// same or below. Entries may have the other forms of webhook.Options.Allow as well. A host
	// whose name stands for an address that is not public is not called, unless
	// CallbackNetworks has the address. Default: none, and a request that asks for a
	// callback is refused.
	Callbacks []string
	// CallbackNetworks are networks and addresses that are not public and that the hosts of
	// Callbacks may stand for, such as "10.0.0.0/8". An address that is written in an entry of
	// Callbacks need not be here. Default: none.
	CallbackNetworks []string
	// CallbackSecret signs callbacks, as package webhook does: receivers that know it check
	// them with webhook.Verify, and all others see three more headers. At least 24 bytes.
	// Default: they are not signed.
	CallbackSecret []byte
	// TransactionsDir is a folder for the records of transactions, which then outlive a
	// restart; one Handler at a time may use it. Default: they are forgotten with the Handler.
	TransactionsDir string
	// AfterRestore is called when the documents of a restore were written, before the restore
	// counts as done, such as to rebuild a list of known hosts. Its error is that of the
	// restore.
	AfterRestore func(ctx context.Context) error

	// Automatic makes a backup every day shortly after 01:00 UTC, unless there is one less than
	// 12 hours old, and then prunes as Prune does.
	Automatic bool
	// NoPrune keeps all backups that Automatic makes.
	NoPrune bool

	// Logger hears of what is not told to a client. Default: nothing is logged.
	Logger *slog.Logger

	// now, backoff and patience, which is how long each attempt of a callback may take, are set by tests.
	now      func() time.Time
	backoff  time.Duration
	patience time.Duration
}
