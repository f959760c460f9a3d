package repo

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
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
				s, err := r.NewSession(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				w, err := s.NewWriter()
				if err != nil {
					b.Fatal(err)
				}
				defer w.Close()
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
// single pages at random places.
func BenchmarkReadAt(b *testing.B) {
	const size = 16 << 20
	d := newTestDriver()
	r := newTestRepo(b, d, Options{CacheSize: 1 << 20})
	mustSnapshot(b, r, "s", map[string][]byte{"f": rowData(1, size)}, fixedCutter(b, 64<<10))
	m, err := r.Manifest(b.Context(), "s")
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
