package snapshot

import (
	"io"
	"sync"
)

const (
	// minAhead and maxAhead are how much is read ahead of a file that is read front to
	// back, in bytes: it doubles with each time that all was used.
	minAhead = 256 << 10
	maxAhead = 8 << 20
)

// aheadReader reads a file in large steps as long as it is read front to back, so that a
// distant repository is asked for many ranges at once instead of chunk by chunk. It
// starts no goroutine that outlives a call. It is safe for concurrent use, though only
// one reader at a time has use of it.
type aheadReader struct {
	at   io.ReaderAt
	size int64

	// mu guards the fields below.
	mu sync.Mutex
	// window is what was read, from byte start on; it is nil where there is nothing of use.
	window []byte
	start  int64
	// next is where the last read ended, and step how much is read at once.
	next, step int64
}

// newAheadReader returns a reader of size bytes of at. The first read is not taken for the
// beginning of a long one.
func newAheadReader(at io.ReaderAt, size int64) *aheadReader {
	return &aheadReader{at: at, size: size, next: -1}
}

// ReadAt fills p, with less than all of it before a byte that cannot be read.
func (a *aheadReader) ReadAt(p []byte, off int64) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.take(p, off)
	if n == len(p) {
		a.next = off + int64(n)
		return n, nil
	}
	if off+int64(n) >= a.size {
		a.window = nil
		return n, io.EOF
	}
	inRow := off == a.next
	a.next = off + int64(len(p))
	if !inRow {
		a.window, a.step = nil, 0
		return a.at.ReadAt(p, off)
	}
	a.step = min(max(2*a.step, minAhead), maxAhead)
	rest := off + int64(n)
	if int64(len(p)-n) >= a.step {
		a.window = nil
		m, err := a.at.ReadAt(p[n:], rest)
		return n + m, err
	}
	want := min(a.step, a.size-rest)
	if int64(cap(a.window)) < want {
		a.window = make([]byte, want)
	}
	got, err := a.at.ReadAt(a.window[:want], rest)
	a.window, a.start = a.window[:got], rest
	m := a.take(p[n:], rest)
	if got == int(want) || n+m == len(p) {
		// What is wrong behind the window's end shows when it is come to.
		err = nil
	}
	if err == nil && n+m < len(p) {
		err = io.EOF
	}
	return n + m, err
}

// take copies what the window has.
func (a *aheadReader) take(p []byte, off int64) int {
	if off < a.start || off >= a.start+int64(len(a.window)) {
		return 0
	}
	return copy(p, a.window[off-a.start:])
}

// drop lets go of the window.
func (a *aheadReader) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.window, a.next = nil, -1
}
