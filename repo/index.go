package repo

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"sort"
	"unsafe"

	"github.com/zeebo/blake3"

	"github.com/holdstill/holdstill/chunk"
)

// An index, all numbers little-endian:
//
//	head     "HOLDINDX" | version uint32 | record size uint32 = 48 |
//	         packs uint32 | superseded uint32 | records uint64
//	         superseded index IDs, 32 bytes each
//	         packs: pack ID [32]byte | size uint64
//	records  chunk ID [32]byte | pack number uint32 | offset uint32 |
//	         stored length uint32 | plain length uint24 | codec uint8
//
// Records are sorted by chunk ID, then pack number; pack numbers count from 0 in
// the table of packs. The name of the object is the BLAKE3-256 of all of it.

const (
	indexMagic      = "HOLDINDX"
	indexHeadSize   = 32
	indexPackSize   = 40
	indexRecordSize = 48

	// maxIndexSize bounds an index in bytes: about 22 million chunks.
	maxIndexSize = 1 << 30
)

// indexID names an index.
type indexID [32]byte

func indexKey(id indexID) string { return indexPrefix + hex.EncodeToString(id[:]) }

// packInfo is one pack as an index knows it.
type packInfo struct {
	id   packID
	size int64
}

// location says where a chunk is stored.
type location struct {
	pack   packID
	offset uint32
	stored uint32
	plain  uint32
	codec  chunk.Codec
}

// index is one index object in memory. It is immutable.
type index struct {
	id         indexID
	size       int64
	superseded []indexID
	packs      []packInfo
	records    []byte
	filter     filter
}

func (x *index) info() indexInfo { return indexInfo{x.id, x.size, x.superseded} }

func (x *index) count() int { return len(x.records) / indexRecordSize }

func (x *index) recordID(i int) []byte {
	return x.records[i*indexRecordSize : i*indexRecordSize+32]
}

func (x *index) location(i int) location {
	r := x.records[i*indexRecordSize:]
	l := location{
		pack:   x.packs[binary.LittleEndian.Uint32(r[32:])].id,
		offset: binary.LittleEndian.Uint32(r[36:]),
		stored: binary.LittleEndian.Uint32(r[40:]),
	}
	l.plain, l.codec = splitPlain(binary.LittleEndian.Uint32(r[44:]))
	return l
}

// read copies records from number i on to dst.
func (x *index) read(i int, dst []indexRecord) error {
	for n := range dst {
		dst[n] = indexRecord(x.records[(i+n)*indexRecordSize:])
	}
	return nil
}

func (x *index) packTable() ([]packInfo, error) { return x.packs, nil }

// find returns the number of the first record of a chunk, or count() if there is
// none.
func (x *index) find(id *chunk.ID) int {
	lo, hi := 0, x.count()
	if !x.filter.has(id) {
		return hi
	}
	// IDs are hashes, so they are spread evenly: a guess from the first bytes
	// lands close to the place, and saves most of the search's cache misses.
	if hi > 64 {
		guess := int(uint64(binary.BigEndian.Uint32(id[:])) * uint64(hi) >> 32)
		if from := max(guess-32, 0); bytes.Compare(x.recordID(from), id[:]) < 0 {
			lo = from
		}
		if to := min(guess+32, hi-1); bytes.Compare(x.recordID(to), id[:]) >= 0 {
			hi = to
		}
	}
	n := lo + sort.Search(hi-lo, func(i int) bool { return bytes.Compare(x.recordID(lo+i), id[:]) >= 0 })
	if n < x.count() && bytes.Equal(x.recordID(n), id[:]) {
		return n
	}
	return x.count()
}

// packContent is what one pack adds to an index.
type packContent struct {
	packInfo
	entries []packEntry
	// bases are the chunks that deltas among the entries are differences to.
	bases []chunk.ID
}

// maxIndexChunks is how many chunks go into one index: 48 MiB, which is what a writer
// needs in memory to make it, and a reader to open the seal of an encrypted repository.
const maxIndexChunks = 1 << 20

// indexPart returns how many of the packs go into one index: at least one, if
// there are any.
func indexPart(packs []packContent) int {
	return partOf(packs, func(p packContent) int { return len(p.entries) })
}

func partOf[P any](packs []P, chunksIn func(P) int) int {
	n, chunks := 0, 0
	for n < len(packs) && (n == 0 || chunks+chunksIn(packs[n]) <= maxIndexChunks) {
		chunks += chunksIn(packs[n])
		n++
	}
	return n
}

// buildIndex renders an index of packs.
func buildIndex(packs []packContent, superseded []indexID) ([]byte, *index) {
	infos := make([]packInfo, len(packs))
	count := 0
	for i, p := range packs {
		infos[i] = p.packInfo
		count += len(p.entries)
	}
	b := appendIndexHead(infos, superseded, count)
	for n := range packs {
		for i := range packs[n].entries {
			e := &packs[n].entries[i]
			b = appendIndexRecord(b, e.id[:], uint32(n), e.offset, e.stored, e.plain|uint32(e.codec)<<24)
		}
	}
	return finishIndex(b, infos, superseded)
}

