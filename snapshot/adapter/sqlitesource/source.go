package sqlitesource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdstill/holdstill/snapshot"
)

// DefaultBusyTimeout is how long Pin tries while SQLite says that the database is
// locked, unless Options.BusyTimeout says otherwise.
const DefaultBusyTimeout = 250 * time.Millisecond

// maxIdle connections are kept open between snapshots.
const maxIdle = 2

var (
	// ErrNotWAL means that the database is not in WAL mode. Run
	// PRAGMA journal_mode=WAL once; the database remembers it.
	ErrNotWAL = errors.New("sqlitesource: the database is not in WAL mode")

	// ErrReplaced means that the file at the path is no longer the one that the
	// View was pinned on: it was renamed, removed or replaced.
	ErrReplaced = errors.New("sqlitesource: the database file was moved or replaced")

	// ErrLogGrowth is what reading a View returns after it gave up its transaction
	// because the log had grown by more than Options.MaxLogGrowth.
	ErrLogGrowth = errors.New("sqlitesource: gave up the read transaction because the log grew beyond the limit")

	// ErrFormat means that something in the log is not as SQLite writes it. It
	// makes a View fall back to the method "dbpage".
	ErrFormat = errors.New("sqlitesource: not a write-ahead log of this database")

	// ErrName means that Options.Name is not a single, plain file name.
	ErrName = errors.New("sqlitesource: the name must be a single path element")

	errNotDirect = errors.New("sqlitesource: the file cannot be read directly")
)

// Options changes how a Source reads its database. The zero value is ready to
// use.
type Options struct {
	// Name is the name of the one file in the View. Empty means the base name of
	// the path. It must be a single path element.
	Name string

	// VFS names the SQLite VFS to open the database with. It must be the one the
	// server uses. Empty means SQLite's default.
	VFS string

	// BusyTimeout is how long Pin tries again while the database is locked, which
	// in WAL mode happens only around recovery, to a database in exclusive locking
	// mode, and while the last connection closes. Zero means DefaultBusyTimeout.
	// A negative value means one try.
	BusyTimeout time.Duration

	// MaxLogGrowth, in bytes, bounds what a View may let the log file grow by. A
	// read that finds it grown further gives up the transaction and fails with
	// ErrLogGrowth, and so does the snapshot. Zero means no bound.
	MaxLogGrowth int64

	// DBPage reads all pages through SQLite, never directly.
	DBPage bool

	// Logger is told why a View fell back to the method "dbpage". Nil means
	// silence.
	Logger *slog.Logger
}

// A Source is a SQLite database. It is safe for concurrent use. It implements
// [snapshot.Source] and [snapshot.Preparer].
type Source struct {
	path string
	name string
	opts Options

	mu     sync.Mutex // guards what follows
	idle   []*conn    // warm, without a transaction
	closed bool
}

var _ snapshot.Preparer = (*Source)(nil)

// New returns a Source for the database at path, which must exist and be in WAL
// mode. It opens one connection, and holds it until Close.
//
// It returns ErrName, ErrNotWAL, the context's error, an *fs.PathError if there is
// no such file, or, around fs.ErrInvalid, for a URI or a database in memory, or an *Error.
func New(ctx context.Context, path string, opts Options) (*Source, error) {
	if path == "" || path == ":memory:" || strings.HasPrefix(path, "file:") {
		return nil, fmt.Errorf("sqlitesource: %w", &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf(
			"%w: give the path of a file, not a URI; a database in memory cannot be snapshotted, since no other connection sees it", fs.ErrInvalid)})
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlitesource: %w", err)
	}
	info, err := os.Stat(full)
	if err != nil {
		return nil, fmt.Errorf("sqlitesource: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("sqlitesource: %w", &fs.PathError{Op: "open", Path: full, Err: errors.New("not a regular file")})
	}
	s := &Source{path: full, name: opts.Name, opts: opts}
	if s.name == "" {
		s.name = filepath.Base(full)
	}
	if s.name == "." || !fs.ValidPath(s.name) || strings.ContainsRune(s.name, '/') {
		return nil, fmt.Errorf("%w: %q: set Options.Name", ErrName, s.name)
	}
	if err := s.Prepare(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Prepare makes sure that a connection is ready for the next Pin, so that none
// has to be opened under the lock. It implements [snapshot.Preparer].
func (s *Source) Prepare(ctx context.Context) error {
	c, err := s.take(ctx)
	if err != nil {
		return err
	}
	return s.give(c)
}

// Close closes the connections that are not in use. Those of open Views are
// closed with them. Pin and Prepare fail with fs.ErrClosed afterwards. It may be
// called more than once.
func (s *Source) Close() error {
	s.mu.Lock()
	idle := s.idle
	s.idle, s.closed = nil, true
	s.mu.Unlock()
	var err error
	for _, c := range idle {
		err = errors.Join(err, c.close())
	}
	return err
}

// Pin begins a read transaction and returns the database as of the last commit.
// The time does not depend on the size of the database or of its log. See the
// package documentation for what a View costs while it is open.
//
// It returns fs.ErrClosed after Close, ErrNotWAL, the context's error, or an
// *Error, whose code is SQLITE_BUSY (5) if the database stayed locked.
func (s *Source) Pin(ctx context.Context) (*snapshot.View, error) {
	c, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	var header *indexHeader
	err = s.retry(ctx, func() (err error) {
		header, err = c.pin()
		return err
	})
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	v := &view{source: s, conn: c, header: header, pinned: time.Now().UTC(), position: "log-empty"}
	if header != nil {
		v.position = header.position()
	}
	v.public = &snapshot.View{
		FS:       v,
		Hint:     v.hint,
		Changed:  v.changed,
		Settle:   v.settle,
		Close:    v.close,
		Kind:     "sqlite",
		Method:   methodOverlay,
		Epoch:    "sqlite-wal-1", // an identity holds the log's random salts and never repeats
		Position: v.position,
		Metadata: map[string]string{}, // filled by Settle
	}
	return v.public, nil
}

// take returns an idle connection or a new one.
func (s *Source) take(ctx context.Context) (*conn, error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, fmt.Errorf("sqlitesource: %s: %w", s.path, fs.ErrClosed)
		}
		var c *conn
		if n := len(s.idle); n > 0 {
			c, s.idle = s.idle[n-1], s.idle[:n-1]
		}
		s.mu.Unlock()
		if c == nil {
			break
		}
		if !c.moved() {
			return c, nil
		}
		// Another database stands at the path now.
		if err := c.close(); err != nil {
			return nil, err
		}
	}
	c, err := openConn(s.path, s.opts.VFS)
	if err != nil {
		return nil, err
	}
	if err := s.retry(ctx, c.warm); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// give takes back a connection without a transaction.
func (s *Source) give(c *conn) error {
	s.mu.Lock()
	if !s.closed && len(s.idle) < maxIdle {
		s.idle = append(s.idle, c)
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return c.close()
}

// retry calls f until the database is not busy, within the timeout. SQLite's own
// way to wait knows no contexts.
func (s *Source) retry(ctx context.Context, f func() error) error {
	timeout := s.opts.BusyTimeout
	if timeout == 0 {
		timeout = DefaultBusyTimeout
	}
	deadline := time.Now().Add(timeout)
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		err := f()
		if !busy(err) || !time.Now().Before(deadline) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}
