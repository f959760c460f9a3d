package sqlitesource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/adapter/internal/onefile"
)

const (
	methodOverlay = "wal-overlay"
	methodDBPage  = "dbpage"
)

// view is one pinned commit. It is the fs.FS of a snapshot.View.
type view struct {
	source   *Source
	public   *snapshot.View
	header   *indexHeader // nil if SQLite knows nothing of the log
	pinned   time.Time
	position string

	// mu lets reads run together (RLock) and keeps the transaction open until
	// those under way have ended (Lock). It guards all below.
	mu       sync.RWMutex
	conn     *conn // nil once given up
	lost     error // why conn is nil: fs.ErrClosed or ErrLogGrowth
	file     *pagedFile
	mode     fs.FileMode
	logSize  int64 // of the log's file when settled
	closers  []func() error
	settled  bool
	pageSize int64
}

func (v *view) hint(name string) snapshot.Hint {
	if name != v.source.name {
		return snapshot.Hint{}
	}
	h := snapshot.Hint{Class: snapshot.Paged}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.settled {
		h.PageSize = int(v.pageSize)
	}
	// The salts are random for each life of a log, and the checksum of the last
	// frame depends on all frames.
	if v.header != nil && v.header.maxFrame != 0 {
		h.Identity = fmt.Sprintf("wal-%x-%d-%08x%08x-%d", v.header.salt, v.header.maxFrame,
			v.header.checksum[0], v.header.checksum[1], v.header.pages)
	}
	return h
}

// settle learns the size and chooses the way to read. It does its work once.
func (v *view) settle(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lost != nil {
		return v.lost
	}
	if v.settled {
		return nil
	}
	if v.conn.moved() {
		return fmt.Errorf("%w: %s", ErrReplaced, v.conn.path)
	}
	info, err := os.Stat(v.conn.path)
	if err != nil {
		return fmt.Errorf("sqlitesource: %w", err)
	}
	pageSize, err := v.conn.number("PRAGMA page_size")
	if err != nil {
		return err
	}
	pages, err := v.conn.number("PRAGMA page_count")
	if err != nil {
		return err
	}
	if !validPageSize(pageSize) || pages < 0 || pages > 1<<32-2 {
		return fmt.Errorf("sqlitesource: %s has %d pages of %d bytes", v.conn.path, pages, pageSize)
	}
	reader, method, err := v.choose(ctx, pageSize, pages)
	if err != nil {
		return err
	}
	if info, err := os.Stat(v.conn.path + "-wal"); err == nil {
		v.logSize = info.Size()
	}
	v.mode, v.pageSize, v.settled = info.Mode().Perm(), pageSize, true
	v.file = &pagedFile{pages: reader, pageSize: pageSize, size: pages * pageSize}
	v.public.Method = method
	v.public.Metadata["page_size"] = strconv.FormatInt(pageSize, 10)
	v.public.Metadata["pages"] = strconv.FormatInt(pages, 10)
	if v.header != nil {
		v.public.Metadata["log_frames"] = strconv.FormatUint(uint64(v.header.maxFrame), 10)
	}
	return nil
}

// choose prefers the direct way, and falls back to SQLite's own.
func (v *view) choose(ctx context.Context, pageSize, pages int64) (pageReader, string, error) {
	viaSQLite := &dbpageReader{conn: v.conn, pageSize: pageSize}
	if v.source.opts.DBPage {
		return viaSQLite, methodDBPage, nil
	}
	o, err := v.direct(ctx, pageSize, pages)
	if err == nil {
		return o, methodOverlay, nil
	}
	for _, c := range v.closers {
		err = errors.Join(err, c())
	}
	v.closers = nil
	if cause := context.Cause(ctx); cause != nil {
		return nil, "", cause
	}
	if v.source.opts.Logger != nil {
		v.source.opts.Logger.Warn("sqlite snapshot reads through sqlite_dbpage", "path", v.conn.path, "reason", err)
	}
	return viaSQLite, methodDBPage, nil
}

func (v *view) direct(ctx context.Context, pageSize, pages int64) (*overlay, error) {
	header := v.header
	if header == nil {
		header = &indexHeader{}
	}
	if header.maxFrame != 0 && (header.pageSize != pageSize || int64(header.pages) != pages) {
		return nil, fmt.Errorf("%w: %d pages of %d bytes, the index says %d of %d",
			ErrFormat, pages, pageSize, header.pages, header.pageSize)
	}
	main, done, err := directFile(v.conn)
	if err != nil {
		return nil, err
	}
	v.closers = append(v.closers, done)
	o := &overlay{main: main, pageSize: pageSize}
	if header.maxFrame != 0 {
		// The log carries no locks: it may be opened and closed freely.
		wal, err := os.Open(v.conn.path + "-wal")
		if err != nil {
			return nil, err
		}
		v.closers = append(v.closers, wal.Close)
		o.wal = wal
	}
	o.index, err = indexWAL(ctx, o.wal, header)
	return o, err
}

// readAt reads the file while the transaction is surely open.
func (v *view) readAt(p []byte, off int64) (int, error) {
	if err := v.checkLog(); err != nil {
		return 0, err
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.lost != nil {
		return 0, &fs.PathError{Op: "read", Path: v.source.name, Err: v.lost}
	}
	return v.file.ReadAt(p, off)
}

// checkLog gives the transaction up if the log has grown too far.
func (v *view) checkLog() error {
	limit := v.source.opts.MaxLogGrowth
	if limit <= 0 {
		return nil
	}
	v.mu.RLock()
	lost, grown := v.lost, int64(0)
	if lost == nil {
		if info, err := os.Stat(v.conn.path + "-wal"); err == nil {
			grown = info.Size() - v.logSize
		}
	}
	v.mu.RUnlock()
	if lost != nil || grown <= limit {
		return nil
	}
	return v.release(ErrLogGrowth)
}

func (v *view) close() error { return v.release(fs.ErrClosed) }

// release ends the transaction, once, and makes why the answer to later reads.
func (v *view) release(why error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.conn == nil {
		return nil
	}
	c := v.conn
	v.conn, v.lost = nil, why
	var err error
	for _, done := range v.closers {
		err = errors.Join(err, done())
	}
	if rollback := c.unpin(); rollback != nil {
		return errors.Join(err, rollback, c.close())
	}
	return errors.Join(err, v.source.give(c))
}

// open gives the file to the FS. It settles the view if that has not been done.
func (v *view) open() (onefile.Content, error) {
	if err := v.settle(context.Background()); err != nil {
		return onefile.Content{}, err
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	return onefile.Content{At: v.readAt, Size: v.file.size, Mode: v.mode, ModTime: v.pinned}, nil
}

// Open implements fs.FS.
func (v *view) Open(name string) (fs.File, error) { return onefile.Open(name, v.source.name, v.open) }
