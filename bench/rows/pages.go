package rows

import (
	"encoding/binary"
	"hash/crc32"
)

// PageSize is the size of the pages that Pages writes, in bytes.
const PageSize = 4096

// Every branchEvery-th page is an inner page of the tree, with keys and page
// numbers but no values. Every leaf has rowsPerPage rows to choose from; those
// that do not fit are not in the file.
const (
	branchEvery = 64
	rowsPerPage = 24
)

// Layout of a page, little-endian:
//
//	0  uint32  CRC-32C of all that follows
//	4  uint32  page number
//	8  uint16  1 leaf, 2 branch
//	10 uint16  number of slots
//	12 uint16  end of the slots
//	14 uint16  start of the cells
//	16 uint64  sequence number of the last change
//	24 [8]byte reserved, zero
//	32 slots: uint16 offset of each cell; then free space; then the cells
const pageHeaderSize = 32

// Pages overwrites p with pages of a B-tree: 4 KiB each, with a header, slots, and
// rows stacked from the page's end, 55 to 95 % full. The last page is cut off where
// p ends.
func Pages(p []byte, seed uint64) { PagesAt(p, seed, nil) }

// PagesAt is Pages with the rows at the given versions. A row stays on its page, so
// that pages without a changed row keep every byte, wherever the changed ones are.
// When an updated row is longer and its page is full, the page's last row falls out.
func PagesAt(p []byte, seed uint64, versions Versions) {
	w := pageWriter{g: New(seed), versions: versions, crc: crc32.MakeTable(crc32.Castagnoli)}
	for number := 0; len(p) > 0; number++ {
		if number%branchEvery == 0 {
			w.branch(number)
		} else {
			w.leaf(number)
		}
		p = p[copy(p, w.page[:]):]
	}
}

type pageWriter struct {
	g        *Generator
	versions Versions
	crc      *crc32.Table
	slots    int
	cells    int // where the lowest cell starts
	page     [PageSize]byte
	cell     [maxPairSize]byte
}

func (w *pageWriter) reset() {
	clear(w.page[:])
	w.slots, w.cells = 0, PageSize
}

// add puts a cell on the page, unless less than spare bytes would be left free.
func (w *pageWriter) add(cell []byte, spare int) bool {
	slotsEnd := pageHeaderSize + 2*(w.slots+1)
	if w.cells-len(cell)-slotsEnd < spare {
		return false
	}
	w.cells -= len(cell)
	copy(w.page[w.cells:], cell)
	binary.LittleEndian.PutUint16(w.page[slotsEnd-2:], uint16(w.cells))
	w.slots++
	return true
}

func (w *pageWriter) seal(number int, flags uint16, sequence uint64) {
	h := w.page[:pageHeaderSize]
	binary.LittleEndian.PutUint32(h[4:], uint32(number))
	binary.LittleEndian.PutUint16(h[8:], flags)
	binary.LittleEndian.PutUint16(h[10:], uint16(w.slots))
	binary.LittleEndian.PutUint16(h[12:], uint16(pageHeaderSize+2*w.slots))
	binary.LittleEndian.PutUint16(h[14:], uint16(w.cells))
	binary.LittleEndian.PutUint64(h[16:], sequence)
	binary.LittleEndian.PutUint32(h, crc32.Checksum(w.page[4:], w.crc))
}

func (w *pageWriter) leaf(number int) {
	w.reset()
	r := stream(w.g.seed, uint64(number), 1<<40)
	const space = PageSize - pageHeaderSize
	spare := space*5/100 + int(r.below(space*40/100))
	sequence := uint64(number)*rowsPerPage + r.below(rowsPerPage)
	free := space // at version 0, which decides what rows are here
	for n := number * rowsPerPage; n < (number+1)*rowsPerPage; n++ {
		inserted := w.g.appendPair(w.cell[:0], n, 0)
		free -= len(inserted) + 2
		if free < spare {
			break
		}
		cell := inserted
		if v := w.versions.of(n); v != 0 {
			cell = w.g.appendPair(w.cell[:0], n, v)
			sequence += uint64(v) << 32
		}
		if !w.add(cell, 0) {
			break
		}
	}
	w.seal(number, 1, sequence)
}

func (w *pageWriter) branch(number int) {
	w.reset()
	for child := number + 1; child < number+branchEvery; child++ {
		cell := w.g.AppendKey(w.cell[:0], child*rowsPerPage)
		cell = binary.LittleEndian.AppendUint32(cell, uint32(child))
		if !w.add(cell, 0) {
			break
		}
	}
	w.seal(number, 2, uint64(number)*rowsPerPage)
}
