package sqlitesource

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"modernc.org/libc"
	_ "modernc.org/sqlite" // sets the library up for the platform
	sqlite3 "modernc.org/sqlite/lib"
)

// A conn is a read-only connection of our own, below database/sql: the driver
// exposes neither sqlite3_snapshot_get nor the file of a connection. It is safe
// for concurrent use; calls run one at a time.
//
// It lives in the same copy of SQLite as the server's connections. That matters:
// SQLite's locks are of the process, and only one copy that knows all
// descriptors can close one without dropping the locks of the others.
type conn struct {
	mu     sync.Mutex
	tls    *libc.TLS
	db     uintptr // sqlite3*, 0 once closed
	main   uintptr // "main", as C text
	out    uintptr // scratch of 16 bytes for results
	begin  uintptr // prepared statements
	rolls  uintptr
	dbpage uintptr // prepared when first needed
	path   string  // as SQLite resolved it
}

// An Error is what SQLite answered to a call.
type Error struct {
	Op      string // what was tried
	Path    string // the database
	Code    int    // the result code, extended: see https://www.sqlite.org/rescode.html
	Message string // SQLite's own words
}

func (e *Error) Error() string {
	return fmt.Sprintf("sqlitesource: %s %s: %s (code %d)", e.Op, e.Path, e.Message, e.Code)
}

// primary is the result code without the details.
func (e *Error) primary() int { return e.Code & 0xff }

func busy(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.primary() == sqlite3.SQLITE_BUSY
}

// openConn opens path read-only. It needs the file to exist.
func openConn(path, vfs string) (*conn, error) {
	c := &conn{tls: libc.NewTLS(), path: path}
	if err := c.open(path, vfs); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *conn) open(path, vfs string) error {
	var err error
	if c.main, err = libc.CString("main"); err != nil {
		return err
	}
	if c.out = sqlite3.Xsqlite3_malloc(c.tls, 16); c.out == 0 {
		return c.fault("open", sqlite3.SQLITE_NOMEM)
	}
	name, err := libc.CString(path)
	if err != nil {
		return err
	}
	defer libc.Xfree(c.tls, name)
	var vfsName uintptr
	if vfs != "" {
		if vfsName, err = libc.CString(vfs); err != nil {
			return err
		}
		defer libc.Xfree(c.tls, vfsName)
	}
	c.setOut(0)
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, c.out,
		sqlite3.SQLITE_OPEN_READONLY|sqlite3.SQLITE_OPEN_FULLMUTEX|sqlite3.SQLITE_OPEN_PRIVATECACHE, vfsName)
	c.db = c.outPointer() // there may be one even after a failure
	if rc != sqlite3.SQLITE_OK {
		return c.fault("open", rc)
	}
	sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	// The last connection to close runs a checkpoint and removes the log. That is
	// for the server to do, never for us.
	args := sqlite3.Xsqlite3_malloc(c.tls, 16)
	if args == 0 {
		return c.fault("open", sqlite3.SQLITE_NOMEM)
	}
	defer sqlite3.Xsqlite3_free(c.tls, args)
	if rc := sqlite3.Xsqlite3_db_config(c.tls, c.db, sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
		libc.VaList(args, int32(1), uintptr(0))); rc != sqlite3.SQLITE_OK {
		return c.fault("configure", rc)
	}
	if p := sqlite3.Xsqlite3_db_filename(c.tls, c.db, c.main); p != 0 {
		if full := libc.GoString(p); full != "" {
			c.path = full
		}
	}
	if c.begin, err = c.prepare("BEGIN"); err != nil {
		return err
	}
	c.rolls, err = c.prepare("ROLLBACK")
	return err
}

