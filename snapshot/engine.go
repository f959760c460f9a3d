package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/transfer"
)

// Config says what an Engine takes snapshots of, and where it keeps them. One of
// Repository and Bucket must be set; everything else may be left out.
type Config struct {
	// Repository is where snapshots are kept, as "section:path" in the sense of
	// repo.ParseLocation, with the section looked up in Locations. The section
	// "local" is there without being configured: "local:/var/lib/app/snapshots". Stores
	// in the cloud need their driver linked in: see repo.OpenLocation.
	Repository string
	// Locations configures the sections that Repository may name.
	Locations repo.LocationConfig
	// Bucket is a bucket of the caller's, instead of Repository. The caller closes
	// it, after the Engine.
	Bucket *blob.Bucket
	// MustExist makes Open fail with repo.ErrNotRepository where there is no
	// repository yet. Otherwise Open makes one.
	MustExist bool

	// Lock is the gate that every transaction of the server passes. With it all
	// sources are pinned at one moment between transactions. Without it each source
	// is pinned as its own means allow, one after the other.
	Lock *lock.Gate
	// Sources are what snapshots hold, by name. A name is the first part of the
	// paths of its files in a snapshot, and must be one part of a valid path. An
	// engine without sources can do everything but Create.
	Sources map[string]Source
	// DatabaseVersion is kept in every snapshot. Free text, such as "3.12.5".
	DatabaseVersion string

	// Workers is how many goroutines read, encode, or restore at once, at most 1024.
	// Default: GOMAXPROCS.
	Workers int
	// VerifyShare is the share of what a Source calls unchanged that Create reads all the
	// same to check that promise: of the files with the same Hint.Identity, and of the
	// chunks that an AppendOnly file or View.Changed says are the same. 1 reads all of
	// it, less than 0 none. Default 1/256, each drawn at random.
	VerifyShare float64
	// Key opens an encrypted repository, and where Open makes a new one that is encrypted
	// under it: see repo.Passphrase and repo.Keeper. A repository that is not encrypted is
	// refused with it. Default: Options.Key.
	Key repo.KeySource
	// SameIdentityAs is another repository, which must stay open during Open. If Open makes an
	// encrypted repository, that has the other one's names for chunks, so that snapshots are
	// copied between the two without being encoded anew; see repo.Encryption. Engine.Upload does
	// this by itself. Default: names of its own.
	SameIdentityAs *repo.Repository
	// CacheDir is a folder for what can be made anew: an index of the repository that takes
	// next to no memory; see repo.Options.CacheDir, which it sets. Worth while from some
	// hundred thousand chunks on, also for a local repository. It must not lie in the
	// folder of a source or of the repository. Default: Options.CacheDir, and without that
	// none; the engine writes to no folder that it was not given.
	CacheDir string
	// Options are those of the repository: pack size, compression, cache.
	Options repo.Options
	// JobsDir is the folder for the records of jobs, which outlive a restart; one engine at
	// a time may use it, and no job starts whose record cannot be written. JobsInMemory keeps
	// none. Default: a hidden folder in a local repository, or in memory as far as that cannot
	// be used, since another process does, or the disk is full or read-only; else in memory.
	// A folder that is set is read by Open, the default one when a job is first asked for.
	JobsDir string
	// JobsKeep is how long jobs that have ended stay listed. Default 24 hours.
	JobsKeep time.Duration
	// OnJobFinish is called in order when a job has ended, and for those that a crash
	// interrupted when their records are read, with JobsDir perhaps before Open has returned;
	// see transfer.JobsOptions.
	OnJobFinish []func(transfer.Status)
	// Logger hears of what is not worth failing for. Default: nothing is logged.
	Logger *slog.Logger
}

// JobsInMemory as Config.JobsDir means that jobs are forgotten with the engine.
const JobsInMemory = "-"

// DefaultVerifyShare is the share of what is called unchanged that is read all the same.
const DefaultVerifyShare = 1.0 / 256

// localSection is the section of Repository that needs no configuration.
const localSection = "local"

// An Engine takes, keeps and restores snapshots. It is safe for concurrent use.
type Engine struct {
	config Config
	names  []string // of the sources, sorted
	repo   *repo.Repository
	bucket *blob.Bucket
	// owned is set when Close has to close bucket.
	owned bool
	// local is the absolute folder of a local repository, else empty.
	local string
	log   *slog.Logger
	// noteChunks is the constant, less in tests.
	noteChunks int

	// life ends with Close.
	life    context.Context
	endLife context.CancelCauseFunc
	// mu guards closed, and that calls are counted only before it is set.
	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup
	// reserved are the snapshots that are being made under IDs of the callers'; mu guards it.
	reserved map[string]*reservation
	// jobsMu guards jobs, which is nil until it is first needed.
	jobsMu sync.Mutex
	jobs   *transfer.Jobs
}

// Open opens the repository, making it first if there is none, and returns an
// Engine for it. It does not touch the sources. Close the Engine after use.
//
// Open fails with ErrConfig, with repo.ErrInvalid for Options out of range, with a
// *repo.LocationError, with repo.ErrKey, with a *repo.FormatError for a repository that a
// newer library wrote, with a *repo.CorruptError, with transfer.ErrJobsInUse for
// JobsDir, or with an error of the store: repo.ErrAuthentication, ErrPermission,
// ErrNoBucket, ErrUnavailable and the like.
func Open(ctx context.Context, config Config) (*Engine, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{config: config, names: slices.Sorted(maps.Keys(config.Sources)), log: config.Logger, noteChunks: noteChunks}
	if err := e.openBucket(ctx); err != nil {
		return nil, err
	}
	if err := e.checkSources(); err != nil {
		return nil, errors.Join(err, e.closeBucket())
	}
	if e.repo, err = openRepository(ctx, e.bucket, config); err != nil {
		return nil, errors.Join(err, e.closeBucket())
	}
	e.life, e.endLife = context.WithCancelCause(context.Background())
	if config.JobsDir != "" {
		if _, err := e.jobRegistry(ctx); err != nil {
			e.endLife(err)
			return nil, errors.Join(err, e.repo.Close(), e.closeBucket())
		}
	}
	return e, nil
}

