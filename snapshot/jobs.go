package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"strconv"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/transfer"
)

// jobsFolder is where a local repository keeps the records of jobs. The name is that of no
// key of the repository's bucket, so that no listing shows it.
const jobsFolder = ".%jobs"

// jobErrors are the errors of this package that a job's record brings back.
var jobErrors = map[transfer.ErrorKind]error{
	"badLabel": ErrBadLabel, "noSources": ErrNoSources, "fileKind": ErrFileKind, "changed": ErrChanged,
	"brokenPromise": ErrBrokenPromise, "lockTimeout": lock.ErrTimeout, "target": ErrTarget, "targetExists": ErrTargetExists,
	"restoreBusy": ErrBusy, "unknownSource": ErrUnknownSource, "noMatch": ErrNoMatch,
	"pattern": ErrPattern, "partial": ErrPartial, "damaged": ErrDamaged,
}

// jobRegistry returns the engine's jobs, opening them the first time.
func (e *Engine) jobRegistry(ctx context.Context) (*transfer.Jobs, error) {
	e.jobsMu.Lock()
	defer e.jobsMu.Unlock()
	if e.jobs != nil {
		return e.jobs, nil
	}
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	opts := transfer.JobsOptions{
		Dir: e.config.JobsDir, Keep: e.config.JobsKeep, OnFinish: e.config.OnJobFinish, Errors: jobErrors, Logger: e.log,
	}
	switch {
	case opts.Dir == JobsInMemory:
		opts.Dir = ""
	case opts.Dir == "" && e.local != "":
		opts.Dir = filepath.Join(filepath.FromSlash(e.local), jobsFolder)
	}
	// Nobody asked for records there. Without them a snapshot can be restored all the same.
	byDefault := e.config.JobsDir == "" && opts.Dir != ""
	opts.Unrecorded = byDefault
	jobs, err := transfer.OpenJobs(ctx, opts)
	if err != nil && byDefault && ctx.Err() == nil {
		// Another process works with the same repository, which it may, or the repository is
		// on a disk that is full or that can only be read.
		e.log.Warn("jobs are kept in memory only", "error", err)
		opts.Dir = ""
		jobs, err = transfer.OpenJobs(ctx, opts)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot: jobs: %w", err)
	}
	e.jobs = jobs
	return jobs, nil
}

// startJob starts work as a job.
func (e *Engine) startJob(ctx context.Context, task transfer.Task, run func(context.Context, *transfer.Reporter) error) (*transfer.Job, error) {
	jobs, err := e.jobRegistry(ctx)
	if err != nil {
		return nil, err
	}
	job, err := jobs.Start(ctx, task, run)
	if errors.Is(err, transfer.ErrJobsClosed) {
		return nil, ErrClosed
	}
	return job, err
}

// Job returns a job of this engine, also one of an earlier process if its record is kept. It
// fails with transfer.ErrJobNotFound, or with ErrClosed if no job was asked for before Close.
func (e *Engine) Job(ctx context.Context, id string) (*transfer.Job, error) {
	jobs, err := e.jobRegistry(ctx)
	if err != nil {
		return nil, err
	}
	return jobs.Get(id)
}

// Jobs lists the jobs that a filter picks. The only error is that of opening the records, or
// ErrClosed as Job has it, and ends the listing.
func (e *Engine) Jobs(ctx context.Context, filter transfer.JobFilter) iter.Seq2[transfer.Status, error] {
	return func(yield func(transfer.Status, error) bool) {
		jobs, err := e.jobRegistry(ctx)
		if err != nil {
			yield(transfer.Status{}, err)
			return
		}
		for s := range jobs.List(filter) {
			if !yield(s, nil) {
				return
			}
		}
	}
}

