package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// RestoreOptions say what is restored, and where to. To must be set; the zero
// value of everything else works.
type RestoreOptions struct {
	// To is the folder to restore to. It is made absolute. Its parent folder must
	// exist and be writable: the data is put together beside To. To itself must
	// not exist or be empty, unless InPlace is set, and must not be a mount point.
	To string
	// Source restores this source alone, its files straight into To. When it is
	// empty everything is restored, each source into a folder of its name.
	Source string
	// Include and Skip are patterns of what is restored; see Pattern. With Include only what
	// one of them covers is, and the folders that lead there; what one of Skip covers is not,
	// also if it is included.
	Include, Skip []string
	// AllowPartial lets a snapshot that was made with patterns be restored in place. Without
	// it that fails with ErrPartial: what the snapshot lacks would be missing.
	AllowPartial bool
	// Match chooses files and folders by their path in the snapshot, which begins
	// with the source's name. The folders above them come with them; what lies in
	// a chosen folder is asked for by itself. It is called several times for each
	// path, by one goroutine, and must always answer alike. Nil chooses all. It is asked for what Include and
	// Skip have chosen.
	Match func(path string) bool
	// InPlace replaces what stands at To, and keeps it as the failsafe; see
	// Engine.Restore. Where nothing stands there it is made new.
	InPlace bool
	// KeepFailsafes is how many failsafes stand beside To at most once a restore in place
	// has completed, its own included. Older ones are removed, with those of Undo; if that
	// fails it is logged, and the restore is none the worse. 0 or less: all are kept, and are
	// the caller's to remove, since they fill the disk.
	KeepFailsafes int
	// Stop closes the database at To and Start opens it, for InPlace only. Either
	// may be nil, for a server that is down. Stop is called when everything is
	// restored and durable. Start is called after the exchange with a context that
	// is never cancelled; its error undoes the restore. An engine that takes snapshots of that
	// database finds the one which is open now by Current. Start may call Recover, but
	// neither may call Restore or Undo with the same To.
	Stop, Start func(ctx context.Context) error
	// NoReuse has everything fetched from the repository. Otherwise a restore in place
	// takes what it can from the folder that stands at To: each chunk of the snapshot is
	// compared with the bytes at its place in the file of the same name, and fetched
	// only where they differ. Nothing there is trusted, only read: a chunk that is taken
	// has the right hash. On Linux, where the file system can share blocks between files, as
	// XFS and btrfs do, a file that is much like the one there shares what is the same with
	// it, until either is written to. Elsewhere the bytes are copied.
	NoReuse bool
	// ReuseFrom names another folder to take bytes from, such as an earlier restore, in
	// place or not. It is laid out like To.
	ReuseFrom string
	// NoLinks makes no hard links. Otherwise a restore in place makes a hard link to a
	// file that stands at To where its class in the snapshot is Immutable, all of it has
	// the right hash, and its permissions, time and owner are those that it would get.
	// The database and the failsafe share such files, which is safe as long as the database
	// keeps what the class promises and never writes to them. Files of other classes
	// are never linked.
	NoLinks bool
	// SkipSpaceCheck restores even if the sum of the files' sizes is more than what
	// the file system has left: for files that are mostly holes, or are mostly linked to or
	// share their blocks with those that stand there. A lack of room shows only when writing
	// fails.
	SkipSpaceCheck bool
	// Workers is how many goroutines decode and write at once, at most 1024. Default:
	// Config.Workers.
	Workers int
	// Fetches is how many requests to the repository may be under way at once, at most
	// 1024. The greater of Workers and Fetches times 4 MiB is the memory for what is
	// read; the plan takes up to 75 MiB more, 10 MiB where chunks have 64 KiB. Default: two
	// more than Workers for a local repository, else repo.DefaultFetches.
	Fetches int
	// Remote says how the repository is opened that holds a snapshot which is registered and
	// not here.
	Remote RegisterOptions
	// Progress is told how far the call is, at most ten times a second in a phase,
	// and at its end; never from two goroutines at once. It must return soon.
	Progress func(Progress)
}

// RestoreResult is what a restore did.
type RestoreResult struct {
	// To is the target as an absolute path without symbolic links.
	To string
	// Previous is the failsafe: the path of what stood at To before a restore in
	// place. Empty if nothing did. Remove it once the restored state is found good,
	// or put it back with Undo.
	Previous string
	// FailsafesRemoved counts older failsafes that were removed; see
	// RestoreOptions.KeepFailsafes.
	FailsafesRemoved int64
	// Files and Directories count what was restored, without To itself.
	Files, Directories int64
	// Bytes is the sum of the files' sizes, holes included.
	Bytes int64
	// BytesReused is how many bytes were found in a local folder instead of the
	// repository; see RestoreOptions.NoReuse. FilesLinked is how many files of it were
	// taken over as hard links, whose bytes are among them.
	BytesReused, FilesLinked int64
	// BytesCloned is how many of the bytes reused were neither copied nor linked: the
	// restored file shares its blocks with the one in the local folder, until either is
	// written to.
	BytesCloned int64
	// BytesFetched is how many bytes were read from packs, compressed as they are stored.
	BytesFetched int64
	// Duration is the time of the whole call.
	Duration time.Duration
}

// Restore writes a snapshot, or a part of it, to a folder: a new one, or in place
// of one that a database lives in. It is safe for concurrent use; a second restore
// of the same target fails with ErrBusy. A snapshot that is registered and not here is
// fetched from where it is; see Register.
//
// It assumes that
//
//  1. renaming a folder within its parent is atomic, also in a crash;
//  2. what fsync said is durable stays durable, for a file and for the entries of
//     a folder;
//  3. nobody else renames or writes to what the restore puts beside the target
//     under names that begin with a dot and the target's own name;
//  4. a server calls Recover before it opens its database.
//
// It goes through these steps. What a failure or a crash leaves in each is said
// with it.
//
//  1. The lock file is made beside the target and held, in the sense of flock(2),
//     to the end. What an earlier restore left after a crash is settled as by
//     Recover.
//  2. The file table is read to its end, and the room on the file system compared
//     with the sum of the sizes. A table that could not have been written by a
//     snapshot fails here with repo.ErrCorrupt. Nothing was written so far.
//  3. Everything is written into a new staging folder beside the target. Each pack is
//     read once and in order, as far as 4 GiB of files go, several ranges at a time; what
//     a local folder has is taken from there. Every chunk is verified; runs of 64 KiB of zeros become holes. Where the
//     system can, blocks are set aside for all else of a file, in stretches of 1 MiB and
//     more, before it is written: if that fails for lack of room the restore ends there.
//     Permissions and modification times are set; where an entry has no permissions, a file gets 0600
//     and a folder 0700. The top folder takes over the permissions of what stands at
//     the target, and for root all files take over its owner. Each file is synced,
//     then each folder, those below first. After a failure or when ctx ends the
//     staging folder is removed; after a crash Recover removes it. The target was
//     not touched.
//  4. Not in place: the staging folder is renamed to the target, which replaces
//     nothing but an empty folder, and the parent folder is synced; if that fails
//     the target is taken away again. After a crash it is there completely or as it
//     was. This is the end.
//  5. In place: the journal is written, durably. It names both folders by their
//     inodes, so that a crash from here to the end of step 9 can be settled by
//     looking which of them is at the target. Stop is called. When it fails, or
//     ctx ends, Start is called to bring the database back, and the staging folder
//     and the journal are removed.
//  6. The staging folder and the target exchange their names in one system call,
//     and the parent folder is synced. Where the system cannot exchange, the target
//     is renamed to the failsafe's name, then the staging folder to the target. A
//     crash before the exchange, or between the two renames, is undone by Recover;
//     after it, completed. ctx has no effect from here on.
//  7. The journal is brought up to date. A failure in steps 6 and 7 puts the old
//     folder back, as in step 8.
//  8. Start is called. When it fails, the exchange is undone, Start is called again
//     for the old data, the restored data is removed, and the error is a
//     *RestoreError that unwraps to what Start returned. A crash during this is
//     undone by Recover.
//  9. The old folder is renamed to the failsafe's name, the parent folder synced,
//     and the journal removed. When this fails the result is returned with the
//     error: the restored data is at the target and the database runs.
//  10. With KeepFailsafes older failsafes are removed, each after it was given the name of
//     a staging folder: Recover removes what a crash leaves of it.
//
// It fails with ErrNotFound or ErrBadID, with ErrUnknownSource or ErrNoMatch, with ErrPattern or ErrPartial, with
// ErrTarget, ErrTargetExists, ErrBusy or ErrJournal, with a *SpaceError, with
// ErrClosed, with a *repo.ChunkError or one that matches repo.ErrCorrupt, with a
// *RestoreError from step 5 on, or with an error of the file system.
func (e *Engine) Restore(ctx context.Context, id string, opts RestoreOptions) (_ *RestoreResult, err error) {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if opts.Workers == 0 {
		opts.Workers = e.config.Workers
	}
	m, err := e.known(ctx, id)
	if err != nil {
		return nil, err
	}
	r := restorer{repo: e.repo, manifest: m, local: e.local, opts: opts, log: e.log}
	if m.Location != "" {
		other, openErr := e.openAt(ctx, m.Location, opts.Remote)
		if openErr != nil {
			return nil, openErr
		}
		defer func() { err = errors.Join(err, other.close()) }()
		// As it is there now.
		if r.manifest, err = other.repo.Manifest(ctx, id); err != nil {
			return nil, fmt.Errorf("snapshot: %s: %w", m.Location, err)
		}
		r.repo, r.local = other.repo, ""
		if other.where.IsLocal() {
			r.local = other.where.Path()
		}
	}
	return r.run(ctx)
}

