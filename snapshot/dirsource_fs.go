package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"
)

// dirFS shows the files of a pin under their names, with the sizes, permissions and
// times that the originals had. It is safe for concurrent use.
type dirFS struct {
	files map[string]*dirFile
	// children are the entries of each folder, in the order of their names.
	children map[string][]fs.DirEntry
}

var (
	_ fs.StatFS    = (*dirFS)(nil)
	_ fs.ReadDirFS = (*dirFS)(nil)
)

// newDirFS takes files in the order of a walk.
func newDirFS(files []dirFile) *dirFS {
	d := &dirFS{files: make(map[string]*dirFile, len(files)), children: make(map[string][]fs.DirEntry)}
	for i := range files {
		f := &files[i]
		d.files[f.name] = f
		if f.name != "." {
			dir := path.Dir(f.name)
			d.children[dir] = append(d.children[dir], dirInfo{f})
		}
	}
	return d
}

func (d *dirFS) find(op, name string) (*dirFile, error) {
	if !fs.ValidPath(name) {
		return nil, pathError(op, name, fs.ErrInvalid)
	}
	f := d.files[name]
	if f == nil {
		return nil, pathError(op, name, fs.ErrNotExist)
	}
	return f, nil
}

func (d *dirFS) hint(name string) Hint {
	if f := d.files[name]; f != nil {
		return f.hint
	}
	return Hint{}
}

// Open implements fs.FS.
func (d *dirFS) Open(name string) (fs.File, error) {
	f, err := d.find("open", name)
	if err != nil {
		return nil, err
	}
	if f.stamp.mode.IsDir() {
		return &dirHandle{dirInfo: dirInfo{f}, rest: d.children[name]}, nil
	}
	open, err := os.Open(f.at)
	if err != nil {
		return nil, pathError("open", name, innerError(err))
	}
	h := &fileHandle{SectionReader: io.NewSectionReader(open, 0, f.stamp.size), file: open, of: f}
	if err := h.unchanged(); err != nil {
		open.Close()
		return nil, pathError("open", name, err)
	}
	return h, nil
}

// Stat implements fs.StatFS.
func (d *dirFS) Stat(name string) (fs.FileInfo, error) {
	f, err := d.find("stat", name)
	if err != nil {
		return nil, err
	}
	return dirInfo{f}, nil
}

// ReadDir implements fs.ReadDirFS.
func (d *dirFS) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !f.stamp.mode.IsDir() {
		return nil, pathError("readdir", name, errors.New("not a directory"))
	}
	return slices.Clone(d.children[name]), nil
}

// fileHandle is an open link or copy, cut off at the size that the file had. ReadAt
// is safe for concurrent use.
type fileHandle struct {
	*io.SectionReader
	file *os.File
	of   *dirFile
}

var _ io.ReaderAt = (*fileHandle)(nil)

func (h *fileHandle) Stat() (fs.FileInfo, error) { return dirInfo{h.of}, nil }

// Close looks at a link once more, since the server can still write through it.
func (h *fileHandle) Close() error {
	err := h.unchanged()
	if closeErr := h.file.Close(); closeErr != nil {
		err = innerError(closeErr)
	}
	if err != nil {
		return pathError("close", h.of.name, err)
	}
	return nil
}

// unchanged says whether a link is what it was at the pin.
func (h *fileHandle) unchanged() error {
	info, err := h.file.Stat()
	if err != nil {
		return innerError(err)
	}
	want := h.of.stamp
	if info.Size() == want.size && (h.of.how != byLink || info.ModTime().Equal(want.modTime)) {
		return nil
	}
	return fmt.Errorf("%w: it was written to after the pin, though its class is Immutable", ErrChanged)
}

// dirHandle is an open folder.
type dirHandle struct {
	dirInfo
	rest []fs.DirEntry
}

var _ fs.ReadDirFile = (*dirHandle)(nil)

func (h *dirHandle) Stat() (fs.FileInfo, error) { return h.dirInfo, nil }
func (h *dirHandle) Close() error               { return nil }

func (h *dirHandle) Read([]byte) (int, error) {
	return 0, pathError("read", h.f.name, errors.New("is a directory"))
}

// ReadDir implements fs.ReadDirFile.
func (h *dirHandle) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(h.rest)
	} else if len(h.rest) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(h.rest))
	out := slices.Clone(h.rest[:n])
	h.rest = h.rest[n:]
	return out, nil
}

// dirInfo is the fs.FileInfo and the fs.DirEntry of a file.
type dirInfo struct{ f *dirFile }

func (i dirInfo) Name() string               { return path.Base(i.f.name) }
func (i dirInfo) Size() int64                { return i.f.stamp.size }
func (i dirInfo) Mode() fs.FileMode          { return i.f.stamp.mode }
func (i dirInfo) ModTime() time.Time         { return i.f.stamp.modTime }
func (i dirInfo) IsDir() bool                { return i.f.stamp.mode.IsDir() }
func (i dirInfo) Type() fs.FileMode          { return i.f.stamp.mode.Type() }
func (i dirInfo) Info() (fs.FileInfo, error) { return i, nil }
func (i dirInfo) Sys() any                   { return nil }
func (i dirInfo) String() string             { return fs.FormatFileInfo(i) }