// StartCreate is Create as a job. Status.Details has the "label", if there is one, from the
// start; when the job has completed, Status.Snapshot is the new snapshot's ID. With
// CreateOptions.ID it is that from the beginning, and things can be attached to it as soon as
// StartCreate returns. CreateOptions.Progress is told as well. It fails with ErrClosed, or where
// the job cannot be recorded, with ErrBadID, or with repo.ErrExists for an ID that is taken; all
// else is the job's error.
func (e *Engine) StartCreate(ctx context.Context, opts CreateOptions) (*transfer.Job, error) {
	if opts.ID != "" {
		_, done, err := e.begin(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
		if opts.reservation, err = e.reserve(ctx, opts.ID); err != nil {
			return nil, err
		}
	}
	task := transfer.Task{Kind: transfer.KindCreate, Snapshot: opts.ID}
	if opts.Label != "" {
		task.Details = map[string]string{"label": opts.Label}
	}
	job, err := e.startJob(ctx, task, func(ctx context.Context, r *transfer.Reporter) error {
		opts.Progress = reportTo(r, opts.Progress)
		s, err := e.Create(ctx, opts)
		if err == nil {
			r.Snapshot(s.ID)
		}
		return err
	})
	if r := opts.reservation; r != nil {
		if err != nil {
			e.release(opts.ID, r)
			return nil, err
		}
		e.assign(r, job)
	}
	return job, err
}

// StartRestore is Restore as a job. When it has completed, Status.Details has "to", "files",
// which is how many were restored, and "previous" if something is kept there. A second job
// for the same target fails with a *transfer.JobBusyError. Otherwise it is like StartDelete.
func (e *Engine) StartRestore(ctx context.Context, id string, opts RestoreOptions) (*transfer.Job, error) {
	to, err := filepath.Abs(opts.To)
	if err != nil {
		return nil, err
	}
	task := transfer.Task{Kind: transfer.KindRestore, Snapshot: id, Location: to, Exclusive: "a restore to " + to}
	return e.startJob(ctx, task, func(ctx context.Context, r *transfer.Reporter) error {
		opts.Progress = reportTo(r, opts.Progress)
		result, err := e.Restore(ctx, id, opts)
		if result != nil {
			r.Detail("to", result.To)
			r.Detail("files", strconv.FormatInt(result.Files, 10))
			if result.Previous != "" {
				r.Detail("previous", result.Previous)
			}
		}
		return err
	})
}

// reportTo returns a function that tells progress to a job and to the caller.
func reportTo(r *transfer.Reporter, also func(Progress)) func(Progress) {
	return func(p Progress) {
		r.Progress(transfer.Progress{
			Phase: string(p.Phase), FilesDone: p.FilesDone, FilesTotal: p.FilesTotal,
			BytesDone: p.BytesDone, BytesTotal: p.BytesTotal, BytesSent: p.BytesStored, Elapsed: p.Elapsed,
		})
		if also != nil {
			also(p)
		}
	}
}

// TransferOptions are the settings of one upload or download. The zero value works for
// locations that Config.Locations names.
type TransferOptions struct {
	// Locations configures the sections that the location may name, in place of
	// Config.Locations. The section "local" is always there.
	Locations repo.LocationConfig
	// Bucket is the other repository's bucket, in place of a location, which then only
	// names it in the job's status. The caller closes it, after the job.
	Bucket *blob.Bucket
	// MustExist makes an upload fail with repo.ErrNotRepository where there is no
	// repository. Otherwise it makes one. A download never does.
	MustExist bool
	// Key opens the other repository if it is encrypted, and one that an upload makes is
	// encrypted under it. That is made with this repository's names for chunks, so that these
	// travel without being encoded anew; see repo.Encryption.SameIdentityAs. Default: the
	// engine's own key.
	Key repo.KeySource
	// Plain says that the other repository is not encrypted, though this one is. Where this one
	// names chunks by its key, all of them are encoded anew on their way.
	Plain bool
	// OwnIdentity gives a repository that an upload makes names for chunks of its own, which
	// tell nothing to those who can read the other one: see FORMAT.md of package repo, "What an
	// attacker can do". All chunks are then encoded anew on their way, in each upload.
	OwnIdentity bool
	// Options are those of the other repository: retries, rate limits, how many packs are
	// written at once (default for uploads: 4). Options.Key is not used.
	Options repo.Options
	// Transfer are those of the copy itself. Near is set by the engine, and Fetches is 4 by default for
	// uploads.
	Transfer transfer.Options
}

// Upload starts a job that copies a snapshot to the repository at a location, such as
// "s3:backups/app"; see transfer.Copy. After a failure, an abort or a restart, the same
// upload started again sends the rest.
//
// Upload itself fails with a *repo.LocationError for a location that breaks a rule, with ErrConfig, with a
// *transfer.JobBusyError while the same upload is under way, with ErrClosed, or where the
// job cannot be recorded. All else, an unknown snapshot included, is the job's error:
// ErrNotFound, repo.ErrExists, repo.ErrAuthentication, repo.ErrPermission,
// repo.ErrUnavailable, repo.ErrNoSpace, repo.ErrFormat, repo.ErrKey, transfer.ErrAborted and
// the like.
func (e *Engine) Upload(ctx context.Context, id, location string, opts TransferOptions) (*transfer.Job, error) {
	if opts.Options.Uploads == 0 {
		opts.Options.Uploads = 4
	}
	if opts.Transfer.Fetches == 0 {
		opts.Transfer.Fetches = 4 // each takes memory, and a near repository needs no more
	}
	opts.Transfer.Near = transfer.NearSource
	return e.startTransfer(ctx, transfer.KindUpload, id, location, opts)
}

// Download starts a job that copies a snapshot from the repository at a location to this
// one. It is like Upload in all else; a location without a repository is
// repo.ErrNotRepository.
func (e *Engine) Download(ctx context.Context, id, location string, opts TransferOptions) (*transfer.Job, error) {
	opts.MustExist = true
	opts.Transfer.Near = transfer.NearDestination
	return e.startTransfer(ctx, transfer.KindDownload, id, location, opts)
}

func (e *Engine) startTransfer(ctx context.Context, kind transfer.Kind, id, location string, opts TransferOptions) (*transfer.Job, error) {
	if opts.Plain && opts.Key != nil {
		return nil, fmt.Errorf("%w: TransferOptions.Plain and Key exclude each other", ErrConfig)
	}
	var where repo.Location
	if opts.Bucket == nil {
		locations := opts.Locations
		if locations == nil {
			locations = e.config.Locations
		}
		var err error
		if where, err = repo.ParseLocation(location, withLocal(locations)); err != nil {
			return nil, err
		}
		location = where.String()
	}
	task := transfer.Task{
		Kind: kind, Snapshot: id, Location: location, Exclusive: fmt.Sprintf("the %s of %s and %s", kind, id, location),
	}
	return e.startJob(ctx, task, func(ctx context.Context, r *transfer.Reporter) error {
		return e.transfer(ctx, kind, id, where, opts, r)
	})
}

// transfer is the work of an upload or download.
func (e *Engine) transfer(ctx context.Context, kind transfer.Kind, id string, where repo.Location, opts TransferOptions, r *transfer.Reporter) (err error) {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if kind == transfer.KindUpload {
		// Before anything is made for it elsewhere.
		if _, err := e.repo.Manifest(ctx, id); err != nil {
			return err
		}
	}
	bucket := opts.Bucket
	if bucket == nil {
		bucket, err = repo.OpenLocation(ctx, where, repo.OpenLocationOptions{Create: !opts.MustExist})
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", repo.ErrNotRepository, err)
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, bucket.Close()) }()
	}
	other, err := e.openOther(ctx, bucket, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	dst, src := other, e.repo
	if kind == transfer.KindDownload {
		dst, src = e.repo, other
	}
	if !src.SameIdentity(dst) {
		r.Reencoded()
	}
	if opts.Transfer.Logger == nil {
		opts.Transfer.Logger = e.log
	}
	also := opts.Transfer.Progress
	opts.Transfer.Progress = func(p transfer.Progress) {
		r.Progress(p)
		if also != nil {
			also(p)
		}
	}
	_, err = transfer.Copy(ctx, dst, src, id, opts.Transfer)
	return err
}

// openOther opens the repository at the other end, and makes it first if it may.
func (e *Engine) openOther(ctx context.Context, bucket *blob.Bucket, opts TransferOptions) (*repo.Repository, error) {
	options := opts.Options
	options.Key = opts.Key
	if options.Key == nil && !opts.Plain {
		options.Key = e.config.Options.Key
	}
	if options.Logger == nil {
		options.Logger = e.log
	}
	r, err := repo.Open(ctx, bucket, options)
	if !errors.Is(err, repo.ErrNotRepository) || opts.MustExist {
		return r, err
	}
	init := repo.InitOptions{Retry: options.Retry}
	if options.Key != nil {
		init.Encryption = &repo.Encryption{Key: options.Key, SameIdentityAs: e.repo}
		if opts.OwnIdentity {
			init.Encryption.SameIdentityAs = nil
		}
	}
	if err := repo.Init(ctx, bucket, init); err != nil && !errors.Is(err, repo.ErrRepositoryExists) {
		return nil, err
	}
	return repo.Open(ctx, bucket, options)
}
