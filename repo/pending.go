package repo

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"github.com/holdstill/holdstill/chunk"
)

// pendingSet is the chunks that a session took on. Each has a number, from 0 in the order
// in which they came, by which packs refer to it: so its ID is in memory once. With the
// table, open addressing of one byte of the hash and the number, a chunk takes 38 to 44
// bytes. It is not safe for concurrent use.
type pendingSet struct {
	n     int
	pages []*pendingPage
	// tags has a byte for every place of the table, 0 where it is free; numbers has
	// what is there.
	tags    []uint8
	numbers []uint32
	// seed keeps whoever makes up data from choosing places.
	seed uint64
}

// pendingPage holds the IDs of some chunks; pages never move.
type pendingPage struct {
	ids  [pendingPageSize]chunk.ID
	full [pendingPageSize / 64]uint64
}

const (
	pendingPageSize = 512
	// maxPending is how many chunks one session can take on.
	maxPending int64 = 1<<32 - 1
)

func newPendingSet() *pendingSet {
	return &pendingSet{seed: rand.Uint64()}
}

// place returns where the table begins to look for a chunk, and its tag.
func (s *pendingSet) place(id *chunk.ID) (at int, tag uint8) {
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(id[16:])^s.seed, 0x9e3779b97f4a7c15)
	h := hi ^ lo
	return int(h & uint64(len(s.tags)-1)), uint8(h>>56) | 1
}

// find returns the number of a chunk, if it is there, and else the place for it.
func (s *pendingSet) find(id *chunk.ID) (number uint32, at int, ok bool) {
	if len(s.tags) == 0 {
		return 0, 0, false
	}
	at, tag := s.place(id)
	for ; s.tags[at] != 0; at = (at + 1) & (len(s.tags) - 1) {
		if s.tags[at] == tag && *s.id(s.numbers[at]) == *id {
			return s.numbers[at], at, true
		}
	}
	return 0, at, false
}

// add takes on a chunk, and reports whether it was not there. full says that it will be
// stored in full.
func (s *pendingSet) add(id *chunk.ID, full bool) bool {
	if 8*(s.n+1) > 7*len(s.tags) {
		s.grow()
	}
	_, at, ok := s.find(id)
	if ok {
		return false
	}
	if s.n%pendingPageSize == 0 {
		s.pages = append(s.pages, &pendingPage{})
	}
	page, i := s.pages[s.n/pendingPageSize], s.n%pendingPageSize
	page.ids[i] = *id
	if full {
		page.full[i/64] |= 1 << (i % 64)
	}
	_, tag := s.place(id)
	s.tags[at], s.numbers[at] = tag, uint32(s.n)
	s.n++
	return true
}

// grow makes a table of twice the size. It lets go of the old one first: all that is in
// it is in the pages.
func (s *pendingSet) grow() {
	size := max(64, 2*len(s.tags))
	s.tags, s.numbers = nil, nil
	s.tags, s.numbers = make([]uint8, size), make([]uint32, size)
	for n := range s.n {
		at, tag := s.place(s.id(uint32(n)))
		for s.tags[at] != 0 {
			at = (at + 1) & (size - 1)
		}
		s.tags[at], s.numbers[at] = tag, uint32(n)
	}
}

// id returns the ID of a chunk by its number.
func (s *pendingSet) id(n uint32) *chunk.ID {
	return &s.pages[n/pendingPageSize].ids[n%pendingPageSize]
}

func (s *pendingSet) has(id *chunk.ID) bool {
	_, _, ok := s.find(id)
	return ok
}

// hasFull reports whether a chunk is there that will be stored in full.
func (s *pendingSet) hasFull(id *chunk.ID) bool {
	n, _, ok := s.find(id)
	return ok && s.isFull(n)
}

// isFull is hasFull for a chunk by its number.
func (s *pendingSet) isFull(n uint32) bool {
	return s.pages[n/pendingPageSize].full[n%pendingPageSize/64]>>(n%64)&1 != 0
}

// view returns the set as it is now, to be asked for IDs by number only, also while
// chunks are added to the set.
func (s *pendingSet) view() *pendingSet {
	return &pendingSet{n: s.n, pages: s.pages[:len(s.pages):len(s.pages)]}
}

// packRow is what a session keeps of a chunk that it has stored, for the index.
type packRow struct {
	number         uint32 // of the chunk in the pendingSet
	offset, stored uint32
	plainCodec     uint32
}

// rows returns the rows of a pack's chunks. Those that are not in the set, since they are
// only moved, come into it.
func (s *pendingSet) rows(entries []packEntry) []packRow {
	out := make([]packRow, len(entries))
	for i := range entries {
		e := &entries[i]
		number, _, ok := s.find(&e.id)
		if !ok {
			number = uint32(s.n)
			s.add(&e.id, e.codec != chunk.Delta)
		}
		out[i] = packRow{number, e.offset, e.stored, e.plain | uint32(e.codec)<<24}
	}
	return out
}

// index renders an index of packs whose chunks are in the set.
func (s *pendingSet) index(packs []*sessionPack, superseded []indexID) ([]byte, *index) {
	infos := make([]packInfo, len(packs))
	count := 0
	for i, p := range packs {
		infos[i] = p.packInfo
		count += len(p.rows)
	}
	b := appendIndexHead(infos, superseded, count)
	for n, p := range packs {
		for _, row := range p.rows {
			b = appendIndexRecord(b, s.id(row.number)[:], uint32(n), row.offset, row.stored, row.plainCodec)
		}
	}
	return finishIndex(b, infos, superseded)
}
