package snapshot

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"pgregory.net/rapid"
)

// A countedReader counts reads, and fails from one byte on.
type countedReader struct {
	data  []byte
	bad   int64
	err   error
	reads int
	bytes int64
}

func (c *countedReader) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	c.bytes += int64(len(p))
	if end := off + int64(len(p)); c.err != nil && end > c.bad {
		return copy(p, c.data[min(off, c.bad):c.bad]), c.err
	}
	return bytes.NewReader(c.data).ReadAt(p, off)
}

// Whatever is read in whatever order, it is what stands there.
func TestReadAheadIsTransparent(t *testing.T) {
	data := tableRows(1, 1<<20+123)
	rapid.Check(t, func(t *rapid.T) {
		bad := errors.New("bad sector")
		c := &countedReader{data: data, bad: rapid.Int64Range(0, int64(len(data))).Draw(t, "bad")}
		if rapid.Bool().Draw(t, "fails") {
			c.err = bad
		}
		r := io.NewSectionReader(newAheadReader(c, int64(len(data))), 0, int64(len(data)))
		at := int64(0)
		for range rapid.IntRange(1, 12).Draw(t, "reads") {
			if rapid.IntRange(0, 5).Draw(t, "seek") == 0 {
				at = rapid.Int64Range(0, int64(len(data))).Draw(t, "to")
				if _, err := r.Seek(at, io.SeekStart); err != nil {
					t.Fatal(err)
				}
			}
			p := make([]byte, rapid.OneOf(rapid.IntRange(1, 1000), rapid.IntRange(1, 300_000)).Draw(t, "n"))
			n, err := r.Read(p)
			if !bytes.Equal(p[:n], data[at:at+int64(n)]) {
				t.Fatalf("other bytes at %d", at)
			}
			end := at + int64(len(p))
			switch {
			case (err == nil && n < len(p) || err == io.EOF) && at+int64(n) < int64(len(data)):
				t.Fatalf("%d of %d bytes at %d, %v", n, len(p), at, err)
			case errors.Is(err, bad) && (c.err == nil || end <= c.bad):
				t.Fatalf("the bytes %d to %d are good: %v", at, end, err)
			}
			at += int64(n)
		}
	})
}

func TestReadAheadIsFewReads(t *testing.T) {
	c := &countedReader{data: tableRows(2, 20<<20)}
	r := io.NewSectionReader(newAheadReader(c, int64(len(c.data))), 0, int64(len(c.data)))
	got := make([]byte, 0, len(c.data))
	for {
		p := make([]byte, 32<<10)
		n, err := r.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, c.data) || c.reads > 9 || c.bytes > int64(len(c.data)) {
		t.Errorf("%d reads for %d of %d bytes", c.reads, c.bytes, len(c.data))
	}
	// Single reads read no more than they are asked for.
	c.reads, c.bytes = 0, 0
	for _, at := range []int64{1 << 20, 5 << 20, 3 << 20} {
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 512)); err != nil {
			t.Fatal(err)
		}
	}
	if c.reads != 3 || c.bytes != 3*512 {
		t.Errorf("%d reads of %d bytes", c.reads, c.bytes)
	}
}
