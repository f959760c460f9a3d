package pebblesource

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdstill/holdstill/snapshot"
)

// epoch need not change, since identities do not repeat: two files with the same
// name, size, inode, time of birth and time of the last change, both in
// nanoseconds, are the same file, also over restarts and restores. A file that is
// restored, copied or written anew is born anew.
const epoch = "pebble/1"

// hint tells tables and blob files, which Pebble never changes once they are
// complete, from its logs.
func (k *checkpoint) hint(name string) snapshot.Hint {
	switch base := path.Base(name); {
	case strings.HasSuffix(base, ".sst"), strings.HasSuffix(base, ".blob"):
		return snapshot.Hint{Class: snapshot.Immutable, Identity: k.identity(name)}
	case isLog(base):
		h := snapshot.Hint{Class: snapshot.AppendOnly}
		if k.early {
			h.Identity = k.cap.logIdentity(name)
		}
		return h
	case strings.HasPrefix(base, "MANIFEST-"):
		// No identity: a checkpoint may end its copy with an edit of its own.
		return snapshot.Hint{Class: snapshot.AppendOnly}
	}
	return snapshot.Hint{}
}

// identity returns "" where the file system has no inodes.
func (k *checkpoint) identity(name string) string {
	f, err := k.s.fs.Open(viewFS{k.s.fs, k.dest}.path(name))
	if err != nil {
		return ""
	}
	defer f.Close()
	id, ok := fileIdentity(f)
	if !ok {
		return ""
	}
	return path.Base(name) + " " + id
}

// viewFS shows a folder of a vfs.FS as an fs.FS. Its files implement
// io.ReaderAt.
type viewFS struct {
	fs   vfs.FS
	root string
}

func (v viewFS) path(name string) string {
	return v.fs.PathJoin(v.root, name)
}

// Open implements fs.FS.
func (v viewFS) Open(name string) (fs.File, error) {
	info, err := v.stat("open", name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return &viewDir{v: v, name: name, info: info}, nil
	}
	f, err := v.fs.Open(v.path(name))
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: cause(err)}
	}
	return viewFile{f}, nil
}

// Stat implements fs.StatFS.
func (v viewFS) Stat(name string) (fs.FileInfo, error) { return v.stat("stat", name) }

func (v viewFS) stat(op, name string) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	info, err := v.fs.Stat(v.path(name))
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: cause(err)}
	}
	return info, nil
}

// viewFile hides the methods with which a vfs.File is written.
type viewFile struct{ f vfs.File }

func (f viewFile) Stat() (fs.FileInfo, error)              { return f.f.Stat() }
func (f viewFile) Read(p []byte) (int, error)              { return f.f.Read(p) }
func (f viewFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }
func (f viewFile) Close() error                            { return f.f.Close() }

type viewDir struct {
	v    viewFS
	name string
	info fs.FileInfo
	rest []fs.DirEntry
	read bool // rest is filled
}

func (d *viewDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *viewDir) Close() error               { return nil }

func (d *viewDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: fs.ErrInvalid}
}

// ReadDir implements fs.ReadDirFile, sorted by name.
func (d *viewDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		names, err := d.v.fs.List(d.v.path(d.name))
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: d.name, Err: cause(err)}
		}
		slices.Sort(names)
		for _, name := range names {
			info, err := d.v.stat("readdir", path.Join(d.name, name))
			if err != nil {
				return nil, err
			}
			d.rest = append(d.rest, fs.FileInfoToDirEntry(info))
		}
		d.read = true
	}
	if n <= 0 {
		n = len(d.rest)
	} else if len(d.rest) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.rest))
	out := d.rest[:n:n]
	d.rest = d.rest[n:]
	return out, nil
}

// cause strips the path from an error, since that of the scratch folder means
// nothing to the reader of a View.
func cause(err error) error {
	for _, sentinel := range []error{fs.ErrNotExist, fs.ErrPermission, fs.ErrClosed} {
		if errors.Is(err, sentinel) {
			return sentinel
		}
	}
	return err
}
