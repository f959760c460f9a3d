package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/bench/rows"
	"github.com/holdstill/holdstill/repo/localblob"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
)

// newDistant returns a bucket whose every request but the questions for attributes takes a
// while, as in a store that is far away.
func newDistant(tb testing.TB, dir string, delay time.Duration) *blob.Bucket {
	inner, err := localblob.OpenBucket(dir, nil)
	if err != nil {
		tb.Fatal(err)
	}
	b := repotest.NewHooked(inner)
	b.Hook(func(ctx context.Context, r repotest.Request) error {
		if r.Verb == repotest.VerbSize {
			return nil
		}
		select {
		case <-time.After(delay):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	tb.Cleanup(func() { _ = errors.Join(b.Close(), inner.Close()) })
	return b.Bucket
}

// BenchmarkRestoreDistant restores from a store of 50 ms, and reads one file of it of 32
// MiB front to back in steps of 64 KiB: as the engine does, and each chunk by itself.
func BenchmarkRestoreDistant(b *testing.B) {
	const delay = 50 * time.Millisecond
	c := newCorpus(b, b.TempDir(), *corpusMiB<<20)
	dir := b.TempDir()
	s := create(b, openEngine(b, dir, c), snapshot.CreateOptions{})
	far := func(b *testing.B) *snapshot.Engine {
		b.StopTimer()
		defer b.StartTimer()
		e, err := snapshot.Open(b.Context(), snapshot.Config{Bucket: newDistant(b, dir, delay), MustExist: true})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = e.Close() })
		return e
	}
	b.Run("restore", func(b *testing.B) {
		b.SetBytes(c.size)
		var last string
		for b.Loop() {
			to := filepath.Join(repository(b, &last), "to")
			if _, err := far(b).Restore(b.Context(), s.ID, snapshot.RestoreOptions{To: to}); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, bb := range []struct {
		name string
		copy func(f io.ReaderAt, r io.Reader, size int64) error
		size int64
	}{
		{"file-in-order", func(_ io.ReaderAt, r io.Reader, size int64) error {
			buf := make([]byte, 64<<10)
			for left := size; left > 0; {
				n, err := r.Read(buf[:min(left, int64(len(buf)))])
				if err != nil {
					return err
				}
				left -= int64(n)
			}
			return nil
		}, 32 << 20},
		{"file-chunk-by-chunk", func(f io.ReaderAt, _ io.Reader, size int64) error {
			buf := make([]byte, 64<<10)
			for at := int64(0); at < size; at += int64(len(buf)) {
				if _, err := f.ReadAt(buf, at); err != nil {
					return err
				}
			}
			return nil
		}, 4 << 20},
	} {
		b.Run(bb.name, func(b *testing.B) {
			size := min(bb.size, c.size/4)
			b.SetBytes(size)
			for b.Loop() {
				fsys, err := far(b).OpenFS(b.Context(), s.ID)
				if err != nil {
					b.Fatal(err)
				}
				f, err := fsys.Open("db/meta.db")
				if err != nil {
					b.Fatal(err)
				}
				if err := bb.copy(f.(io.ReaderAt), f, size); err != nil {
					b.Fatal(err)
				}
				if err := f.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRestoreOver restores a snapshot in place over a database that has changed since:
// "rows" in 5 % of all its rows, which touches most chunks of pages, and "places" in one
// chunk of twenty. "full" does not look at what stands there. "back" goes on to the
// second snapshot from the first, whose chunks are the bases of its differences.
func BenchmarkRestoreOver(b *testing.B) {
	c := newCorpus(b, b.TempDir(), *corpusMiB<<20)
	e := openEngine(b, b.TempDir(), c)
	first := create(b, e, snapshot.CreateOptions{Label: "first"})
	original := b.TempDir()
	copyTo := func(b *testing.B, from, to string) {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			b.Fatal(err)
		}
		entries, err := os.ReadDir(from)
		if err != nil {
			b.Fatal(err)
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if err == nil {
				err = os.Chtimes(filepath.Join(to, entry.Name()), time.Time{}, info.ModTime())
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	copyTo(b, c.dir, original+"/first")
	copyTo(b, c.dir, original+"/places")
	touch(b, original+"/places/meta.db")
	touch(b, original+"/places/export.json")
	c.change(b)
	second := create(b, e, snapshot.CreateOptions{Label: "second", Parent: first.ID})
	for _, bb := range []struct {
		name, stands, id string
		opts             snapshot.RestoreOptions
	}{
		{"full", c.dir, first.ID, snapshot.RestoreOptions{NoReuse: true}},
		{"rows", c.dir, first.ID, snapshot.RestoreOptions{}},
		{"places", original + "/places", first.ID, snapshot.RestoreOptions{}},
		{"same", original + "/first", first.ID, snapshot.RestoreOptions{}},
		{"same-copied", original + "/first", first.ID, snapshot.RestoreOptions{NoLinks: true}},
		{"back", original + "/first", second.ID, snapshot.RestoreOptions{}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(first.Stats.Bytes)
			var last string
			var result *snapshot.RestoreResult
			for b.Loop() {
				b.StopTimer()
				to := filepath.Join(repository(b, &last), "db")
				b.StopTimer()
				copyTo(b, bb.stands, to)
				syscall.Sync()
				b.StartTimer()
				opts := bb.opts
				opts.To, opts.Source, opts.InPlace = to, "db", true
				var err error
				if result, err = e.Restore(b.Context(), bb.id, opts); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(result.BytesFetched)/(1<<20), "MiB-fetched")
			b.ReportMetric(float64(result.BytesReused)/(1<<20), "MiB-reused")
			b.ReportMetric(float64(result.BytesCloned)/(1<<20), "MiB-cloned")
			b.ReportMetric(float64(result.FilesLinked), "linked")
		})
	}
}

// touch changes one place in twenty of a file, 64 KiB each.
func touch(b *testing.B, name string) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	for at := int64(0); at < info.Size(); at += 20 * 64 << 10 {
		p := make([]byte, 500)
		rows.Fill(p, uint64(at))
		if _, err := f.WriteAt(p, at); err != nil {
			b.Fatal(err)
		}
	}
}