// close gives everything back. A conn that failed to open may be closed too.
func (c *conn) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tls == nil {
		return nil
	}
	for _, stmt := range []uintptr{c.begin, c.rolls, c.dbpage} {
		sqlite3.Xsqlite3_finalize(c.tls, stmt)
	}
	var err error
	if c.db != 0 {
		if rc := sqlite3.Xsqlite3_close_v2(c.tls, c.db); rc != sqlite3.SQLITE_OK {
			err = c.fault("close", rc)
		}
	}
	sqlite3.Xsqlite3_free(c.tls, c.out)
	libc.Xfree(c.tls, c.main)
	c.tls.Close()
	c.tls, c.db = nil, 0
	return err
}

// warm reads something once, so that the log is open and the page size known. It
// returns ErrNotWAL for another journal mode.
func (c *conn) warm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	mode, err := c.text("PRAGMA journal_mode")
	if err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("%w: %s is in mode %q: run PRAGMA journal_mode=WAL", ErrNotWAL, c.path, mode)
	}
	_, err = c.text("SELECT count(*) FROM sqlite_schema")
	return err
}

// pin begins a read transaction and returns where in the log it stands. A nil
// header means that SQLite could not tell: the log is empty since it was made,
// or the database has left the WAL mode.
func (c *conn) pin() (*indexHeader, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.run(c.begin, "begin"); err != nil {
		return nil, err
	}
	// On a connection without a read transaction, sqlite3_snapshot_get begins one,
	// and takes care that it holds the log against being reset even if all of the
	// log has been copied to the database file. A SELECT would not.
	c.setOut(0)
	rc := sqlite3.Xsqlite3_snapshot_get(c.tls, c.db, c.main, c.out)
	if rc == sqlite3.SQLITE_OK {
		snap := c.outPointer()
		header, err := parseIndexHeader(libc.GoBytes(snap, indexHeaderSize))
		sqlite3.Xsqlite3_snapshot_free(c.tls, snap)
		if err == nil {
			return header, nil
		}
		return nil, errors.Join(err, c.run(c.rolls, "rollback"))
	}
	if rc == sqlite3.SQLITE_ERROR && sqlite3.Xsqlite3_txn_state(c.tls, c.db, c.main) == sqlite3.SQLITE_TXN_READ {
		mode, err := c.text("PRAGMA journal_mode")
		if err == nil && mode != "wal" {
			err = fmt.Errorf("%w: %s is in mode %q: run PRAGMA journal_mode=WAL", ErrNotWAL, c.path, mode)
		}
		if err == nil {
			return nil, nil
		}
		return nil, errors.Join(err, c.run(c.rolls, "rollback"))
	}
	err := c.fault("pin", rc)
	return nil, errors.Join(err, c.run(c.rolls, "rollback"))
}

// unpin ends the read transaction.
func (c *conn) unpin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.run(c.rolls, "rollback")
}

// number runs a query for one integer.
func (c *conn) number(query string) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var n int64
	err := c.row(query, func(stmt uintptr) { n = sqlite3.Xsqlite3_column_int64(c.tls, stmt, 0) })
	return n, err
}

// page copies the numbered page, from 1, of the pinned database into p.
func (c *conn) page(number int64, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dbpage == 0 {
		stmt, err := c.prepare("SELECT data FROM sqlite_dbpage('main') WHERE pgno=?1")
		if err != nil {
			return err
		}
		c.dbpage = stmt
	}
	defer sqlite3.Xsqlite3_reset(c.tls, c.dbpage)
	if rc := sqlite3.Xsqlite3_bind_int64(c.tls, c.dbpage, 1, number); rc != sqlite3.SQLITE_OK {
		return c.fault("read a page of", rc)
	}
	switch rc := sqlite3.Xsqlite3_step(c.tls, c.dbpage); rc {
	case sqlite3.SQLITE_ROW:
	case sqlite3.SQLITE_DONE:
		return fmt.Errorf("sqlitesource: %s has no page %d", c.path, number)
	default:
		return c.fault("read a page of", rc)
	}
	data := sqlite3.Xsqlite3_column_blob(c.tls, c.dbpage, 0)
	size := sqlite3.Xsqlite3_column_bytes(c.tls, c.dbpage, 0)
	if data == 0 || int(size) != len(p) {
		return fmt.Errorf("sqlitesource: page %d of %s has %d bytes, want %d", number, c.path, size, len(p))
	}
	copy(p, libc.GoBytes(data, int(size)))
	return nil
}

