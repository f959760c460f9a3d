package repo

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"sort"
	"sync/atomic"

	"github.com/holdstill/holdstill/chunk"
)

// A segment is a file of the index cache: several indexes of a repository in one,
// laid out to be searched where it lies. It may be deleted at any time. All numbers
// are little-endian, every part begins at a multiple of 4096:
//
//	head     "HOLDCACH" | version uint32 = 1 | record size uint32 = 48 |
//	         repository [32]byte, the BLAKE3-256 of its ID's text |
//	         length of covers uint64 | packs uint64 | buckets uint64 | records uint64 |
//	         CRC of sums uint32 | 0 uint32 | size of the file uint64 | 0 ... |
//	         CRC of the 4092 bytes before uint32
//	covers   for each index in it: ID [32]byte | size uint64 |
//	         superseded uint32 | superseded index IDs, 32 bytes each
//	packs    pack ID [32]byte | size uint64, sorted by ID
//	starts   for each bucket the number of its first record, and the number of records,
//	         uint32 each
//	filter   64 bytes for each bucket; see filter.go
//	records  as in an index, sorted by chunk ID
//	sums     CRC of every 4096 bytes from the head to the end of the records, padded with
//	         zeros, uint32 each; 0 for the head
//
// A CRC is CRC-32C (Castagnoli). The bucket of a chunk is the first 8 bytes of its ID,
// big-endian, times the number of buckets, divided by 2^64.
//
// When it is opened, head, covers and sums are checked; every other block when it is
// first touched. So what is damaged gives no answer, never a wrong one.

const (
	segmentMagic   = "HOLDCACH"
	segmentVersion = 1
	segmentBlock   = 4096
	segmentHead    = 112 // the fields of the head, in bytes
	coverSize      = 44  // of an index that supersedes none, in bytes

	// maxSegmentRecords bounds a segment: numbers of records fit 32 bits.
	maxSegmentRecords = 1<<32 - 1
)

// indexInfo is what is known of an index without its records.
type indexInfo struct {
	id         indexID
	size       int64
	superseded []indexID
}

// segment is an open file of the cache. It is immutable but for what is noted
// about damage, and safe for concurrent use.
type segment struct {
	*mapping
	segmentLayout
	covers []indexInfo

	// checked has a bit for every block whose checksum was found right.
	checked []atomic.Uint64
	// damage is set once something was found wrong; from then on nothing is found.
	damage atomic.Pointer[error]
}

// segmentLayout says how much of what a segment holds, and where it begins.
type segmentLayout struct {
	coverBytes, packs, buckets, records                             int64
	coversAt, packsAt, startsAt, filterAt, recordsAt, sumsAt, total int64
}

// place computes where everything is from how much there is. It reports whether
// that is possible.
func (l *segmentLayout) place() bool {
	const most = 1 << 40
	for _, n := range []int64{l.coverBytes, l.packs, l.buckets, l.records} {
		if n < 0 || n > most {
			return false
		}
	}
	at := int64(segmentBlock)
	part := func(n int64) int64 {
		start := at
		at += (n + segmentBlock - 1) / segmentBlock * segmentBlock
		return start
	}
	l.coversAt = part(l.coverBytes)
	l.packsAt = part(l.packs * indexPackSize)
	l.startsAt = part((l.buckets + 1) * 4)
	l.filterAt = part(l.buckets * filterBlock)
	l.recordsAt = part(l.records * indexRecordSize)
	l.sumsAt = at
	l.total = at + at/segmentBlock*4
	return l.buckets > 0 && l.records <= maxSegmentRecords
}

// appendHead renders the first block of a segment.
func (l *segmentLayout) appendHead(repository [32]byte, sumsCRC uint32) []byte {
	b := append(make([]byte, 0, segmentBlock), segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, segmentVersion)
	b = binary.LittleEndian.AppendUint32(b, indexRecordSize)
	b = append(b, repository[:]...)
	for _, n := range []int64{l.coverBytes, l.packs, l.buckets, l.records} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	b = binary.LittleEndian.AppendUint32(b, sumsCRC)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(l.total))
	b = b[:segmentBlock-4]
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// openSegment opens a file of the cache. An error says why it cannot be used.
func openSegment(path string, repository [32]byte) (*segment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := openMapping(f)
	if err != nil {
		return nil, err
	}
	return parseSegment(m, repository)
}

// parseSegment checks what must be right before a segment can be asked.
func parseSegment(m *mapping, repository [32]byte) (g *segment, err error) {
	defer m.leave(enterMapping(), &err)
	b := m.data
	switch {
	case len(b) < segmentBlock || string(b[:8]) != segmentMagic:
		return nil, corrupt(m.name, "it does not begin as a file of an index cache does")
	case binary.LittleEndian.Uint32(b[segmentBlock-4:]) != crc32.Checksum(b[:segmentBlock-4], castagnoli):
		return nil, corrupt(m.name, "the checksum of its head does not match")
	case binary.LittleEndian.Uint32(b[8:]) != segmentVersion || binary.LittleEndian.Uint32(b[12:]) != indexRecordSize:
		return nil, &FormatError{Object: m.name, Version: int(binary.LittleEndian.Uint32(b[8:]))}
	case [32]byte(b[16:48]) != repository:
		return nil, corrupt(m.name, "it belongs to another repository")
	}
	g = &segment{mapping: m}
	for i, n := range []*int64{&g.coverBytes, &g.packs, &g.buckets, &g.records} {
		*n = int64(binary.LittleEndian.Uint64(b[48+8*i:]))
	}
	if !g.place() || g.total != int64(len(b)) || binary.LittleEndian.Uint64(b[88:]) != uint64(len(b)) {
		return nil, corrupt(m.name, "its length and counts do not agree")
	}
	if crc32.Checksum(b[g.sumsAt:], castagnoli) != binary.LittleEndian.Uint32(b[80:]) {
		return nil, corrupt(m.name, "the checksum of its checksums does not match")
	}
	g.checked = make([]atomic.Uint64, g.sumsAt/segmentBlock/64+1)
	g.check(g.coversAt, g.coverBytes, false)
	g.covers, err = parseCovers(m.name, b[g.coversAt:g.coversAt+g.coverBytes])
	return g, err
}

