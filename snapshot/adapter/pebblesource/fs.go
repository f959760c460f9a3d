package pebblesource

import (
	"crypto/rand"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// baseFS gives the embedded field a name that is not exported.
type baseFS = vfs.FS

// FS is a vfs.FS that passes everything on to another one, and watches two
// things on the way: how many bytes are written to each write-ahead log, and
// how far a checkpoint of this package has come. It costs an atomic addition per
// write to a log, and nothing elsewhere.
//
// An FS is safe for concurrent use and may serve several databases.
type FS struct {
	baseFS

	// unmarked counts the captures whose mark was not seen yet, so that a write
	// to a log knows without a lock that nobody waits.
	unmarked atomic.Int32

	mu       sync.Mutex
	logs     map[string]*logLife // by path: every log not yet removed
	captures map[string]*capture // by destination: every checkpoint under way
}

var _ vfs.FS = (*FS)(nil)

// A logLife is a log from its creation, or from when an old file was taken for it, on.
type logLife struct {
	atomic.Int64 // bytes written

	// id is random, so that no other log has it, under whatever name.
	id string
}

// NewFS returns an FS over base, for pebble.Options.FS. A nil base means
// vfs.Default. If other layers are stacked on base, such as encryption, the FS
// belongs on top of them: it has to see the log as Pebble writes it.
func NewFS(base vfs.FS) *FS {
	if base == nil {
		base = vfs.Default
	}
	return &FS{
		baseFS:   base,
		logs:     make(map[string]*logLife),
		captures: make(map[string]*capture),
	}
}

// Unwrap returns the FS below.
func (fs *FS) Unwrap() vfs.FS { return fs.baseFS }

// captureOf returns the capture whose destination is dir, or nil.
func (fs *FS) captureOf(dir string) *capture {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(fs.captures) == 0 {
		return nil
	}
	return fs.captures[fs.PathJoin(dir)]
}

// captureAbove returns the capture that name is a file of, or nil.
func (fs *FS) captureAbove(name string) *capture {
	return fs.captureOf(fs.PathDir(name))
}

// isScratch tells whether dir is the destination of a checkpoint under way, or
// the folder in which one lies.
func (fs *FS) isScratch(dir string) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(fs.captures) == 0 {
		return false
	}
	dir = fs.PathJoin(dir)
	for dest := range fs.captures {
		if dest == dir || fs.PathDir(dest) == dir {
			return true
		}
	}
	return false
}

// track wraps a log that is written from its start, and counts its bytes.
func (fs *FS) track(f vfs.File, name string) vfs.File {
	l := &logFile{File: f, fs: fs, path: fs.PathJoin(name), written: &logLife{id: rand.Text()}}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.logs[l.path] = l.written
	return l
}

func (fs *FS) untrack(name string) {
	if !isLog(name) {
		return
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.logs, fs.PathJoin(name))
}

// Create implements vfs.FS.
func (fs *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	c := fs.captureAbove(name)
	if c != nil {
		if err := c.check(); err != nil {
			return nil, err
		}
	}
	f, err := fs.baseFS.Create(name, category)
	switch {
	case err != nil:
		return f, err
	case c != nil:
		return c.wrap(f, name)
	case isLog(name) && category != vfs.WriteCategoryUnspecified:
		// Logs have a category, copies of logs have none.
		return fs.track(f, name), nil
	}
	return f, nil
}

// ReuseForWrite implements vfs.FS.
func (fs *FS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.baseFS.ReuseForWrite(oldname, newname, category)
	if err != nil {
		return f, err
	}
	fs.untrack(oldname)
	if isLog(newname) {
		return fs.track(f, newname), nil
	}
	return f, nil
}

// Link implements vfs.FS.
func (fs *FS) Link(oldname, newname string) error {
	if c := fs.captureAbove(newname); c != nil {
		if err := c.check(); err != nil {
			return err
		}
	}
	return fs.baseFS.Link(oldname, newname)
}

// MkdirAll implements vfs.FS.
func (fs *FS) MkdirAll(dir string, perm os.FileMode) error {
	if c := fs.captureOf(dir); c != nil {
		if err := c.hold(); err != nil {
			return err
		}
	}
	return fs.baseFS.MkdirAll(dir, perm)
}

// OpenDir implements vfs.FS.
func (fs *FS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.baseFS.OpenDir(name)
	if err != nil {
		return f, err
	}
	if fs.isScratch(name) {
		return unsynced{f}, nil
	}
	return f, nil
}

// Rename implements vfs.FS.
func (fs *FS) Rename(oldname, newname string) error {
	if err := fs.baseFS.Rename(oldname, newname); err != nil {
		return err
	}
	fs.untrack(oldname)
	return nil
}

// Remove implements vfs.FS.
func (fs *FS) Remove(name string) error {
	if err := fs.baseFS.Remove(name); err != nil {
		return err
	}
	fs.untrack(name)
	return nil
}

// RemoveAll implements vfs.FS.
func (fs *FS) RemoveAll(name string) error {
	err := fs.baseFS.RemoveAll(name)
	if err != nil {
		return err
	}
	dir := fs.PathJoin(name)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for path := range fs.logs {
		if path == dir || fs.PathDir(path) == dir {
			delete(fs.logs, path)
		}
	}
	return nil
}
