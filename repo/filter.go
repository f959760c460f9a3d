package repo

import (
	"encoding/binary"
	"math/bits"

	"github.com/holdstill/holdstill/chunk"
)

// A filter answers "is this chunk here?" with no, or with perhaps, from one cache
// line: a Bloom filter in blocks (F. Putze, P. Sanders, J. Singler, "Cache-, Hash-
// and Space-Efficient Bloom Filters", 2007). Most chunks that a session asks for are not
// there, and a search among millions of records costs several cache misses.
//
// Chunk IDs are hashes, so their own bits serve. The first 8 bytes choose the block,
// such that chunks in the order of their IDs fill the blocks in order: a filter is written
// front to back, with no room for all of it. The next 8 bytes choose one bit in each of
// the block's eight words.
//
// Whoever makes up data such that many IDs begin alike fills one block, and makes
// look-ups of such chunks slower, no more.

const (
	filterBlock = 64
	// filterShare is how many chunks share a block: 1.28 bytes and one wrong
	// perhaps in about a hundred.
	filterShare = 50
	// filterMin is how many records make a filter worth while in memory.
	filterMin = 512
)

// filterBuckets returns how many blocks serve a number of chunks.
func filterBuckets(records int) uint64 { return uint64(records)/filterShare + 1 }

// bucketOf returns the block that is in charge of a chunk.
func bucketOf(id []byte, buckets uint64) uint64 {
	b, _ := bits.Mul64(binary.BigEndian.Uint64(id), buckets)
	return b
}

// filterAdd enters a chunk into its block.
func filterAdd(block, id []byte) {
	h := binary.LittleEndian.Uint64(id[8:])
	for word := range 8 {
		w := block[8*word : 8*word+8]
		binary.LittleEndian.PutUint64(w, binary.LittleEndian.Uint64(w)|1<<(h>>(6*word)&63))
	}
}

// filterHas reports whether a block may have been entered a chunk.
func filterHas(block, id []byte) bool {
	h := binary.LittleEndian.Uint64(id[8:16])
	block = block[:filterBlock]
	all := binary.LittleEndian.Uint64(block) >> (h & 63)
	all &= binary.LittleEndian.Uint64(block[8:]) >> (h >> 6 & 63)
	all &= binary.LittleEndian.Uint64(block[16:]) >> (h >> 12 & 63)
	all &= binary.LittleEndian.Uint64(block[24:]) >> (h >> 18 & 63)
	all &= binary.LittleEndian.Uint64(block[32:]) >> (h >> 24 & 63)
	all &= binary.LittleEndian.Uint64(block[40:]) >> (h >> 30 & 63)
	all &= binary.LittleEndian.Uint64(block[48:]) >> (h >> 36 & 63)
	all &= binary.LittleEndian.Uint64(block[56:]) >> (h >> 42 & 63)
	return all&1 != 0
}

// filter is a filter in memory. The zero value says perhaps to everything.
type filter struct {
	buckets uint64
	blocks  []byte
}

// newFilter makes a filter of records.
func newFilter(records []byte) filter {
	n := len(records) / indexRecordSize
	if n < filterMin {
		return filter{}
	}
	f := filter{buckets: filterBuckets(n)}
	f.blocks = make([]byte, f.buckets*filterBlock)
	for at := 0; at < len(records); at += indexRecordSize {
		id := records[at : at+32]
		filterAdd(f.blocks[bucketOf(id, f.buckets)*filterBlock:], id)
	}
	return f
}

func (f *filter) has(id *chunk.ID) bool {
	return f.blocks == nil || filterHas(f.blocks[bucketOf(id[:], f.buckets)*filterBlock:], id[:])
}