func appendCovers(b []byte, covers []indexInfo) []byte {
	for _, c := range covers {
		b = append(b, c.id[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(c.size))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(c.superseded)))
		for _, id := range c.superseded {
			b = append(b, id[:]...)
		}
	}
	return b
}

func parseCovers(name string, b []byte) ([]indexInfo, error) {
	var out []indexInfo
	for len(b) > 0 {
		if len(b) < coverSize {
			return nil, corrupt(name, "its list of indexes is cut off")
		}
		c := indexInfo{id: indexID(b), size: int64(binary.LittleEndian.Uint64(b[32:]))}
		count := int64(binary.LittleEndian.Uint32(b[40:]))
		b = b[coverSize:]
		if int64(len(b)) < 32*count || c.size < 0 {
			return nil, corrupt(name, "its list of indexes cannot be true")
		}
		for range count {
			c.superseded = append(c.superseded, indexID(b))
			b = b[32:]
		}
		out = append(out, c)
	}
	return out, nil
}

// check makes sure that bytes are as they were written, before they are used. Blocks
// that were checked before are checked again only with force. It panics if not.
func (g *segment) check(at, n int64, force bool) {
	for b := at / segmentBlock; b <= (at+n-1)/segmentBlock; b++ {
		if force || g.checked[b/64].Load()>>(b%64)&1 == 0 {
			g.checkBlock(b)
		}
	}
}

func (g *segment) checkBlock(b int64) {
	data := g.data[b*segmentBlock:][:segmentBlock]
	if crc32.Checksum(data, castagnoli) != binary.LittleEndian.Uint32(g.data[g.sumsAt+4*b:]) {
		panic(mappingDamage{"the checksum of a block does not match"})
	}
	g.checked[b/64].Or(1 << (b % 64))
}

func (g *segment) id(i int64) []byte {
	return g.data[g.recordsAt+i*indexRecordSize:][:32]
}

// find returns the numbers of the records of a chunk, from lo to before hi. It
// is called between enter and leave.
func (g *segment) find(id *chunk.ID, force bool) (lo, hi int64) {
	bucket := int64(bucketOf(id[:], uint64(g.buckets)))
	at := g.filterAt + bucket*filterBlock
	g.check(at, filterBlock, force)
	if !filterHas(g.data[at:at+filterBlock], id[:]) {
		return 0, 0
	}
	at = g.startsAt + bucket*4
	g.check(at, 8, force)
	lo, hi = int64(binary.LittleEndian.Uint32(g.data[at:])), int64(binary.LittleEndian.Uint32(g.data[at+4:]))
	if lo > hi || hi > g.records {
		panic(mappingDamage{"a bucket begins where it cannot"})
	}
	if lo == hi {
		return 0, 0
	}
	g.check(g.recordsAt+lo*indexRecordSize, (hi-lo)*indexRecordSize, force)
	lo += int64(sort.Search(int(hi-lo), func(i int) bool { return bytes.Compare(g.id(lo+int64(i)), id[:]) >= 0 }))
	end := lo
	for end < hi && bytes.Equal(g.id(end), id[:]) {
		end++
	}
	return lo, end
}

// location returns what a record says. It is called between enter and leave.
func (g *segment) location(i int64, force bool) location {
	r := (*indexRecord)(g.data[g.recordsAt+i*indexRecordSize:])
	number := int64(binary.LittleEndian.Uint32(r[32:]))
	if number >= g.packs {
		panic(mappingDamage{"a record names a pack that is not in the table"})
	}
	p := g.pack(number, force)
	l := location{
		pack:   p.id,
		offset: binary.LittleEndian.Uint32(r[36:]),
		stored: binary.LittleEndian.Uint32(r[40:]),
	}
	l.plain, l.codec = splitPlain(binary.LittleEndian.Uint32(r[44:]))
	if !entrySizesValid(l.stored, l.plain) || l.offset < packHeaderSize || int64(l.offset)+int64(l.stored) > p.size-packTrailerSize {
		panic(mappingDamage{"a record cannot be true"})
	}
	return l
}

// pack returns a line of the table of packs. It is called between enter and leave.
func (g *segment) pack(n int64, force bool) packInfo {
	at := g.packsAt + n*indexPackSize
	g.check(at, indexPackSize, force)
	p := packInfo{packID(g.data[at:]), int64(binary.LittleEndian.Uint64(g.data[at+32:]))}
	if p.size < packHeaderSize+packTrailerSize || p.size > maxPackSize {
		panic(mappingDamage{"a pack has an impossible size"})
	}
	return p
}