// vfsName is the name of the layer SQLite reads the file through.
func (c *conn) vfsName() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setOut(0)
	if rc := sqlite3.Xsqlite3_file_control(c.tls, c.db, c.main, sqlite3.SQLITE_FCNTL_VFSNAME, c.out); rc != sqlite3.SQLITE_OK {
		return ""
	}
	p := c.outPointer()
	if p == 0 {
		return ""
	}
	defer sqlite3.Xsqlite3_free(c.tls, p)
	return libc.GoString(p)
}

// moved reports whether the path names another file by now, or none.
func (c *conn) moved() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setOut(0)
	rc := sqlite3.Xsqlite3_file_control(c.tls, c.db, c.main, sqlite3.SQLITE_FCNTL_HAS_MOVED, c.out)
	// A VFS that does not know the question is given the benefit of the doubt.
	return rc == sqlite3.SQLITE_OK && binary.NativeEndian.Uint32(libc.GoBytes(c.out, 4)) != 0
}

// filePointer is the sqlite3_file of the database, or 0.
func (c *conn) filePointer() uintptr {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setOut(0)
	if rc := sqlite3.Xsqlite3_file_control(c.tls, c.db, c.main, sqlite3.SQLITE_FCNTL_FILE_POINTER, c.out); rc != sqlite3.SQLITE_OK {
		return 0
	}
	return c.outPointer()
}

// All below needs c.mu, except while c is being opened.

func (c *conn) prepare(query string) (uintptr, error) {
	q, err := libc.CString(query)
	if err != nil {
		return 0, err
	}
	defer libc.Xfree(c.tls, q)
	c.setOut(0)
	if rc := sqlite3.Xsqlite3_prepare_v2(c.tls, c.db, q, -1, c.out, 0); rc != sqlite3.SQLITE_OK {
		return 0, c.fault("prepare "+query+" on", rc)
	}
	return c.outPointer(), nil
}

func (c *conn) run(stmt uintptr, op string) error {
	rc := sqlite3.Xsqlite3_step(c.tls, stmt)
	var err error
	if rc != sqlite3.SQLITE_DONE {
		err = c.fault(op, rc)
	}
	sqlite3.Xsqlite3_reset(c.tls, stmt)
	return err
}

func (c *conn) row(query string, read func(stmt uintptr)) error {
	stmt, err := c.prepare(query)
	if err != nil {
		return err
	}
	defer sqlite3.Xsqlite3_finalize(c.tls, stmt)
	if rc := sqlite3.Xsqlite3_step(c.tls, stmt); rc != sqlite3.SQLITE_ROW {
		return c.fault(query+" on", rc)
	}
	read(stmt)
	return nil
}

func (c *conn) text(query string) (string, error) {
	var s string
	err := c.row(query, func(stmt uintptr) {
		if p := sqlite3.Xsqlite3_column_text(c.tls, stmt, 0); p != 0 {
			s = libc.GoString(p)
		}
	})
	return s, err
}

func (c *conn) fault(op string, rc int32) error {
	e := &Error{Op: op, Path: c.path, Code: int(rc)}
	if c.db != 0 {
		e.Message = libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db))
	} else {
		e.Message = libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))
	}
	return e
}

const pointerSize = int(unsafe.Sizeof(uintptr(0)))

func (c *conn) setOut(b byte) {
	copy(libc.GoBytes(c.out, 16), bytes.Repeat([]byte{b}, 16))
}

func (c *conn) outPointer() uintptr {
	b := libc.GoBytes(c.out, pointerSize)
	if pointerSize == 8 {
		return uintptr(binary.NativeEndian.Uint64(b))
	}
	return uintptr(binary.NativeEndian.Uint32(b))
}
