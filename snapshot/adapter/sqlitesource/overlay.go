package sqlitesource

import (
	"fmt"
	"io"
)

// lockPageOffset is the byte that SQLite locks. The page that holds it is never
// used, and on Windows cannot be read while it is locked; it reads as zeros, as
// in sqlite_dbpage. See https://www.sqlite.org/fileformat2.html#the_lock_byte_page.
const lockPageOffset = 1 << 30

// A pageReader reads whole pages of the pinned database.
type pageReader interface {
	// readPages fills p, which is a whole number of pages, from the page first on,
	// counted from 0. It is called with pages inside the database only.
	readPages(p []byte, first int64) error
}

// overlay is the database file with the log's pages laid over it.
//
// It is exact while the read transaction is open. A checkpoint copies only frames
// up to the mark of the oldest reader to the file, and those are frames that we
// take from the log. It does not reset the log under a reader. So a page that
// comes from the file is one that nobody writes meanwhile.
type overlay struct {
	main     io.ReaderAt
	wal      io.ReaderAt // nil if the log is empty
	index    *walIndex
	pageSize int64
}

func (o *overlay) readPages(p []byte, first int64) error {
	// Runs of pages from the file are read at once, then the log's put over them.
	if err := o.readMain(p, first*o.pageSize); err != nil {
		return err
	}
	lock := lockPageOffset / o.pageSize
	var frame []byte
	for i := int64(0); i*o.pageSize < int64(len(p)); i++ {
		page := p[i*o.pageSize : (i+1)*o.pageSize]
		if first+i == lock {
			clear(page)
			continue
		}
		n, ok := o.index.frames[uint32(first+i+1)]
		if !ok {
			continue
		}
		if frame == nil {
			frame = make([]byte, frameHeaderSize+o.pageSize)
		}
		if _, err := o.wal.ReadAt(frame, frameOffset(n, o.pageSize)); err != nil {
			return fmt.Errorf("sqlitesource: frame %d of the log: %w", n, noEOF(err))
		}
		// Costs nothing, and a log that was reset in spite of us does not pass.
		got, err := checkFrame(frame, o.index.header, n)
		if err != nil {
			return err
		}
		if int64(got) != first+i+1 {
			return fmt.Errorf("%w: frame %d is of page %d, not %d", ErrFormat, n, got, first+i+1)
		}
		copy(page, frame[frameHeaderSize:])
	}
	return nil
}

// readMain reads from the database file, around the lock page. What lies beyond
// its end is zero, as it is for SQLite: such pages stand in the log, or are free
// and were never written.
func (o *overlay) readMain(p []byte, off int64) error {
	if skip := lockPageOffset - off; skip >= 0 && skip < int64(len(p)) {
		if err := o.readMain(p[:skip], off); err != nil {
			return err
		}
		rest := min(skip+o.pageSize, int64(len(p)))
		return o.readMain(p[rest:], off+rest)
	}
	if len(p) == 0 {
		return nil
	}
	n, err := o.main.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return fmt.Errorf("sqlitesource: read the database file at %d: %w", off, err)
	}
	clear(p[n:])
	return nil
}

// dbpageReader reads through SQLite, page by page. It is slower, but works
// wherever SQLite does.
type dbpageReader struct {
	conn     *conn
	pageSize int64
}

func (d *dbpageReader) readPages(p []byte, first int64) error {
	for i := int64(0); i*d.pageSize < int64(len(p)); i++ {
		if err := d.conn.page(first+i+1, p[i*d.pageSize:(i+1)*d.pageSize]); err != nil {
			return err
		}
	}
	return nil
}

// pagedFile makes an io.ReaderAt of a pageReader.
type pagedFile struct {
	pages    pageReader
	pageSize int64
	size     int64
}

// ReadAt implements io.ReaderAt.
func (f *pagedFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("sqlitesource: read at negative offset %d", off)
	}
	if off >= f.size {
		return 0, io.EOF
	}
	var atEnd error
	if rest := f.size - off; int64(len(p)) > rest {
		p, atEnd = p[:rest], io.EOF
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		rest := p[n:]
		if in := at % f.pageSize; in != 0 || int64(len(rest)) < f.pageSize {
			// A page in part.
			page := make([]byte, f.pageSize)
			if err := f.pages.readPages(page, at/f.pageSize); err != nil {
				return n, err
			}
			n += copy(rest, page[in:])
			continue
		}
		whole := int64(len(rest)) / f.pageSize * f.pageSize
		if err := f.pages.readPages(rest[:whole], at/f.pageSize); err != nil {
			return n, err
		}
		n += int(whole)
	}
	return n, atEnd
}
