//go:build darwin || freebsd || linux || netbsd || openbsd

package sqlitesource

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// directFile lets the database file be read past SQLite, by the descriptor that
// the connection itself has open.
//
// A descriptor of our own is out of the question: closing any descriptor of a
// file drops all POSIX locks that the process holds on it, those of the server's
// connections among them. See https://www.sqlite.org/howtocorrupt.html, section
// 2.2. The one borrowed here is closed by SQLite, which knows about that.
//
// The descriptor stands in SQLite's unixFile structure, whose layout the library
// exports. It is believed only after it has turned out to be the same file as
// the path names.
func directFile(c *conn) (io.ReaderAt, func() error, error) {
	if vfs := c.vfsName(); vfs != "unix" && !strings.HasPrefix(vfs, "unix-") {
		return nil, nil, fmt.Errorf("%w: the VFS is %q", errNotDirect, vfs)
	}
	file := c.filePointer()
	if file == 0 {
		return nil, nil, fmt.Errorf("%w: no file", errNotDirect)
	}
	at := file + unsafe.Offsetof(sqlite3.TunixFile{}.Fh)
	fd := int(int32(binary.NativeEndian.Uint32(libc.GoBytes(at, 4))))
	var open, named syscall.Stat_t
	if err := syscall.Fstat(fd, &open); err != nil {
		return nil, nil, fmt.Errorf("%w: fstat: %w", errNotDirect, err)
	}
	if err := syscall.Stat(c.path, &named); err != nil {
		return nil, nil, &os.PathError{Op: "stat", Path: c.path, Err: err}
	}
	if open.Dev != named.Dev || open.Ino != named.Ino {
		return nil, nil, fmt.Errorf("%w: descriptor %d is not %s", errNotDirect, fd, c.path)
	}
	return borrowed(fd), func() error { return nil }, nil
}

// borrowed is a descriptor that somebody else closes.
type borrowed int

// ReadAt implements io.ReaderAt.
func (fd borrowed) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		got, err := syscall.Pread(int(fd), p[n:], off+int64(n))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return n, os.NewSyscallError("pread", err)
		}
		if got == 0 {
			return n, io.EOF
		}
		n += got
	}
	return n, nil
}
