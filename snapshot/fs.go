package snapshot

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// FS is a snapshot as a read-only file system: one folder for each source, with
// the source's files below it. It implements fs.FS, fs.StatFS, fs.ReadDirFS and
// fs.ReadFileFS. Its files implement io.ReaderAt and io.Seeker, and every byte that
// they return was checked. A file that is read front to back is read ahead, up to 8 MiB
// with several requests at once; that is the memory it takes until it is closed.
//
// It is safe for concurrent use, as is ReadAt of its files. It holds the snapshot's
// file table in memory, about 200 bytes a file, and nothing that has to be closed.
type FS struct {
	ctx  context.Context
	repo *repo.Repository
	// files are in the order of their paths; files[0] is the root.
	files []repo.File
	// children are the numbers of a folder's entries, in the order of their names.
	children map[string][]int
}

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
)

// OpenFS opens a snapshot as a file system, without restoring it. Reads from it
// end when ctx does, and fail once the engine is closed. It fails as Get does, with
// ErrNotFound also for a snapshot that is only registered, and with repo.ErrCorrupt or
// repo.ErrMissing if the snapshot's file table is damaged.
func (e *Engine) OpenFS(ctx context.Context, id string) (*FS, error) {
	opening, done, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	m, err := e.repo.Manifest(opening, id)
	if err != nil {
		return nil, err
	}
	return newFS(ctx, e.repo, m, e.repo.Files(opening, m))
}

// newFS makes the file system of a file table.
func newFS(ctx context.Context, r *repo.Repository, m *Snapshot, table iter.Seq2[repo.File, error]) (*FS, error) {
	f := &FS{ctx: ctx, repo: r, children: make(map[string][]int)}
	f.files = append(f.files, repo.File{Path: ".", Mode: fs.ModeDir | 0o755, ModTime: m.Created})
	folders := map[string]bool{".": true}
	for file, err := range table {
		if err != nil {
			return nil, err
		}
		dir := path.Dir(file.Path)
		if !folders[dir] {
			return nil, pathError("open", file.Path, errors.Join(repo.ErrCorrupt, errors.New("its folder is not in the snapshot")))
		}
		if file.IsDir() {
			folders[file.Path] = true
		}
		f.children[dir] = append(f.children[dir], len(f.files))
		f.files = append(f.files, file)
	}
	// The table is sorted by whole paths, in which "a.b" comes before "a/b"; the
	// children of one folder are thereby in the order of their names.
	return f, nil
}

// find returns the entry of a name.
func (f *FS) find(op, name string) (*repo.File, error) {
	if !fs.ValidPath(name) {
		return nil, pathError(op, name, fs.ErrInvalid)
	}
	if name == "." {
		return &f.files[0], nil
	}
	rest := f.files[1:]
	i := sort.Search(len(rest), func(i int) bool { return rest[i].Path >= name })
	if i == len(rest) || rest[i].Path != name {
		return nil, pathError(op, name, fs.ErrNotExist)
	}
	return &rest[i], nil
}

// Open implements fs.FS.
func (f *FS) Open(name string) (fs.File, error) {
	entry, err := f.find("open", name)
	if err != nil {
		return nil, err
	}
	if entry.IsDir() {
		return &folder{fs: f, entry: entry}, nil
	}
	r := f.repo.NewReader(f.ctx, entry.Content)
	ahead := newAheadReader(r, entry.Size)
	return &file{entry: entry, at: r, ahead: ahead, SectionReader: io.NewSectionReader(ahead, 0, entry.Size)}, nil
}

// Stat implements fs.StatFS.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	entry, err := f.find("stat", name)
	if err != nil {
		return nil, err
	}
	return info{entry}, nil
}

// ReadDir implements fs.ReadDirFS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	entry, err := f.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !entry.IsDir() {
		return nil, pathError("readdir", name, errors.New("not a directory"))
	}
	return f.entries(entry), nil
}

