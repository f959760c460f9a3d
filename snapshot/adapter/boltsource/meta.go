package boltsource

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"

	"go.etcd.io/bbolt"
)

// The layout of a page's head and of a meta page, as in bbolt's
// internal/common/page.go and meta.go. All numbers are in the byte order of the
// machine that wrote them.
//
//	0  id u64 | 8 flags u16 | 10 count u16 | 12 overflow u32
//	16 magic u32 | 20 version u32 | 24 page size u32 | 28 flags u32
//	32 root u64 | 40 sequence u64 | 48 freelist u64 | 56 high water u64
//	64 transaction u64 | 72 checksum u64: FNV-1a of the bytes 16 to 72
const (
	pageHeadSize = 16
	metaEnd      = 80

	metaMagic   = 0xED0CDAED
	metaVersion = 2

	freelistFlag = 0x10
	noFreelist   = ^uint64(0) // Options.NoFreelistSync
)

// metaPages are the first two pages of the image.
type metaPages struct {
	pages     []byte // both, one behind the other
	pageSize  int
	freelist  uint64 // page ID
	highWater uint64 // pages in the database
	txID      uint64
}

var errCaptured = errors.New("captured")

// metaCapture takes the two meta pages that Tx.WriteTo writes first, each in one
// call, and stops it there, before it reads anything.
type metaCapture struct {
	pages    []byte
	pageSize int
}

func (c *metaCapture) Write(p []byte) (int, error) {
	c.pages = append(c.pages, p...)
	if len(c.pages) >= 2*c.pageSize {
		return len(p), errCaptured
	}
	return len(p), nil
}

// captureMeta has bbolt make the meta pages that describe exactly tx.
func captureMeta(tx *bbolt.Tx, pageSize int) (*metaPages, error) {
	c := &metaCapture{pageSize: pageSize}
	// WriteTo does not wrap the error it stops for, so the pages tell.
	if _, err := tx.WriteTo(c); len(c.pages) < 2*pageSize {
		return nil, fmt.Errorf("%w: bbolt wrote %d bytes of meta pages, want %d: %v", ErrFormat, len(c.pages), 2*pageSize, err)
	}
	m := &metaPages{pages: c.pages[:2*pageSize], pageSize: pageSize}
	txID, ok := parseMeta(m.pages)
	if !ok {
		return nil, fmt.Errorf("%w: the meta page is of an unknown version", ErrFormat)
	}
	m.txID = txID
	m.freelist = binary.NativeEndian.Uint64(m.pages[48:])
	m.highWater = binary.NativeEndian.Uint64(m.pages[56:])
	if txID != uint64(tx.ID()) || int64(m.highWater)*int64(pageSize) != tx.Size() {
		return nil, fmt.Errorf("%w: the meta page is of transaction %d with %d pages, want %d with %d bytes",
			ErrFormat, txID, m.highWater, tx.ID(), tx.Size())
	}
	return m, nil
}

// parseMeta returns the transaction of a meta page, if it is a whole one.
func parseMeta(page []byte) (txID uint64, ok bool) {
	if len(page) < metaEnd ||
		binary.NativeEndian.Uint32(page[16:]) != metaMagic ||
		binary.NativeEndian.Uint32(page[20:]) != metaVersion {
		return 0, false
	}
	h := fnv.New64a()
	_, _ = h.Write(page[16:72])
	if h.Sum64() != binary.NativeEndian.Uint64(page[72:]) {
		return 0, false
	}
	return binary.NativeEndian.Uint64(page[64:]), true
}

// checkFile makes sure that the file is the open database. It holds the
// transaction itself or, if two or more have been committed since, later ones.
func (m *metaPages) checkFile(file io.ReaderAt) error {
	var newest uint64
	found := false
	page := make([]byte, metaEnd)
	for i := range int64(2) {
		if _, err := file.ReadAt(page, i*int64(m.pageSize)); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		// A page that is being written just now may be torn. The other is then whole.
		txID, ok := parseMeta(page)
		if !ok {
			continue
		}
		if txID == m.txID && !bytes.Equal(page[16:metaEnd], m.pages[16:metaEnd]) {
			return fmt.Errorf("%w: it has another transaction %d", ErrReplaced, txID)
		}
		found = true
		newest = max(newest, txID)
	}
	if !found || newest < m.txID {
		return fmt.Errorf("%w: its last transaction is %d, the pinned one %d", ErrReplaced, newest, m.txID)
	}
	return nil
}