func (c Config) withDefaults() (Config, error) {
	if (c.Repository == "") == (c.Bucket == nil) {
		return c, fmt.Errorf("%w: set either Repository or Bucket", ErrConfig)
	}
	for name, source := range c.Sources {
		if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "/\\\x00") {
			return c, fmt.Errorf("%w: a source cannot be named %q: use one part of a path", ErrConfig, name)
		}
		if source == nil {
			return c, fmt.Errorf("%w: source %q is nil", ErrConfig, name)
		}
	}
	switch {
	case c.VerifyShare == 0:
		c.VerifyShare = DefaultVerifyShare
	case c.VerifyShare < 0:
		c.VerifyShare = 0
	case c.VerifyShare > 1 || c.VerifyShare != c.VerifyShare:
		return c, fmt.Errorf("%w: VerifyShare %v is not a share of at most 1", ErrConfig, c.VerifyShare)
	}
	if c.Workers < 0 || c.Workers > 1024 {
		return c, fmt.Errorf("%w: Workers %d is not between 0 and 1024", ErrConfig, c.Workers)
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.CacheDir != "" {
		c.Options.CacheDir = c.CacheDir
	}
	if c.Options.Logger == nil {
		c.Options.Logger = c.Logger
	}
	if c.Key != nil {
		c.Options.Key = c.Key
	}
	c.Sources = maps.Clone(c.Sources)
	return c, nil
}

func (e *Engine) openBucket(ctx context.Context) error {
	if e.config.Bucket != nil {
		e.bucket = e.config.Bucket
		return nil
	}
	location, err := repo.ParseLocation(e.config.Repository, withLocal(e.config.Locations))
	if err != nil {
		return err
	}
	if location.IsLocal() {
		e.local = location.Path()
	}
	e.owned = true
	e.bucket, err = repo.OpenLocation(ctx, location, repo.OpenLocationOptions{Create: !e.config.MustExist})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", repo.ErrNotRepository, err)
	}
	return err
}

// withLocal returns sections with the one that needs no configuration.
func withLocal(locations repo.LocationConfig) repo.LocationConfig {
	if locations[localSection] != nil {
		return locations
	}
	locations = maps.Clone(locations)
	if locations == nil {
		locations = repo.LocationConfig{}
	}
	locations[localSection] = map[string]string{"type": "local"}
	return locations
}

// checkSources refuses a source that would take the repository into itself.
func (e *Engine) checkSources() error {
	for _, name := range e.names {
		if d, ok := e.config.Sources[name].(*DirSource); ok && e.local != "" && d.shows(e.local) {
			return fmt.Errorf("%w: the repository %s lies in the folder of source %q, and every snapshot would hold all others: move it, or leave it out with DirOptions.Skip", ErrConfig, e.local, name)
		}
	}
	return nil
}

func openRepository(ctx context.Context, bucket *blob.Bucket, config Config) (*repo.Repository, error) {
	r, err := repo.Open(ctx, bucket, config.Options)
	if !errors.Is(err, repo.ErrNotRepository) || config.MustExist {
		return r, err
	}
	// Another process may make it at the same time, which is as good.
	init := repo.InitOptions{Retry: config.Options.Retry}
	if key := config.Options.Key; key != nil {
		init.Encryption = &repo.Encryption{Key: key, SameIdentityAs: config.SameIdentityAs}
	}
	if err := repo.Init(ctx, bucket, init); err != nil && !errors.Is(err, repo.ErrRepositoryExists) {
		return nil, err
	}
	return repo.Open(ctx, bucket, config.Options)
}

// Repository returns the repository that the engine keeps its snapshots in, for
// Check and the like. It is closed with the engine.
func (e *Engine) Repository() *repo.Repository { return e.repo }

// DatabaseVersion returns Config.DatabaseVersion, which new snapshots get.
func (e *Engine) DatabaseVersion() string { return e.config.DatabaseVersion }

// begin is called first in every operation. The context it returns also ends when
// the engine is closed; done must be called at the end.
func (e *Engine) begin(ctx context.Context) (context.Context, func(), error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, nil, ErrClosed
	}
	e.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(e.life, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		e.calls.Done()
	}, nil
}

// Close ends every operation under way with ErrClosed, jobs with transfer.ErrInterrupted, waits for them to clean up
// and frees what the engine holds. It does not close a Bucket that the caller
// gave. A second call returns ErrClosed.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return ErrClosed
	}
	e.closed = true
	e.mu.Unlock()
	// Jobs first: what they were ended by goes into their records.
	e.jobsMu.Lock()
	jobs := e.jobs
	e.jobsMu.Unlock()
	var jobsErr error
	if jobs != nil {
		jobsErr = jobs.Close()
	}
	e.endLife(ErrClosed)
	e.calls.Wait()
	return errors.Join(jobsErr, e.repo.Close(), e.closeBucket())
}

func (e *Engine) closeBucket() error {
	if !e.owned || e.bucket == nil {
		return nil
	}
	return e.bucket.Close()
}
