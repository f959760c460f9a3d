package boltsource

import (
	"fmt"
	"io"
	"sort"
)

// image is the database as of one transaction: the file, with the meta pages of
// that transaction and with nothing in its free pages. It is right only while
// the transaction is open. It is safe for concurrent use.
type image struct {
	file       io.ReaderAt
	metas      []byte    // the first two pages
	free       []pageRun // ascending
	size       int64
	pageSize   int64
	repeatable bool // free is known
}

// ReadAt implements io.ReaderAt.
func (m *image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("boltsource: read at negative offset %d", off)
	}
	if off >= m.size {
		return 0, io.EOF
	}
	atEnd := false
	if rest := m.size - off; int64(len(p)) >= rest {
		p, atEnd = p[:rest], int64(len(p)) > rest
	}
	n := 0
	if off < int64(len(m.metas)) {
		n = copy(p, m.metas[off:])
	}
	if err := m.readPages(p[n:], off+int64(n)); err != nil {
		return n, err
	}
	if atEnd {
		return len(p), io.EOF
	}
	return len(p), nil
}

func (m *image) readPages(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	end := off + int64(len(p))
	i := sort.Search(len(m.free), func(i int) bool { return int64(m.free[i].end)*m.pageSize > off })
	// What one run covers whole needs no reading.
	if i < len(m.free) && int64(m.free[i].start)*m.pageSize <= off && int64(m.free[i].end)*m.pageSize >= end {
		clear(p)
		return nil
	}
	got, err := m.file.ReadAt(p, off)
	if got < len(p) && err != io.EOF {
		return err
	}
	live := off // all between live and the next free run must have been read
	for ; i < len(m.free); i++ {
		from := max(int64(m.free[i].start)*m.pageSize, off)
		if from >= end {
			break
		}
		if from > live && int64(got) < from-off {
			return m.short(off + int64(got))
		}
		live = min(int64(m.free[i].end)*m.pageSize, end)
		clear(p[from-off : live-off])
	}
	// Pages at the end that were never written may lie beyond the file's end, but
	// only if they are free.
	if live < end && int64(got) < end-off {
		return m.short(off + int64(got))
	}
	return nil
}

func (m *image) short(at int64) error {
	return fmt.Errorf("boltsource: the file ends at %d, within a database of %d bytes: %w", at, m.size, io.ErrUnexpectedEOF)
}
