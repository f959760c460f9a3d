package repo

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"

	"github.com/holdstill/holdstill/chunk"
)

// sinkDriver forgets what is created, so that only the work of this package is
// measured.
type sinkDriver struct{ *testDriver }

func (d sinkDriver) NewTypedWriter(ctx context.Context, key, contentType string, opts *driver.WriterOptions) (driver.Writer, error) {
	return sinkWriter{}, nil
}

type sinkWriter struct{}

func (sinkWriter) Write(p []byte) (int, error) { return len(p), nil }
func (sinkWriter) Close() error                { return nil }

// BenchmarkAdd adds rows in chunks of several sizes through one Writer. Known
// chunks, that the session has already, are only hashed.
func BenchmarkAdd(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		for _, known := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dKiB/known=%v", size>>10, known), func(b *testing.B) {
				d := newTestDriver()
				newTestRepo(b, d, Options{})
				r := openTestRepo(b, blob.NewBucket(sinkDriver{d}), Options{})
				s := mustSession(b, r)
				w := mustWriter(b, s)
				data := rowData(1, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				n := uint64(0)
				for b.Loop() {
					if !known {
						n++
						binary.BigEndian.PutUint64(data, n)
					}
					if _, _, err := w.Add(b.Context(), data); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Flush(b.Context()); err != nil {
					b.Fatal(err)
				}
				if err := s.Sync(b.Context()); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// BenchmarkReadAt reads content of 64 KiB chunks, in sequence by 1 MiB and in
// single pages at random places, where all chunks are stored in full and where all are
// stored as differences.
func BenchmarkReadAt(b *testing.B) {
	const size = 16 << 20
	d := newTestDriver()
	r := newTestRepo(b, d, Options{CacheSize: 1 << 20})
	data := rowData(1, size)
	mustSnapshot(b, r, "full", map[string][]byte{"f": data}, fixedCutter(b, 64<<10))
	for at := 0; at < size; at += 9000 {
		copy(data[at:], "CHANGED")
	}
	mustDeltaSnapshot(b, r, "deltas", map[string][]byte{"f": data}, "full", fixedCutter(b, 64<<10))
	for _, id := range []string{"full", "deltas"} {
		b.Run(id, func(b *testing.B) { benchmarkReadAt(b, d, r, id, size) })
	}
}

func benchmarkReadAt(b *testing.B, d *testDriver, r *Repository, id string, size int64) {
	m, err := r.Manifest(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	var c Content
	for f, err := range r.Files(b.Context(), m) {
		if err != nil {
			b.Fatal(err)
		}
		c = f.Content
	}
	cr := r.NewReader(b.Context(), c)
	for name, step := range map[string]struct{ length, stride int64 }{"sequential 1MiB": {1 << 20, 1 << 20}, "scattered 4KiB": {4 << 10, 7919 << 10}} {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, step.length)
			b.SetBytes(step.length)
			b.ReportAllocs()
			at := int64(0)
			for b.Loop() {
				if _, err := cr.ReadAt(buf, at%(size-step.length+1)); err != nil && err != io.EOF {
					b.Fatal(err)
				}
				at += step.stride
			}
			d.take()
		})
	}
}

// BenchmarkAddDelta adds 64 KiB chunks of rows of which one in a hundred has changed,
// each against its own chunk of the first snapshot.
func BenchmarkAddDelta(b *testing.B) {
	const size, piece = 16 << 20, 64 << 10
	d := newTestDriver()
	r := newTestRepo(b, d, Options{})
	data := rowData(1, size)
	mustSnapshot(b, r, "s", map[string][]byte{"f": data}, fixedCutter(b, piece))
	var bases []chunk.ID
	for at := 0; at < size; at += piece {
		bases = append(bases, chunk.Identify(data[at:at+piece]))
	}
	r = openTestRepo(b, blob.NewBucket(sinkDriver{d}), Options{})
	s := mustSession(b, r)
	w := mustWriter(b, s)
	b.SetBytes(piece)
	b.ReportAllocs()
	for n := uint64(0); b.Loop(); n++ {
		at := int(n) * piece % size
		for row := 0; row < piece; row += 9000 {
			binary.BigEndian.PutUint64(data[at+row+40:], n)
		}
		if _, _, delta, err := w.AddDelta(b.Context(), data[at:at+piece], bases[at/piece]); err != nil || !delta {
			b.Fatal(delta, err)
		}
	}
	if err := w.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := s.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
}
