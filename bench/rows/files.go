package rows

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
)

// A Kind is one kind of file that databases keep.
type Kind struct {
	Name string
	// Fill overwrites p with the head of such a file. Seeds give different files.
	Fill func(p []byte, seed uint64)
}

// Kinds returns all kinds, the one most like an exported database first.
func Kinds() []Kind {
	return []Kind{
		{"json", JSON},
		{"pairs", Fill},
		{"pages", Pages},
		{"snappy-sst", SnappySST},
		{"random", Random},
		{"zeros", Zeros},
	}
}

// Fill overwrites p with consecutive rows from row 0 on, as keys and values with
// their lengths before them: an uncompressed sorted table or a log. The last row is
// cut off where p ends.
func Fill(p []byte, seed uint64) { FillAt(p, seed, nil) }

// FillAt is Fill with the rows at the given versions.
func FillAt(p []byte, seed uint64, versions Versions) {
	g := New(seed)
	fillRows(p, func(dst []byte, n int) []byte { return g.appendPair(dst, n, versions.of(n)) })
}

// JSON overwrites p with consecutive rows, one JSON object a line: an export. The
// last line is cut off where p ends.
func JSON(p []byte, seed uint64) { JSONAt(p, seed, nil) }

// JSONAt is JSON with the rows at the given versions.
func JSONAt(p []byte, seed uint64, versions Versions) {
	g := New(seed)
	fillRows(p, func(dst []byte, n int) []byte {
		return append(g.AppendValue(dst, n, versions.of(n)), '\n')
	})
}

// Random overwrites p with random bytes: what is encrypted or well compressed.
func Random(p []byte, seed uint64) {
	r := stream(seed, 0, 0)
	r.fill(p)
}

// Zeros overwrites p with zeros: space that was reserved and never written. The
// seed has no say.
func Zeros(p []byte, _ uint64) { clear(p) }

// maxPairSize bounds a row with the two lengths before it.
const maxPairSize = 2*binary.MaxVarintLen16 + MaxKeySize + MaxValueSize

func (g *Generator) appendPair(dst []byte, n, version int) []byte {
	var key [MaxKeySize]byte
	var value [MaxValueSize]byte
	k := g.AppendKey(key[:0], n)
	v := g.AppendValue(value[:0], n, version)
	dst = binary.AppendUvarint(dst, uint64(len(k)))
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	dst = append(dst, k...)
	return append(dst, v...)
}

// fillRows overwrites p with rows from 0 on. appendRow appends at most
// maxPairSize bytes, and one at least.
func fillRows(p []byte, appendRow func(dst []byte, n int) []byte) {
	n, at := 0, 0
	for ; len(p)-at >= maxPairSize; n++ {
		// The row is written in place: dst has room for the longest one.
		at = len(appendRow(p[:at], n))
	}
	var last [maxPairSize]byte
	for ; at < len(p); n++ {
		at += copy(p[at:], appendRow(last[:0], n))
	}
}

// sstBlockSize is the size of a table's data block before compression, in bytes.
const sstBlockSize = 32 << 10

// SnappySST overwrites p with blocks of consecutive rows, each block 32 KiB before
// it is compressed with Snappy and followed by a type byte and a CRC-32C: a sorted
// table as LevelDB and its descendants write it. The last block is cut off where p
// ends.
func SnappySST(p []byte, seed uint64) { SnappySSTAt(p, seed, nil) }

// SnappySSTAt is SnappySST with the rows at the given versions. As in a real
// table, one changed row changes every block behind it if its size changes.
func SnappySSTAt(p []byte, seed uint64, versions Versions) {
	const snappyBlock = 1 // the block type, as LevelDB numbers it
	g := New(seed)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	plain := make([]byte, 0, sstBlockSize+maxPairSize)
	packed := make([]byte, s2.MaxEncodedLen(cap(plain))+5)
	for n := 0; len(p) > 0; {
		plain = plain[:0]
		for ; len(plain) < sstBlockSize; n++ {
			plain = g.appendPair(plain, n, versions.of(n))
		}
		block := append(s2.EncodeSnappy(packed, plain), snappyBlock)
		block = binary.LittleEndian.AppendUint32(block, crc32.Checksum(block, castagnoli))
		p = p[copy(p, block):]
	}
}
