package boltsource

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/holdstill/holdstill/snapshot"
)

// DefaultMaxStall is the longest that a View lets the server wait for a
// remapping, unless Options.MaxStall says otherwise.
const DefaultMaxStall = time.Second

var (
	// ErrGaveWay is what reading a View returns after it gave up its transaction
	// to let a stalled writer go on; see Options.MaxStall. A new snapshot is
	// likely to succeed. Opening the database with a larger
	// bbolt.Options.InitialMmapSize avoids it.
	ErrGaveWay = errors.New("boltsource: gave up the read transaction because the database had to enlarge its mapping")

	// ErrReplaced means that the file at the database's path is not the one that
	// is open: it was renamed, removed or replaced.
	ErrReplaced = errors.New("boltsource: the file at the database's path is not the open database")

	// ErrFormat means that a page of the file is not as bbolt writes it.
	ErrFormat = errors.New("boltsource: not a bbolt page")

	// ErrName means that Options.Name is not a single, plain file name.
	ErrName = errors.New("boltsource: the name must be a single path element")

	// ErrPlatform means that the file cannot be read here without dropping
	// bbolt's lock on it.
	ErrPlatform = errors.New("boltsource: bbolt's file lock does not survive a second descriptor on this platform")
)

// Options changes how a Source reads its database. The zero value is ready to
// use.
type Options struct {
	// Name is the name of the one file in the View. Empty means the base name of
	// the database's path. It must be a single path element.
	Name string

	// MaxStall bounds how long a View may hold up a server that has to enlarge
	// its mapping; see the package documentation. Zero means DefaultMaxStall. A
	// negative value never gives way: the server waits for the end of the
	// snapshot. While a View is open it begins a read transaction about every
	// MaxStall/2 to notice a stall; bbolt's statistics count these.
	MaxStall time.Duration

	// KeepFreePages leaves free pages as they are in the file instead of reading
	// them as zeros. The snapshot grows and is not repeatable. It is meant for
	// the rescue of a database whose list of free pages is in doubt.
	KeepFreePages bool

	// OpenFile opens the database's file for reading. Nil means os.OpenFile. It
	// must be given if the database was opened with bbolt.Options.OpenFile and
	// its path means nothing to the operating system.
	OpenFile func(name string, flag int, perm os.FileMode) (*os.File, error)

	// Logger is told when a View gives way. Nil means silence.
	Logger *slog.Logger
}

// A Source is an open bbolt database. It is safe for concurrent use, and needs no
// closing: only its Views do, before the database is closed. It implements
// [snapshot.Source].
type Source struct {
	db    *bbolt.DB
	opts  Options
	path  string // of the database; empty in a DB that has been closed
	epoch string
}

var _ snapshot.Source = (*Source)(nil)

// New returns a Source that reads db, which stays open for as long as the Source
// is used and must not be nil. Nothing is read yet.
func New(db *bbolt.DB, opts Options) *Source {
	var epoch [16]byte
	_, _ = rand.Read(epoch[:]) // never fails: see crypto/rand
	return &Source{db: db, opts: opts, path: db.Path(), epoch: "bbolt-" + hex.EncodeToString(epoch[:])}
}

// Pin begins a read transaction and returns the database as of it. The time does
// not depend on the size of the database. See the package documentation for what
// a View costs while it is open.
//
// It returns ErrName or ErrPlatform, the context's error, or an error that wraps
// bbolt's, such as errors.ErrDatabaseNotOpen. If ctx ends while bbolt keeps the
// call waiting, Pin returns at once, and the transaction is rolled back as soon
// as bbolt hands it out.
func (s *Source) Pin(ctx context.Context) (*snapshot.View, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	switch runtime.GOOS {
	case "aix", "android", "illumos", "solaris":
		return nil, fmt.Errorf("%w: %s", ErrPlatform, runtime.GOOS)
	}
	tx, err := begin(ctx, s.db)
	if err != nil {
		return nil, fmt.Errorf("boltsource: pin %s: %w", s.path, err)
	}
	name := s.opts.Name
	if name == "" {
		name = filepath.Base(s.path)
	}
	if name == "." || !fs.ValidPath(name) || strings.ContainsRune(name, '/') {
		return nil, errors.Join(fmt.Errorf("%w: %q: set Options.Name", ErrName, name), tx.Rollback())
	}
	v := &view{
		source:   s,
		name:     name,
		pinned:   time.Now().UTC(),
		tx:       tx,
		txID:     uint64(tx.ID()),
		size:     tx.Size(),
		pageSize: s.db.Info().PageSize,
		done:     make(chan struct{}),
	}
	if stall := s.maxStall(); stall > 0 {
		v.watcher.Go(func() { v.watch(stall) })
	}
	return &snapshot.View{
		FS:       v,
		Hint:     v.hint,
		Settle:   v.settle,
		Close:    v.close,
		Kind:     "bbolt",
		Method:   "read-transaction",
		Epoch:    s.epoch,
		Position: strconv.FormatUint(v.txID, 10),
		Metadata: map[string]string{
			"page_size":         strconv.Itoa(v.pageSize),
			"mmap_headroom_min": strconv.FormatInt(headroom(v.size), 10),
		},
	}, nil
}

func (s *Source) maxStall() time.Duration {
	if s.opts.MaxStall == 0 {
		return DefaultMaxStall
	}
	return s.opts.MaxStall
}

func (s *Source) openFile() (*os.File, error) {
	open := s.opts.OpenFile
	if open == nil {
		open = os.OpenFile
	}
	return open(s.path, os.O_RDONLY, 0)
}

// begin is db.Begin(false) with a context. bbolt holds new transactions back
// while a writer waits to enlarge the mapping, and knows no contexts.
func begin(ctx context.Context, db *bbolt.DB) (*bbolt.Tx, error) {
	if ctx.Done() == nil {
		return db.Begin(false)
	}
	type result struct {
		tx  *bbolt.Tx
		err error
	}
	got := make(chan result, 1)
	go func() {
		tx, err := db.Begin(false)
		got <- result{tx, err}
	}()
	select {
	case r := <-got:
		return r.tx, r.err
	case <-ctx.Done():
		go func() {
			if r := <-got; r.tx != nil {
				_ = r.tx.Rollback()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// headroom is the least that a mapping which holds size bytes has to spare.
// bbolt maps powers of two from 32 KiB to 1 GiB, and whole GiB above.
func headroom(size int64) int64 {
	const gib = 1 << 30
	for step := int64(32 << 10); step <= gib; step <<= 1 {
		if size <= step {
			return step - size
		}
	}
	return (gib - size%gib) % gib
}
