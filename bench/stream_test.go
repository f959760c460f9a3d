package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/holdstill/holdstill/bench/rows"
	"github.com/holdstill/holdstill/snapshot"
)

// A stream is a source of any size that is stored nowhere: files of a database whose
// bytes are made when they are read. Half of them are in sealed tables of 4 MiB, half
// in one file of B-tree pages.
//
// Every block of streamBlock bytes is one of a few of real pages or rows, with numbers
// of its own in place of 8 bytes in every 128. So no two are alike, they
// compress about as well as others, and making them takes next to no time.
type stream struct {
	size          int64
	pages, tables []byte
}

const (
	streamBlock  = 4 << 10
	streamBlocks = 256 // different ones of each kind
	streamTable  = 4 << 20
)

func newStream(size int64) *stream {
	s := &stream{size: size, pages: make([]byte, streamBlocks*streamBlock), tables: make([]byte, streamBlocks*streamBlock)}
	rows.Pages(s.pages, 1)
	rows.Fill(s.tables, 2)
	return s
}

// fill overwrites p with what stands at an offset of a file, which a number tells from
// others.
func (s *stream) fill(p []byte, file uint64, offset int64) {
	kind := s.tables
	if file == 0 {
		kind = s.pages
	}
	var block [streamBlock]byte
	for len(p) > 0 {
		number := offset / streamBlock
		from := kind[number%streamBlocks*streamBlock:][:streamBlock]
		copy(block[:], from)
		x := (file<<40 + uint64(number)) * 0x9e3779b97f4a7c15
		for at := 64; at < streamBlock; at += 128 {
			x ^= x >> 29
			x *= 0xbf58476d1ce4e5b9
			binary.LittleEndian.PutUint64(block[at:], x)
		}
		n := copy(p, block[offset%streamBlock:])
		p, offset = p[n:], offset+int64(n)
	}
}

// Pin implements snapshot.Source.
func (s *stream) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{
		FS: s, Kind: "stream", Epoch: "1",
		Hint: func(name string) snapshot.Hint {
			if strings.HasSuffix(name, ".sst") {
				return snapshot.Hint{Class: snapshot.Immutable, Identity: name}
			}
			return snapshot.Hint{Class: snapshot.Paged, PageSize: streamBlock}
		},
	}, nil
}

// Open implements fs.FS.
func (s *stream) Open(name string) (fs.File, error) {
	if name == "." {
		return &streamFile{s: s, info: s.info(".", 0, fs.ModeDir|0o755)}, nil
	}
	for _, info := range s.list() {
		if info.name == name {
			return &streamFile{s: s, info: info}, nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (s *stream) info(name string, size int64, mode fs.FileMode) streamInfo {
	return streamInfo{name: name, size: size, mode: mode}
}

// list returns all files. Tables are numbered from 1, the file of pages has number 0.
func (s *stream) list() (all []streamInfo) {
	left := s.size / 2
	for n := uint64(1); left > 0; n++ {
		f := s.info(fmt.Sprintf("%06d.sst", n), min(left, streamTable), 0o644)
		f.number = n
		all = append(all, f)
		left -= f.size
	}
	return append(all, s.info("meta.db", s.size-s.size/2, 0o644))
}

type streamInfo struct {
	name   string
	number uint64
	size   int64
	mode   fs.FileMode
}

func (i streamInfo) Name() string               { return i.name }
func (i streamInfo) Size() int64                { return i.size }
func (i streamInfo) Mode() fs.FileMode          { return i.mode }
func (i streamInfo) ModTime() time.Time         { return time.Unix(1_750_000_000, 0).UTC() }
func (i streamInfo) IsDir() bool                { return i.mode.IsDir() }
func (i streamInfo) Sys() any                   { return nil }
func (i streamInfo) Type() fs.FileMode          { return i.mode.Type() }
func (i streamInfo) Info() (fs.FileInfo, error) { return i, nil }

type streamFile struct {
	s    *stream
	info streamInfo
	at   int64
	told int // entries of the folder that ReadDir returned
}

func (f *streamFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *streamFile) Close() error               { return nil }

func (f *streamFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *streamFile) ReadAt(p []byte, offset int64) (int, error) {
	if f.info.IsDir() {
		return 0, &fs.PathError{Op: "read", Path: f.info.name, Err: fs.ErrInvalid}
	}
	n := int(max(min(int64(len(p)), f.info.size-offset), 0))
	f.s.fill(p[:n], f.info.number, offset)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *streamFile) ReadDir(n int) (entries []fs.DirEntry, err error) {
	all := f.s.list()[f.told:]
	if n > 0 {
		if len(all) == 0 {
			return nil, io.EOF
		}
		all = all[:min(n, len(all))]
	}
	f.told += len(all)
	for _, i := range all {
		entries = append(entries, i)
	}
	return entries, nil
}

func TestStream(t *testing.T) {
	s := newStream(9<<20 + 12_345)
	if err := fstest.TestFS(s, "000001.sst", "000002.sst", "meta.db"); err != nil {
		t.Fatal(err)
	}
	// What is stored must be about what real data would be, with nothing found twice.
	c := newStream(32 << 20)
	e, err := snapshot.Open(t.Context(), snapshot.Config{Repository: "local:" + t.TempDir(), Sources: map[string]snapshot.Source{"db": c}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	snap := create(t, e, snapshot.CreateOptions{})
	if snap.Stats.Bytes != c.size || snap.Stats.BytesNew < c.size {
		t.Errorf("of %d bytes %d were new, want all", snap.Stats.Bytes, snap.Stats.BytesNew)
	}
	if share := float64(snap.Stats.BytesStored) / float64(c.size); share < 0.25 || share > 0.5 {
		t.Errorf("%.2f of it was stored", share)
	}
}