// A restorer is one restore.
type restorer struct {
	repo     *repo.Repository
	manifest *repo.Manifest
	// local is the folder of a local repository, else empty.
	local string
	opts  RestoreOptions
	// log is nil in some tests.
	log *slog.Logger
	// ops is nil but for tests.
	ops *fileOps
	// limits is zero but for tests.
	limits batchLimits
}

func (r *restorer) check() error {
	switch {
	case r.opts.Workers < 0 || r.opts.Workers > 1024:
		return fmt.Errorf("%w: Workers %d is not between 0 and 1024", ErrRestoreOptions, r.opts.Workers)
	case r.opts.Fetches < 0 || r.opts.Fetches > 1024:
		return fmt.Errorf("%w: Fetches %d is not between 0 and 1024", ErrRestoreOptions, r.opts.Fetches)
	case r.opts.NoReuse && r.opts.ReuseFrom != "":
		return fmt.Errorf("%w: ReuseFrom is set, and NoReuse forbids it", ErrRestoreOptions)
	case r.opts.InPlace && r.manifest.Partial != nil && !r.opts.AllowPartial:
		return fmt.Errorf("%w: snapshot %s has only what its patterns chose, and would replace all of %s: restore it elsewhere, or set AllowPartial", ErrPartial, r.manifest.ID, r.opts.To)
	case !r.opts.InPlace && (r.opts.Stop != nil || r.opts.Start != nil):
		return fmt.Errorf("%w: Stop and Start are for InPlace only", ErrRestoreOptions)
	}
	return nil
}

// matcher returns what chooses, nil for all.
func (o *RestoreOptions) matcher() (func(string) bool, error) {
	picks, err := newChoice(o.Include, o.Skip)
	if err != nil || picks == nil {
		return o.Match, err
	}
	return func(path string) bool {
		chosen, _ := picks.chosen(path)
		return chosen && (o.Match == nil || o.Match(path))
	}, nil
}

