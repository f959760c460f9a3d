package repo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
)

// brokenReads makes the first reads of each object end in the middle: by an early end, as a connection that was closed,
// or by nothing more coming.
type brokenReads struct {
	*testDriver
	stall bool
	left  int // reads that are still to break
}

func (d *brokenReads) NewRangeReader(ctx context.Context, key string, offset, length int64, opts *driver.ReaderOptions) (driver.Reader, error) {
	r, err := d.testDriver.NewRangeReader(ctx, key, offset, length, opts)
	if err != nil || d.left == 0 {
		return r, err
	}
	d.left--
	tr := r.(*testReader)
	half := make([]byte, tr.Len()/2)
	_, _ = io.ReadFull(tr, half)
	return &brokenReader{testReader: &testReader{bytes.NewReader(half), tr.size}, ctx: ctx, stall: d.stall}, nil
}

type brokenReader struct {
	*testReader
	ctx   context.Context
	stall bool
}

func (r *brokenReader) Read(p []byte) (int, error) {
	n, err := r.testReader.Read(p)
	if err == io.EOF && r.stall {
		<-r.ctx.Done()
		return n, r.ctx.Err()
	}
	return n, err
}

func TestBrokenReads(t *testing.T) {
	data := noiseData(5, 40_000)
	for _, stall := range []bool{false, true} {
		for _, left := range []int{1, 3, 4} {
			synctest.Test(t, func(t *testing.T) {
				d := &brokenReads{testDriver: newTestDriver(), stall: stall}
				b := blob.NewBucket(d)
				defer b.Close()
				opts, err := Options{Retry: Retry{Attempts: 4, Stall: 5 * time.Second, AttemptTimeout: time.Hour}}.withDefaults()
				if err != nil {
					t.Fatal(err)
				}
				s := newStore(b, opts)
				if err := s.create(t.Context(), "k", data); err != nil {
					t.Fatal(err)
				}
				reads := map[string]func() ([]byte, error){
					"whole": func() ([]byte, error) { return s.readAll(t.Context(), "k", 1<<20) },
					"range": func() ([]byte, error) {
						p := make([]byte, len(data))
						return p, s.readRange(t.Context(), "k", p, 0)
					},
					"some": func() ([]byte, error) {
						p := make([]byte, len(data)+100)
						n, err := s.readSome(t.Context(), "k", p, 0, 10)
						return p[:n], err
					},
				}
				for what, read := range reads {
					d.left = left
					start := time.Now()
					got, err := read()
					switch {
					case left < 4 && (err != nil || !bytes.Equal(got, data)):
						t.Errorf("%s, stall=%v, %d broken: %d bytes, %v", what, stall, left, len(got), err)
					case left == 4 && (!errors.Is(err, ErrUnavailable) || errors.Is(err, ErrCorrupt) || errors.Is(err, context.Canceled)):
						t.Errorf("%s, stall=%v, all broken: %v", what, stall, err)
					case left == 4 && stall && time.Since(start) < 20*time.Second:
						t.Errorf("%s: four reads that stall were given up after %v", what, time.Since(start))
					}
				}
			})
		}
	}
}