func (f *FS) entries(dir *repo.File) []fs.DirEntry {
	children := f.children[dir.Path]
	out := make([]fs.DirEntry, len(children))
	for i, n := range children {
		out[i] = info{&f.files[n]}
	}
	return out
}

// ReadFile implements fs.ReadFileFS.
func (f *FS) ReadFile(name string) ([]byte, error) {
	entry, err := f.find("open", name)
	if err != nil {
		return nil, err
	}
	if entry.IsDir() {
		return nil, pathError("read", name, errors.New("is a directory"))
	}
	r := f.repo.NewReader(f.ctx, entry.Content)
	// The size is only what the table says: memory is taken as data comes.
	var data []byte
	for left := entry.Size; left > 0; {
		n := int(min(left, readFileStep))
		data = slices.Grow(data, n)
		if _, err := r.ReadAt(data[len(data):len(data)+n], int64(len(data))); err != nil && err != io.EOF {
			return nil, pathError("read", name, err)
		}
		data = data[:len(data)+n]
		left -= int64(n)
	}
	return data, nil
}

// readFileStep is how much ReadFile reads at once, in bytes.
const readFileStep = 64 << 20

// file is an open regular file.
type file struct {
	*io.SectionReader
	entry  *repo.File
	at     io.ReaderAt
	ahead  *aheadReader
	closed bool
}

var _ io.ReaderAt = (*file)(nil)

func (f *file) Stat() (fs.FileInfo, error) { return info{f.entry}, nil }

func (f *file) Read(p []byte) (int, error) {
	if f.closed {
		return 0, pathError("read", f.entry.Path, fs.ErrClosed)
	}
	n, err := f.SectionReader.Read(p)
	return n, f.wrap(err)
}

// ReadAt implements io.ReaderAt. It is safe for concurrent use.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.at.ReadAt(p, off)
	return n, f.wrap(err)
}

// wrap names the file in any error but the end of the file.
func (f *file) wrap(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return pathError("read", f.entry.Path, err)
}

func (f *file) Close() error {
	if f.closed {
		return pathError("close", f.entry.Path, fs.ErrClosed)
	}
	f.closed = true
	f.ahead.drop()
	return nil
}

// folder is an open directory.
type folder struct {
	fs     *FS
	entry  *repo.File
	at     int
	closed bool
}

var _ fs.ReadDirFile = (*folder)(nil)

func (d *folder) Stat() (fs.FileInfo, error) { return info{d.entry}, nil }

func (d *folder) Read([]byte) (int, error) {
	return 0, pathError("read", d.entry.Path, errors.New("is a directory"))
}

func (d *folder) Close() error {
	if d.closed {
		return pathError("close", d.entry.Path, fs.ErrClosed)
	}
	d.closed = true
	return nil
}

// ReadDir implements fs.ReadDirFile.
func (d *folder) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, pathError("readdir", d.entry.Path, fs.ErrClosed)
	}
	rest := d.fs.entries(d.entry)[d.at:]
	if n > 0 {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		rest = slices.Clip(rest[:min(n, len(rest))])
	}
	d.at += len(rest)
	return rest, nil
}

// info is the fs.FileInfo and the fs.DirEntry of an entry.
type info struct{ entry *repo.File }

func (i info) Name() string               { return i.entry.Path[strings.LastIndexByte(i.entry.Path, '/')+1:] }
func (i info) Size() int64                { return i.entry.Size }
func (i info) Mode() fs.FileMode          { return i.entry.Mode }
func (i info) ModTime() time.Time         { return i.entry.ModTime }
func (i info) IsDir() bool                { return i.entry.IsDir() }
func (i info) Type() fs.FileMode          { return i.entry.Mode.Type() }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
func (i info) String() string             { return fs.FormatFileInfo(i) }

// Sys returns the *repo.File, which must not be written to.
func (i info) Sys() any { return i.entry }
