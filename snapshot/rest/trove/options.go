package trove

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// ErrOptions means that New was given settings that cannot be.
var ErrOptions = errors.New("trove: bad options")

// Options are the settings of a Handler. The zero value serves the engine's database to all
// who can reach it, and forgets with the process which backups failed.
type Options struct {
	// BasePath is the path below which the routes are, such as "/database". Default: none.
	BasePath string
	// Authenticate says who makes a request, mostly by its header X-Auth-Token. An error is
	// answered with 401; its text is logged and not sent. Default: nobody is turned away, and
	// everyone is a member, not an admin, of the project in the path.
	Authenticate func(*http.Request) (Caller, error)
	// Authorize decides what a caller may do. An error is answered with 403. Default:
	// DefaultPolicy.
	Authorize func(context.Context, Caller, Action) error

	// Instances are the databases that backups are made of. Default: one with the name
	// "database", and an ID that is made from the repository's.
	Instances []Instance
	// Datastores are versions of datastores that no instance has, for restore_from.
	Datastores []Datastore
	// Project is the project to which those snapshots belong that were not made through a
	// Handler. Default: they are not shown.
	Project string

	// Records keeps the records of backups, strategies and restores. Open a folder with
	// localblob.OpenBucket, or any other bucket with gocloud.dev/blob; the caller closes
	// it after the Handler. One Handler at a time may use it. Default: in memory; then
	// finished backups are found again by their snapshots, and all else is forgotten with
	// the process.
	Records *blob.Bucket
	// Location is the engine's repository as others name it, such as "s3:backups/app".
	// A backup's locationRef is Location, a slash and the snapshot's ID. Default:
	// "holdstill:" and the repository's ID, which leads nowhere.
	Location string
	// Locations are the sections that restore_from may name. Default: none, and restore_from
	// is refused. Local ones must lie below LocalPrefix, if that is set.
	Locations   repo.LocationConfig
	LocalPrefix string
	// Key opens the repositories of restore_from that are encrypted.
	Key repo.KeySource

	// Create, if set, may change how the snapshot of a backup is made: its Freeze, say. Label,
	// Description, Parent, NoParent and the entries of Metadata whose names begin with
	// "trove." are set already and must stay.
	Create func(*snapshot.CreateOptions)
	// Restore, if set, says where to and how a backup is restored when an instance is created
	// from it. An error is answered with 422, text and all. Where it restores in place,
	// KeepFailsafes should be set, since no client can remove a failsafe. Default: creating
	// instances is answered with 501.
	Restore func(context.Context, RestoreRequest) (snapshot.RestoreOptions, error)

	// StorageDriver is the storage_driver of backups whose request has none. Default
	// "holdstill".
	StorageDriver string
	// PageSize is how many backups a page of the list has when the request has no limit.
	// Default 20.
	PageSize int
	// Quota is how many backups a project may have. Default 50; less than 0 is no quota.
	Quota int
	// MaxBody bounds the body of a request, in bytes. Default 1 MiB.
	MaxBody int64
	// Logger hears of failures that the caller is not told the cause of. Default: nothing is
	// logged.
	Logger *slog.Logger
}

// An Instance is a database.
type Instance struct {
	// ID is a UUID, and Name what people call it.
	ID, Name string
	// Project is whose it is. Empty: everyone's.
	Project string
	// Datastore is what kind of database it is. Its zero value is "not known".
	Datastore Datastore
	// Engine makes its snapshots. Default: the Handler's. Location is that of this
	// engine's repository; see Options.Location.
	Engine   *snapshot.Engine
	Location string
}

// A Datastore is a version of a kind of database.
type Datastore struct {
	// ID and Name are those of the kind, such as "mysql".
	ID, Name string
	// VersionID is a UUID, and Version a name such as "5.7.29".
	VersionID, Version string
}

func (d Datastore) known() bool { return d.Name != "" }

// A Caller is who makes a request.
type Caller struct {
	// Project is the ID of the caller's project.
	Project string
	// Admin is set for those who may see and change what belongs to all projects.
	Admin bool
}

// An Action is something that a caller wants to do.
type Action struct {
	// Rule is the name that Trove's policy has for it: "backup:index",
	// "backup:index:all_projects", "backup:show", "backup:create", "backup:delete",
	// "backup_strategy:index", "backup_strategy:create", "backup_strategy:delete",
	// "instance:index", "instance:show", "instance:create", "instance:backups",
	// "flavor:index" or "flavor:show".
	Rule string
	// Project is the project that what it is done to belongs to. Empty: to all.
	Project string
}

// ErrForbidden is the error of DefaultPolicy.
var ErrForbidden = errors.New("trove: forbidden")

// DefaultPolicy lets admins do everything, and others what concerns their own project.
func DefaultPolicy(_ context.Context, caller Caller, action Action) error {
	if caller.Admin || action.Project == caller.Project && !strings.HasSuffix(action.Rule, allProjects) {
		return nil
	}
	return ErrForbidden
}

// allProjects ends the rules that concern other projects.
const allProjects = ":all_projects"

// A RestoreRequest is the request for a new instance from a backup.
type RestoreRequest struct {
	// Instance is the ID that the new instance has got, and Name its name.
	Instance, Name string
	// Project is whose it is.
	Project string
	// Backup is the backup's ID, and Snapshot that of its snapshot.
	Backup, Snapshot string
	// From is the ID of the instance that the backup was made of. Empty for one of another
	// region.
	From string
	// Datastore is the backup's. Its zero value is "not known".
	Datastore Datastore
}

// Defaults of Options.
const (
	DefaultPageSize      = 20
	DefaultQuota         = 50
	DefaultMaxBody       = 1 << 20
	DefaultStorageDriver = "holdstill"
)

// deletableAfter is the age from which a backup that seems to be running may be deleted.
const deletableAfter = 3 * 24 * time.Hour

func (o Options) withDefaults(engine *snapshot.Engine) (Options, error) {
	if o.BasePath != "" && (!strings.HasPrefix(o.BasePath, "/") || strings.HasSuffix(o.BasePath, "/")) {
		return o, fmt.Errorf("%w: BasePath %q must begin with a slash and not end with one", ErrOptions, o.BasePath)
	}
	if o.PageSize < 0 || o.MaxBody < 0 {
		return o, fmt.Errorf("%w: PageSize %d and MaxBody %d must not be negative", ErrOptions, o.PageSize, o.MaxBody)
	}
	if o.PageSize == 0 {
		o.PageSize = DefaultPageSize
	}
	if o.Quota == 0 {
		o.Quota = DefaultQuota
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.StorageDriver == "" {
		o.StorageDriver = DefaultStorageDriver
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Authorize == nil {
		o.Authorize = DefaultPolicy
	}
	o.Instances = append([]Instance(nil), o.Instances...)
	if len(o.Instances) == 0 {
		o.Instances = []Instance{{ID: uuidOf("instance", engine.Repository().ID()), Name: "database"}}
	}
	seen := make(map[string]bool)
	for i := range o.Instances {
		one := &o.Instances[i]
		if !isUUID(one.ID) || seen[one.ID] {
			return o, fmt.Errorf("%w: the ID %q of instance %q is not a UUID, or that of another instance", ErrOptions, one.ID, one.Name)
		}
		seen[one.ID] = true
		if one.Engine == nil {
			one.Engine = engine
		}
		if one.Location == "" && one.Engine == engine {
			one.Location = o.Location
		}
		if one.Location == "" {
			one.Location = "holdstill:" + one.Engine.Repository().ID()
		}
	}
	return o, nil
}
