package snapshot_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/holdstill/holdstill/snapshot"
)

// sealed is a Source of many files, none of which ever changes, in folders of 1,000.
type sealed struct {
	fs fs.FS
}

func newSealed(n int) *sealed {
	files := fstest.MapFS{}
	when := time.Date(2025, 3, 1, 12, 0, 0, 123456789, time.UTC)
	for i := range n {
		files[fmt.Sprintf("%03d/%06d.sst", i/1000, i)] = &fstest.MapFile{Data: text(uint64(i), 200), Mode: 0o644, ModTime: when}
	}
	// A MapFS looks at all files to list one folder.
	lists := &listedFS{MapFS: files, lists: make(map[string][]fs.DirEntry)}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			lists.lists[name], err = fs.ReadDir(files, name)
			if name != "." {
				return fs.SkipDir
			}
		}
		return err
	})
	if err != nil {
		panic(err)
	}
	return &sealed{lists}
}

type listedFS struct {
	fstest.MapFS
	lists map[string][]fs.DirEntry
}

func (l *listedFS) ReadDir(name string) ([]fs.DirEntry, error) { return l.lists[name], nil }

// Stat implements fs.StatFS without a look at all files.
func (l *listedFS) Stat(name string) (fs.FileInfo, error) {
	if _, ok := l.lists[name]; ok {
		return folderInfo(name), nil
	}
	return l.MapFS.Stat(name)
}

type folderInfo string

func (f folderInfo) Name() string       { return string(f) }
func (f folderInfo) Size() int64        { return 0 }
func (f folderInfo) Mode() fs.FileMode  { return fs.ModeDir | 0o755 }
func (f folderInfo) ModTime() time.Time { return time.Time{} }
func (f folderInfo) IsDir() bool        { return true }
func (f folderInfo) Sys() any           { return nil }

func (s *sealed) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{
		FS: s.fs, Kind: "sealed", Method: "none", Epoch: "1",
		Hint: func(name string) snapshot.Hint {
			return snapshot.Hint{Class: snapshot.Immutable, Identity: name + " size=200 ino=123456 mtime=1740830400.123456789 birth=1740830400.123456789"}
		},
	}, nil
}

// BenchmarkUnchanged takes a snapshot of sealed files that the parent has: µs/file is
// what each of them costs.
func BenchmarkUnchanged(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := openEngine(b, snapshot.Config{Sources: map[string]snapshot.Source{"kv": newSealed(n)}, VerifyShare: -1})
			parent := create(b, e, snapshot.CreateOptions{Label: "parent"})
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				s := create(b, e, snapshot.CreateOptions{Parent: parent.ID})
				if s.Stats.BytesRead != 0 || s.Stats.Files != int64(n) {
					b.Fatalf("%+v", s.Stats)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/file")
		})
	}
}
