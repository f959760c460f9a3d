package docsource

import (
	"bytes"
	"io"
	"io/fs"
	"time"
)

// fileInfo describes a file of a view, or its only folder.
type fileInfo struct {
	name string
	size int64
	time time.Time
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) ModTime() time.Time { return i.time }
func (i fileInfo) IsDir() bool        { return i.name == "." }
func (i fileInfo) Sys() any           { return nil }
func (i fileInfo) Mode() fs.FileMode {
	if i.IsDir() {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

// documentFile makes a database's file from its documents while it is read.
type documentFile struct {
	info fileInfo
	next func() (document, error, bool)
	stop func()
	// left is what was made and not read yet.
	left   []byte
	err    error
	closed bool
}

func (f *documentFile) Stat() (fs.FileInfo, error) { return f.info, nil }

func (f *documentFile) Read(p []byte) (int, error) {
	if f.closed {
		return 0, errClosed
	}
	n := 0
	for n < len(p) {
		if len(f.left) == 0 {
			if f.err != nil {
				break
			}
			d, err, ok := f.next()
			switch {
			case err != nil:
				f.err = err
			case !ok:
				f.err = io.EOF
			default:
				f.left = append(d.json, '\n')
			}
			continue
		}
		m := copy(p[n:], f.left)
		f.left = f.left[m:]
		n += m
	}
	if n == 0 && len(p) > 0 {
		return 0, f.err
	}
	return n, nil
}

func (f *documentFile) Close() error {
	if f.closed {
		return errClosed
	}
	f.closed = true
	f.stop()
	return nil
}

// memoryFile is a file that is held in memory.
type memoryFile struct {
	*bytes.Reader
	info fileInfo
}

func newMemoryFile(info fileInfo, data []byte) *memoryFile {
	return &memoryFile{Reader: bytes.NewReader(data), info: info}
}

func (f *memoryFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *memoryFile) Close() error               { return nil }

// folder is the root of a view.
type folder struct {
	info    fileInfo
	entries []fs.DirEntry
}

func (f *folder) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *folder) Close() error               { return nil }

func (f *folder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.info.name, Err: fs.ErrInvalid}
}

func (f *folder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(f.entries) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(f.entries) {
		n = len(f.entries)
	}
	entries := f.entries[:n]
	f.entries = f.entries[n:]
	return entries, nil
}
