package boltsource

import (
	"encoding/binary"
	"fmt"
	"io"
)

// pageRun is the pages from start up to, but not including, end.
type pageRun struct{ start, end uint64 }

// readFreelist reads the free pages as the transaction committed them: those
// that were free, and those that only older transactions could still reach. The
// list's own pages belong to the transaction, so they do not change while it is
// open.
func readFreelist(file io.ReaderAt, id, highWater uint64, pageSize int) ([]pageRun, error) {
	if id < 2 || id >= highWater {
		return nil, fmt.Errorf("%w: the freelist is page %d of %d", ErrFormat, id, highWater)
	}
	off := int64(id) * int64(pageSize)
	var head [pageHeadSize]byte
	if _, err := file.ReadAt(head[:], off); err != nil {
		return nil, fmt.Errorf("freelist page %d: %w", id, noEOF(err))
	}
	overflow := uint64(binary.NativeEndian.Uint32(head[12:]))
	if overflow >= highWater-id {
		return nil, fmt.Errorf("%w: the freelist at page %d has %d more pages, beyond the end at %d", ErrFormat, id, overflow, highWater)
	}
	list := make([]byte, (overflow+1)*uint64(pageSize))
	if _, err := file.ReadAt(list, off); err != nil {
		return nil, fmt.Errorf("freelist page %d: %w", id, noEOF(err))
	}
	return parseFreelist(list, id, highWater)
}

// parseFreelist returns the runs in a freelist's pages, in ascending order.
//
// Behind the page's head stand the page IDs, sorted, 8 bytes each. A count of
// 0xFFFF means that the first of them is the real count instead.
func parseFreelist(list []byte, id, highWater uint64) ([]pageRun, error) {
	if len(list) < pageHeadSize {
		return nil, fmt.Errorf("%w: the freelist has %d bytes", ErrFormat, len(list))
	}
	if got, flags := binary.NativeEndian.Uint64(list), binary.NativeEndian.Uint16(list[8:]); got != id || flags != freelistFlag {
		return nil, fmt.Errorf("%w: page %d should be the freelist but calls itself page %d with flags %#x", ErrFormat, id, got, flags)
	}
	count := uint64(binary.NativeEndian.Uint16(list[10:]))
	ids := list[pageHeadSize:]
	if count == 0xFFFF {
		if len(ids) < 8 {
			return nil, fmt.Errorf("%w: the freelist has no room for its count", ErrFormat)
		}
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return nil, fmt.Errorf("%w: the freelist counts %d pages, with room for %d", ErrFormat, count, len(ids)/8)
	}
	var runs []pageRun
	next := uint64(2) // pages 0 and 1 are the meta pages
	for i := range count {
		page := binary.NativeEndian.Uint64(ids[i*8:])
		if page < next || page >= highWater {
			return nil, fmt.Errorf("%w: entry %d of the freelist is page %d, want %d or more and below %d", ErrFormat, i, page, next, highWater)
		}
		if n := len(runs); n > 0 && runs[n-1].end == page {
			runs[n-1].end++
		} else {
			runs = append(runs, pageRun{page, page + 1})
		}
		next = page + 1
	}
	return runs, nil
}

// noEOF is for reads inside the database, where the end of the file is an error.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