// finishIndex makes an index of a rendering whose records are in no order. They are
// sorted where they lie: there may be millions.
func finishIndex(b []byte, packs []packInfo, superseded []indexID) ([]byte, *index) {
	tables := indexHeadSize + 32*len(superseded) + indexPackSize*len(packs)
	slices.SortFunc(recordsIn(b[tables:]), compareRecords)
	return b, indexOf(b, packs, superseded)
}

// recordsIn returns the records that stand in b, where they stand.
func recordsIn(b []byte) []indexRecord {
	if len(b) == 0 {
		return nil
	}
	// A record is an array of bytes: it may lie anywhere.
	first := (*indexRecord)(unsafe.Pointer(unsafe.SliceData(b)))
	return unsafe.Slice(first, len(b)/indexRecordSize)
}

func appendIndexRecord(b, id []byte, pack, offset, stored, plainCodec uint32) []byte {
	b = append(b, id...)
	b = binary.LittleEndian.AppendUint32(b, pack)
	b = binary.LittleEndian.AppendUint32(b, offset)
	b = binary.LittleEndian.AppendUint32(b, stored)
	return binary.LittleEndian.AppendUint32(b, plainCodec)
}

// appendIndexHead begins an index, with room for its records.
func appendIndexHead(packs []packInfo, superseded []indexID, records int) []byte {
	size := indexHeadSize + 32*len(superseded) + indexPackSize*len(packs) + indexRecordSize*records
	b := append(make([]byte, 0, size), indexMagic...)
	b = binary.LittleEndian.AppendUint32(b, FormatVersion)
	b = binary.LittleEndian.AppendUint32(b, indexRecordSize)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(packs)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(superseded)))
	b = binary.LittleEndian.AppendUint64(b, uint64(records))
	for _, id := range superseded {
		b = append(b, id[:]...)
	}
	for _, p := range packs {
		b = append(b, p.id[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(p.size))
	}
	return b
}

// indexOf makes the index whose rendering is b.
func indexOf(b []byte, packs []packInfo, superseded []indexID) *index {
	records := b[indexHeadSize+32*len(superseded)+indexPackSize*len(packs):]
	return &index{
		id:         blake3.Sum256(b),
		size:       int64(len(b)),
		superseded: superseded,
		packs:      packs,
		records:    records,
		filter:     newFilter(records),
	}
}

// parseIndex checks an index against its name and itself. The index keeps data.
func parseIndex(object string, want indexID, data []byte) (*index, error) {
	if blake3.Sum256(data) != want {
		return nil, corrupt(object, "its content does not match its name")
	}
	if len(data) < indexHeadSize || string(data[:8]) != indexMagic {
		return nil, corrupt(object, "it does not begin as an index does")
	}
	if v := binary.LittleEndian.Uint32(data[8:]); v != FormatVersion {
		return nil, &FormatError{Object: object, Version: int(v)}
	}
	packCount := uint64(binary.LittleEndian.Uint32(data[16:]))
	supersededCount := uint64(binary.LittleEndian.Uint32(data[20:]))
	recordCount := binary.LittleEndian.Uint64(data[24:])
	tables := indexHeadSize + 32*supersededCount + indexPackSize*packCount
	if binary.LittleEndian.Uint32(data[12:]) != indexRecordSize || recordCount > maxIndexSize ||
		tables+indexRecordSize*recordCount != uint64(len(data)) {
		return nil, corrupt(object, "its length and counts do not agree")
	}
	superseded := make([]indexID, supersededCount)
	packs := make([]packInfo, packCount)
	at := indexHeadSize
	for i := range superseded {
		at += copy(superseded[i][:], data[at:])
	}
	for i := range packs {
		copy(packs[i].id[:], data[at:])
		packs[i].size = int64(binary.LittleEndian.Uint64(data[at+32:]))
		if packs[i].size < packHeaderSize+packTrailerSize || packs[i].size > maxPackSize {
			return nil, corrupt(object, "pack %d has an impossible size", i)
		}
		at += indexPackSize
	}
	x := indexOf(data, packs, superseded)
	return x, x.checkRecords(object)
}

// checkRecords makes sure that no record can lead a reader astray.
func (x *index) checkRecords(object string) error {
	var last []byte
	for i := range x.count() {
		r := x.records[i*indexRecordSize : (i+1)*indexRecordSize]
		pack := binary.LittleEndian.Uint32(r[32:])
		offset, stored := binary.LittleEndian.Uint32(r[36:]), binary.LittleEndian.Uint32(r[40:])
		plain, _ := splitPlain(binary.LittleEndian.Uint32(r[44:]))
		if int64(pack) >= int64(len(x.packs)) || !entrySizesValid(stored, plain) ||
			offset < packHeaderSize || int64(offset)+int64(stored) > x.packs[pack].size-packTrailerSize {
			return corrupt(object, "record %d cannot be true", i)
		}
		if last != nil && bytes.Compare(last[:32], r[:32]) > 0 {
			return corrupt(object, "record %d is out of order", i)
		}
		last = r
	}
	return nil
}
