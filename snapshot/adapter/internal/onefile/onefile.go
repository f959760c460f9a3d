// Package onefile makes the fs.FS of a database that is one file.
package onefile

import (
	"io"
	"io/fs"
	"time"
)

// Content is the file: At for its bytes, at any offset and from any number of
// goroutines, and the rest for its fs.FileInfo.
type Content struct {
	At      func(p []byte, off int64) (int, error)
	Size    int64
	Mode    fs.FileMode
	ModTime time.Time
}

// ReadAt implements io.ReaderAt.
func (c Content) ReadAt(p []byte, off int64) (int, error) { return c.At(p, off) }

// Open is the Open of an fs.FS that is a folder with one file in it, called own.
// content is called for the file and for the folder.
func Open(name, own string, content func() (Content, error)) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if name != "." && name != own {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	c, err := content()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	info := fileInfo{name: own, size: c.Size, mode: c.Mode, time: c.ModTime}
	if name == "." {
		return &folder{file: info}, nil
	}
	return &file{SectionReader: io.NewSectionReader(c, 0, c.Size), info: info}, nil
}

// file is the database, open. ReadAt is safe for concurrent use.
type file struct {
	*io.SectionReader
	info fileInfo
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

// folder is where the database stands, alone.
type folder struct {
	file fileInfo
	read bool
}

func (d *folder) Stat() (fs.FileInfo, error) {
	return fileInfo{name: ".", mode: fs.ModeDir | 0o755, time: d.file.time}, nil
}

func (d *folder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: ".", Err: fs.ErrInvalid}
}

func (d *folder) Close() error { return nil }

// ReadDir implements fs.ReadDirFile.
func (d *folder) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.read {
		if n > 0 {
			return nil, io.EOF
		}
		return nil, nil
	}
	d.read = true
	return []fs.DirEntry{fs.FileInfoToDirEntry(d.file)}, nil
}

type fileInfo struct {
	name string
	size int64
	mode fs.FileMode
	time time.Time
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.mode }
func (i fileInfo) ModTime() time.Time { return i.time }
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }
