package sqlitesource

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The header of the index of a write-ahead log, as SQLite keeps it in shared
// memory and sqlite3_snapshot_get copies it (struct WalIndexHdr in wal.c;
// https://www.sqlite.org/walformat.html). Numbers are in the machine's byte order,
// the salts as they stand in the log.
//
//	0  version u32 | 4 unused | 8 change counter u32 | 12 isInit u8 | 13 bigEndCksum u8 | 14 page size u16
//	16 mxFrame u32 | 20 pages u32 | 24 checksum of the last frame 2 x u32
//	32 salts 8 bytes | 40 checksum of the bytes 0 to 40, 2 x u32
const indexHeaderSize = 48

// indexHeader says where a read transaction stands in the log: at the commit
// that ends with the frame maxFrame.
type indexHeader struct {
	pageSize int64
	maxFrame uint32 // frames are numbered from 1; 0 is an empty log
	pages    uint32 // of the database after that commit
	checksum [2]uint32
	salt     [8]byte
}

// parseIndexHeader checks the header's own checksum first. SQLite calls the
// content of a snapshot opaque; a layout that were another would not pass.
func parseIndexHeader(b []byte) (*indexHeader, error) {
	if len(b) < indexHeaderSize {
		return nil, fmt.Errorf("%w: an index header of %d bytes", ErrFormat, len(b))
	}
	s0, s1 := walChecksum(binary.NativeEndian, b[:40], 0, 0)
	if binary.NativeEndian.Uint32(b[40:]) != s0 || binary.NativeEndian.Uint32(b[44:]) != s1 {
		return nil, fmt.Errorf("%w: the index header's checksum is wrong", ErrFormat)
	}
	h := &indexHeader{
		maxFrame: binary.NativeEndian.Uint32(b[16:]),
		pages:    binary.NativeEndian.Uint32(b[20:]),
		checksum: [2]uint32{binary.NativeEndian.Uint32(b[24:]), binary.NativeEndian.Uint32(b[28:])},
		salt:     [8]byte(b[32:40]),
	}
	// The page size 65536 does not fit 16 bits and is written as 1.
	size := int64(binary.NativeEndian.Uint16(b[14:]))
	h.pageSize = size&0xfe00 + size&1<<16
	if h.maxFrame != 0 && !validPageSize(h.pageSize) {
		return nil, fmt.Errorf("%w: a page size of %d in the index header", ErrFormat, h.pageSize)
	}
	return h, nil
}

func validPageSize(n int64) bool { return n >= 512 && n <= 65536 && n&(n-1) == 0 }

// walChecksum continues SQLite's checksum over b, whose length must be a
// multiple of 8.
func walChecksum(order binary.ByteOrder, b []byte, s0, s1 uint32) (uint32, uint32) {
	for ; len(b) >= 8; b = b[8:] {
		s0 += order.Uint32(b) + s1
		s1 += order.Uint32(b[4:]) + s0
	}
	return s0, s1
}

// A log file is a header and then frames, each a frame header and one page.
// Numbers are big-endian, but for what the checksums are computed over.
//
//	header: 0 magic u32 (0x377f0682 or ...83: checksums little or big-endian) | 4 version u32 | 8 page size u32
//	        12 checkpoints u32 | 16 salts 8 bytes | 24 checksum of the bytes 0 to 24, 2 x u32
//	frame:  0 page u32 | 4 pages of the database after this commit, or 0 within a transaction u32
//	        8 salts 8 bytes | 16 checksum 2 x u32 | 24 the page
const (
	walHeaderSize   = 32
	frameHeaderSize = 24
	walMagic        = 0x377f0682
	walVersion      = 3007000
)

// walIndex finds the newest frame of each page, up to a commit.
type walIndex struct {
	header *indexHeader
	frames map[uint32]uint32 // page to frame
	// commits are the ends of all transactions, in order.
	commits []commitMark
}

// commitMark is a frame that ends a transaction.
type commitMark struct {
	frame    uint32
	pages    uint32 // of the database after it
	checksum [2]uint32
}