func (r *restorer) run(ctx context.Context) (result *RestoreResult, err error) {
	begun := time.Now()
	if err := r.check(); err != nil {
		return nil, err
	}
	match, err := r.opts.matcher()
	if err != nil {
		return nil, err
	}
	pick := selection{repo: r.repo, manifest: r.manifest, source: r.opts.Source, match: match}
	if err := pick.check(); err != nil {
		return nil, err
	}
	s, err := openSite(r.opts.To, r.ops)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	result, err = r.restore(ctx, s, &pick)
	if result != nil {
		result.Duration = time.Since(begun)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	var told *RestoreError
	if err != nil && !errors.As(err, &told) {
		err = fmt.Errorf("snapshot: restore snapshot %s to %s: %w", r.manifest.ID, s.target(), err)
	}
	return result, err
}

// restore does what Engine.Restore says, step by step.
func (r *restorer) restore(ctx context.Context, s *site, pick *selection) (*RestoreResult, error) {
	// Asked once before the lock, so that a target that cannot be is not touched.
	if _, err := s.inspect(r.opts.InPlace); err != nil {
		return nil, err
	}
	if err := s.keepApart(r.local); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := s.acquire(); err != nil {
		return nil, err
	}
	if _, err := s.recover(); err != nil {
		return nil, err
	}
	stands, err := s.inspect(r.opts.InPlace)
	if err != nil {
		return nil, err
	}
	x, err := pick.measure(ctx)
	if err != nil {
		return nil, err
	}
	if free, ok := freeSpace(s.path); ok && free < x.bytes && !r.opts.SkipSpaceCheck {
		return nil, &SpaceError{To: s.target(), Needed: x.bytes, Available: free}
	}
	track := newTracker(r.opts.Progress)
	track.filesTotal.Store(x.files)
	track.bytesTotal.Store(x.bytes)
	result := &RestoreResult{To: s.target(), Files: x.files, Directories: x.directories, Bytes: x.bytes}
	staged, err := r.stage(ctx, s, pick, stands, track, result)
	if err != nil {
		return nil, err
	}
	track.enter(PhaseExchange)
	placed, err := r.settle(ctx, s, staged, result)
	if !placed {
		return nil, err
	}
	track.finish()
	return result, err
}

// stage writes and syncs the staging folder and returns its name. If that fails
// it removes the folder.
func (r *restorer) stage(ctx context.Context, s *site, pick *selection, stands standing, track *tracker, result *RestoreResult) (staged string, err error) {
	reuser, err := r.openReuse(s, stands)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, reuser.close()) }()
	name, root, err := s.makeStaging()
	if err != nil {
		return "", err
	}
	st := stager{
		selection: *pick,
		ops:       r.ops,
		root:      root,
		stands:    stands,
		track:     track,
		parent:    s.parent,
		staging:   name,
		reuser:    reuser,
		reads:     r.reads(),
		limits:    r.limits.withDefaults(),
		to:        s.target(),
		tight:     r.opts.SkipSpaceCheck,
	}
	if reuser != nil {
		st.reads.Base = reuser.base
	}
	opened, statErr := root.Stat(".")
	err = errors.Join(statErr, st.write(ctx))
	result.BytesFetched = st.fetched
	if reuser != nil {
		result.BytesReused, result.FilesLinked = reuser.bytes.Load(), reuser.linked.Load()
		result.BytesCloned = reuser.cloned.Load()
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	// Some systems cannot rename a folder while it is open.
	err = errors.Join(err, root.Close())
	if err == nil {
		err = sameFolder(s, name, opened)
	}
	if err != nil {
		return "", errors.Join(err, s.ops.removeAll(s.parent, name))
	}
	return name, nil
}

// reads says how the repository is read: one that is near needs few requests at once,
// and none of them to be saved.
func (r *restorer) reads() repo.ReadChunksOptions {
	o := repo.ReadChunksOptions{Workers: r.opts.Workers, Fetches: r.opts.Fetches}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if r.local != "" {
		o.Gap = localGap
		if o.Fetches == 0 {
			o.Fetches = o.Workers + 2
		}
	}
	return o
}

// sameFolder makes sure that a name still stands for the folder that was written.
func sameFolder(s *site, name string, opened os.FileInfo) error {
	there, err := checkFolder(s.parent, name)
	if err == nil && !os.SameFile(there, opened) {
		err = fmt.Errorf("%w: %s was replaced by something else", ErrTarget, s.join(name))
	}
	return err
}

// settle makes the staging folder the target, and says whether it is.
func (r *restorer) settle(ctx context.Context, s *site, staged string, result *RestoreResult) (placed bool, err error) {
	if r.opts.InPlace {
		j, err := s.newJournal(r.manifest.ID, staged, true, time.Now())
		if err != nil {
			return false, errors.Join(err, s.ops.removeAll(s.parent, staged))
		}
		w := swap{site: s, j: j, stop: r.opts.Stop, start: r.opts.Start}
		result.Previous, err = w.run(ctx)
		if err == nil && r.opts.KeepFailsafes > 0 {
			r.trimFailsafes(ctx, s, result)
		}
		return err == nil || w.kept, err
	}
	// What stands there is asked again: staging may have taken hours.
	stands, err := s.inspect(false)
	if err == nil && stands.exists {
		err = s.ops.moveOver(s, staged, s.base)
	} else if err == nil {
		err = s.ops.move(s, staged, s.base)
	}
	if err == nil {
		err = s.ops.syncDir(s.dir)
		if err == nil {
			return true, nil
		}
		// A target that may be gone after a crash is none.
		if moveErr := s.ops.move(s, s.base, staged); moveErr != nil {
			return true, errors.Join(err, moveErr)
		}
		if stands.exists {
			err = errors.Join(err, s.ops.mkdir(s.parent, s.base))
		}
	}
	return false, errors.Join(err, s.ops.removeAll(s.parent, staged))
}
