package pebblesource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdstill/holdstill/snapshot"
)

// The values of View.Method.
const (
	// MethodEarlyRelease: the freeze ended while the checkpoint was being made.
	MethodEarlyRelease = "early-release"
	// MethodUnderGate: the whole checkpoint was made inside the freeze.
	MethodUnderGate = "checkpoint-under-gate"
)

// Kind is the View.Kind of this package's views.
const Kind = "pebble"

// scratchName is the folder for checkpoints within Options.ScratchDir.
const scratchName = "holdstill-scratch"

// pinPrefix begins the names of the checkpoints in it.
const pinPrefix = "pin-"

// Options of New and Open. The zero value is right for most servers.
type Options struct {
	// FS is the file system the database was opened with. If it is an *FS, pins
	// can release the freeze early. Nil means vfs.Default. Open ignores it and
	// takes the one of pebble.Options.
	FS vfs.FS

	// ScratchDir is the folder in which the folder "holdstill-scratch" is made,
	// for checkpoints. It must lie on the file system of the database:
	// elsewhere tables are copied and not linked. Two databases need two. Empty
	// means the database's own folder.
	ScratchDir string

	// RequireEarlyRelease makes New fail where a pin would have to make the whole
	// checkpoint inside the freeze. The error is that of Source.EarlyRelease.
	RequireEarlyRelease bool
}

// A Source is one Pebble database. It implements snapshot.Preparer and is safe
// for concurrent use.
type Source struct {
	db      *pebble.DB
	fs      vfs.FS
	watcher *FS   // nil unless the database was opened through an FS
	why     error // why there is no early release; nil if there is
	scratch string
	walDir  bool      // the log lies in another folder
	lock    io.Closer // on the scratch folder
	make    checkpointFunc

	wg sync.WaitGroup // goroutines and checkpoints under way

	mu     sync.Mutex
	closed bool
	pins   int                      // pins begun so far
	live   map[*checkpoint]struct{} // not closed yet
	brake  *checkpoint              // held since Prepare, or nil
}

// checkpointFunc is the type of (*pebble.DB).Checkpoint.
type checkpointFunc = func(db *pebble.DB, dest string, opts ...pebble.CheckpointOption) error

var _ snapshot.Preparer = (*Source)(nil)

// Open opens the Pebble database in dir, as pebble.Open does, in the way in which
// it can be snapshotted with the shortest stall. A nil dbOpts means the defaults.
// dbOpts is not changed.
//
// Close the Source first, then the database. The errors are those of pebble.Open
// and of New.
func Open(dir string, dbOpts *pebble.Options, opts Options) (*pebble.DB, *Source, error) {
	dbOpts = dbOpts.Clone()
	if _, ok := dbOpts.FS.(*FS); !ok {
		dbOpts.FS = NewFS(dbOpts.FS)
	}
	opts.FS = dbOpts.FS
	db, err := pebble.Open(dir, dbOpts)
	if err != nil {
		return nil, nil, err
	}
	src, err := New(db, dir, opts)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, src, nil
}

// New returns the Source for an open database. dir is the folder that was given
// to pebble.Open. New commits a log-only record to find out where the log is, and
// removes what an earlier life of the process left in the scratch folder.
//
// It fails with ErrNotDatabase, ErrNoWAL, ErrScratchInUse, with pebble.ErrReadOnly
// for a database that was opened read-only (its folder does not change: snapshot it
// as a folder), and with the errors of the file system.
func New(db *pebble.DB, dir string, opts Options) (*Source, error) {
	s := newSource(db, opts.FS)
	cfg, err := readConfig(s.fs, dir)
	if err != nil {
		return nil, err
	}
	if cfg.disableWAL {
		return nil, fmt.Errorf("%w (%s): open it without DisableWAL", ErrNoWAL, dir)
	}
	s.walDir = cfg.walDir
	if opts.ScratchDir == "" {
		opts.ScratchDir = dir
	}
	s.scratch = s.fs.PathJoin(opts.ScratchDir, scratchName)
	if err := s.openScratch(); err != nil {
		return nil, err
	}
	if s.why, err = s.findWhyNot(cfg); err == nil && opts.RequireEarlyRelease {
		err = s.why
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func newSource(db *pebble.DB, fs vfs.FS) *Source {
	if fs == nil {
		fs = vfs.Default
	}
	s := &Source{db: db, fs: fs, make: (*pebble.DB).Checkpoint, live: make(map[*checkpoint]struct{})}
	s.watcher, _ = fs.(*FS)
	return s
}

// EarlyRelease returns nil if pins end the freeze before the checkpoint is made,
// and otherwise the reason why they do not: ErrNotCaptured, ErrFailover or
// ErrCallOrder.
func (s *Source) EarlyRelease() error { return s.why }

// findWhyNot finds the reason that forbids an early release. err is for what
// forbids any use of the database.
func (s *Source) findWhyNot(cfg config) (why, err error) {
	c := s.newCapture(s.fs.PathJoin(s.scratch, "none"))
	if c != nil {
		defer c.forget()
	}
	m, err := s.mark(c)
	if err == nil {
		err = m.wait(context.Background())
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("pebblesource: cannot write to the log: %w", err)
	case cfg.failover:
		return ErrFailover, nil
	case c == nil:
		return fmt.Errorf("%w: Options.FS is not a *pebblesource.FS", ErrNotCaptured), nil
	case !isDone(c.marked):
		return fmt.Errorf("%w: its log is written past it", ErrNotCaptured), nil
	}
	return tryOrder(), nil
}

func isDone(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// openScratch makes and locks the scratch folder, and empties it.
func (s *Source) openScratch() error {
	if err := s.fs.MkdirAll(s.scratch, 0o755); err != nil {
		return fmt.Errorf("pebblesource: cannot make the scratch folder: %w", err)
	}
	lock, err := s.fs.Lock(s.fs.PathJoin(s.scratch, "LOCK"))
	if err != nil {
		return fmt.Errorf("%w: %s: close the other Source, or set Options.ScratchDir: %w",
			ErrScratchInUse, s.scratch, err)
	}
	names, err := s.fs.List(s.scratch)
	for _, name := range names {
		if strings.HasPrefix(name, pinPrefix) {
			err = errors.Join(err, s.fs.RemoveAll(s.fs.PathJoin(s.scratch, name)))
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("pebblesource: cannot clear the scratch folder: %w", err), lock.Close())
	}
	s.lock = lock
	return nil
}

// Close ends every View that is still open, waits until nothing of the Source
// runs any more, and lets go of the scratch folder. Call it before the
// database is closed. Further calls do nothing.
func (s *Source) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.wg.Wait()
		return nil
	}
	s.closed = true
	live := make([]*checkpoint, 0, len(s.live))
	for k := range s.live {
		live = append(live, k)
	}
	s.mu.Unlock()

	var err error
	for _, k := range live {
		err = errors.Join(err, k.close())
	}
	s.wg.Wait()
	return errors.Join(err, s.lock.Close())
}

// enter announces a piece of work that Close has to wait for with s.wg.
func (s *Source) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.wg.Add(1)
	return nil
}