// frameOffset is where frame n, from 1, begins in the log.
func frameOffset(n uint32, pageSize int64) int64 {
	return walHeaderSize + int64(n-1)*(frameHeaderSize+pageSize)
}

// indexWAL reads the heads of all frames up to the pinned commit, and makes sure
// that it is the pinned log: its salts, and the size and the checksum at the
// commit, which depends on every byte before it, are those of the header.
func indexWAL(ctx context.Context, wal io.ReaderAt, h *indexHeader) (*walIndex, error) {
	idx := &walIndex{header: h, frames: map[uint32]uint32{}}
	if h.maxFrame == 0 {
		return idx, nil
	}
	var head [walHeaderSize]byte
	if _, err := wal.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("log header: %w", noEOF(err))
	}
	if err := checkWALHeader(head[:], h); err != nil {
		return nil, err
	}
	var frame [frameHeaderSize]byte
	for n := uint32(1); ; n++ {
		if n%1024 == 0 {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
		}
		if _, err := wal.ReadAt(frame[:], frameOffset(n, h.pageSize)); err != nil {
			return nil, fmt.Errorf("frame %d of %d: %w", n, h.maxFrame, noEOF(err))
		}
		page, err := checkFrame(frame[:], h, n)
		if err != nil {
			return nil, err
		}
		idx.frames[page] = n
		if pages := binary.BigEndian.Uint32(frame[4:]); pages != 0 {
			sum := [2]uint32{binary.BigEndian.Uint32(frame[16:]), binary.BigEndian.Uint32(frame[20:])}
			idx.commits = append(idx.commits, commitMark{n, pages, sum})
		}
		if n < h.maxFrame {
			continue
		}
		if pages := binary.BigEndian.Uint32(frame[4:]); pages != h.pages {
			return nil, fmt.Errorf("%w: the commit in frame %d leaves %d pages, the index says %d", ErrFormat, n, pages, h.pages)
		}
		if [2]uint32{binary.BigEndian.Uint32(frame[16:]), binary.BigEndian.Uint32(frame[20:])} != h.checksum {
			return nil, fmt.Errorf("%w: frame %d has another checksum than the index says", ErrFormat, n)
		}
		return idx, nil
	}
}

func checkWALHeader(b []byte, h *indexHeader) error {
	magic := binary.BigEndian.Uint32(b)
	if magic&^1 != walMagic || binary.BigEndian.Uint32(b[4:]) != walVersion {
		return fmt.Errorf("%w: the log begins with %x", ErrFormat, b[:8])
	}
	var order binary.ByteOrder = binary.LittleEndian
	if magic&1 == 1 {
		order = binary.BigEndian
	}
	s0, s1 := walChecksum(order, b[:24], 0, 0)
	if s0 != binary.BigEndian.Uint32(b[24:]) || s1 != binary.BigEndian.Uint32(b[28:]) {
		return fmt.Errorf("%w: the log header's checksum is wrong", ErrFormat)
	}
	if size := int64(binary.BigEndian.Uint32(b[8:])); size != h.pageSize {
		return fmt.Errorf("%w: the log has pages of %d bytes, the index of %d", ErrFormat, size, h.pageSize)
	}
	if !bytes.Equal(b[16:24], h.salt[:]) {
		return fmt.Errorf("%w: the log was reset: its salts are %x, not %x", ErrFormat, b[16:24], h.salt)
	}
	return nil
}

// checkFrame returns the page of a frame header, if it belongs to the log.
func checkFrame(b []byte, h *indexHeader, n uint32) (page uint32, err error) {
	if !bytes.Equal(b[8:16], h.salt[:]) {
		return 0, fmt.Errorf("%w: frame %d has the salts %x, not %x", ErrFormat, n, b[8:16], h.salt)
	}
	if page = binary.BigEndian.Uint32(b); page == 0 {
		return 0, fmt.Errorf("%w: frame %d is of page 0", ErrFormat, n)
	}
	return page, nil
}

// noEOF is for reads inside a file, where its end is an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
