package repo

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"

	"github.com/zeebo/blake3"

	"github.com/holdstill/holdstill/chunk"
)

// A pack, all numbers little-endian:
//
//	+--------+---------+---------+-----+--------+---------+
//	| header | frame 0 | frame 1 | ... | footer | trailer |
//	+--------+---------+---------+-----+--------+---------+
//
//	header   "HOLDPACK" | version uint32 | reserved uint32 = 0
//	frame    the stored bytes of one chunk
//	footer   count uint32 | record size uint32 = 48 | salt [16]byte | count records |
//	         the ID of the base, [32]byte, of each record whose codec is delta, in their order
//	record   chunk ID [32]byte | offset uint32 | stored length uint32 |
//	         plain length uint24 | codec uint8 | CRC-32C of the stored bytes uint32
//	trailer  footer length uint32 | reserved uint32 = 0 | pack ID [32]byte | "HOLDPEND"
//
// The pack ID is the BLAKE3-256 of header and footer, and the name of the
// object. Frames lie back to back in the order of the records, so every byte of a
// pack is covered: the header and the footer by the ID, a frame by its CRC and by
// the ID of its chunk, the trailer by what it must say.
//
// In an encrypted repository the reserved field of the header is 1, frames are sealed each
// by itself (see keyring.go), and so is the footer as a whole (see envelope.go). Lengths
// and checksums in records are those of sealed frames, the pack ID is of the sealed footer.
//
// The salt makes the ID of every pack ever written different. Without it, two
// writers of the same chunks would share one object, and the one that gives up
// would delete what the other relies on.

const (
	packMagic    = "HOLDPACK"
	packEndMagic = "HOLDPEND"

	packHeaderSize  = 16
	packTrailerSize = 48
	packRecordSize  = 48
	packBaseSize    = 32
	packSaltSize    = 16
	footerHeadSize  = 8 + packSaltSize
	packSealed      = 1 // in the header of a sealed pack

	// maxPackSize bounds a pack in bytes, so that offsets fit 32 bits and a
	// reader knows what to refuse.
	maxPackSize = 1 << 30
)

// castagnoli is the polynomial that CPUs have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// packID names a pack.
type packID [32]byte

func (id packID) String() string { return hex.EncodeToString(id[:]) }

// packKey returns the object key of a pack.
func packKey(id packID) string {
	s := id.String()
	return packPrefix + s[:2] + "/" + s
}

// packEntry says where in its pack a chunk lies, and how it is stored.
type packEntry struct {
	id     chunk.ID
	offset uint32
	stored uint32
	plain  uint32
	codec  chunk.Codec
	crc    uint32
	// base is 1 + the number of the chunk's base among the bases of the pack, 0 for a
	// chunk that is stored in full.
	base uint32
}

func (e packEntry) end() int64 { return int64(e.offset) + int64(e.stored) }

func appendPackEntry(b []byte, e packEntry) []byte {
	b = append(b, e.id[:]...)
	b = binary.LittleEndian.AppendUint32(b, e.offset)
	b = binary.LittleEndian.AppendUint32(b, e.stored)
	b = binary.LittleEndian.AppendUint32(b, e.plain|uint32(e.codec)<<24)
	return binary.LittleEndian.AppendUint32(b, e.crc)
}

func parsePackEntry(b []byte) (e packEntry) {
	copy(e.id[:], b)
	e.offset = binary.LittleEndian.Uint32(b[32:])
	e.stored = binary.LittleEndian.Uint32(b[36:])
	e.plain, e.codec = splitPlain(binary.LittleEndian.Uint32(b[40:]))
	e.crc = binary.LittleEndian.Uint32(b[44:])
	return e
}

// splitPlain takes apart a plain length and a codec that share four bytes.
func splitPlain(v uint32) (plain uint32, codec chunk.Codec) {
	return v & 0xffffff, chunk.Codec(v >> 24)
}

// entrySizesValid says whether the lengths of a stored chunk can be true, before
// anything is allocated for it. Sealing may make the stored form longer than the plain one.
func entrySizesValid(stored, plain uint32) bool {
	return plain > 0 && plain <= chunk.MaxSize && stored > 0 && stored <= plain+frameOverhead
}

// packBuilder collects chunks into one pack in memory. It is not safe for
// concurrent use.
type packBuilder struct {
	keys    *keyring // nil where nothing is sealed
	context frameContext
	buf     []byte
	entries []packEntry
	bases   []chunk.ID
}

func (b *packBuilder) reset() {
	b.buf = append(b.buf[:0], packMagic...)
	b.buf = binary.LittleEndian.AppendUint32(b.buf, FormatVersion)
	b.buf = binary.LittleEndian.AppendUint32(b.buf, packFlags(b.keys))
	b.entries, b.bases = b.entries[:0], b.bases[:0]
}

// packFlags returns the field of a pack's header that says whether it is sealed.
func packFlags(keys *keyring) uint32 {
	if keys == nil {
		return 0
	}
	return packSealed
}

// lacks reports whether there is no room for a frame of n bytes and for the footer.
func (b *packBuilder) lacks(n int) bool { return b.size()+n+b.keys.frameRoom() > cap(b.buf) }

// adopt takes over what another has collected, which must not be used further.
func (b *packBuilder) adopt(other *packBuilder) {
	b.buf = append(b.buf[:0], other.buf...)
	b.entries, b.bases = other.entries, other.bases
}

// reserve makes room for a frame of n bytes behind buf and for the footer, not beyond
// limit unless it must. It grows the buffer in few and large steps: a small snapshot
// takes little memory, and a large one leaves little behind for the collector.
func (b *packBuilder) reserve(n, limit int) {
	if !b.lacks(n) {
		return
	}
	need := b.size() + n + b.keys.frameRoom()
	grown := make([]byte, len(b.buf), max(need, min(max(packGrowth*cap(b.buf), minPackBuffer), limit)))
	copy(grown, b.buf)
	b.buf = grown
}

// minPackBuffer is what a pack's buffer begins with, in bytes, and packGrowth by how
// much each step multiplies it.
const (
	minPackBuffer = 256 << 10
	packGrowth    = 8
)

// size returns how long the pack would be if it were finished now, in bytes.
func (b *packBuilder) size() int {
	n := len(b.buf) + footerHeadSize + packRecordSize*len(b.entries) + packBaseSize*len(b.bases) + packTrailerSize
	return n + int(b.keys.footerRoom())
}

// begin returns the offset at which the next frame begins, and makes room for what stands
// in front of its encoded form when it is sealed. The encoded form is appended to buf.
func (b *packBuilder) begin() (start int) {
	start = len(b.buf)
	if b.keys != nil {
		b.buf = append(b.buf, make([]byte, frameNonceSize)...)
	}
	return start
}

// add seals and records the frame that was just appended to buf, which began at offset
// start. A delta must be long enough to name its base.
func (b *packBuilder) add(id chunk.ID, start int, plain int, codec chunk.Codec) packEntry {
	var base chunk.ID
	if b.keys == nil {
		base, _ = chunk.DeltaBase(b.buf[start:])
	} else {
		base, _ = chunk.DeltaBase(b.buf[start+frameNonceSize:])
		b.context.set(&id, uint32(plain), codec)
		b.buf = b.keys.sealFrame(b.buf, start, &id, &b.context)
	}
	e := packEntry{
		id:     id,
		offset: uint32(start),
		stored: uint32(len(b.buf) - start),
		plain:  uint32(plain),
		codec:  codec,
		crc:    crc32.Checksum(b.buf[start:], castagnoli),
	}
	if codec == chunk.Delta {
		b.bases = append(b.bases, base)
		e.base = uint32(len(b.bases))
	}
	b.entries = append(b.entries, e)
	return e
}

// finish appends footer and trailer, with a salt of its own, and returns the pack's
// ID.
func (b *packBuilder) finish() packID {
	var salt [packSaltSize]byte
	_, _ = rand.Read(salt[:]) // documented never to fail
	return b.finishSalted(salt)
}

func (b *packBuilder) finishSalted(salt [packSaltSize]byte) packID {
	footer := len(b.buf)
	b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(len(b.entries)))
	b.buf = binary.LittleEndian.AppendUint32(b.buf, packRecordSize)
	b.buf = append(b.buf, salt[:]...)
	for _, e := range b.entries {
		b.buf = appendPackEntry(b.buf, e)
	}
	for i := range b.bases {
		b.buf = append(b.buf, b.bases[i][:]...)
	}
	if b.keys != nil {
		plain := append([]byte(nil), b.buf[footer:]...)
		b.buf = b.keys.sealFooter(b.buf[:footer], b.buf[:packHeaderSize], plain)
	}
	length := len(b.buf) - footer
	id := sumPack(b.buf[:packHeaderSize], b.buf[footer:])
	b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(length))
	b.buf = binary.LittleEndian.AppendUint32(b.buf, 0)
	b.buf = append(b.buf, id[:]...)
	b.buf = append(b.buf, packEndMagic...)
	return id
}

func sumPack(header, footer []byte) (id packID) {
	h := blake3.New()
	_, _ = h.Write(header)
	_, _ = h.Write(footer)
	h.Sum(id[:0])
	return id
}

// packTrailer is the end of a pack, taken apart.
type packTrailer struct {
	footerLength int64
	id           packID
}

// parsePackTrailer checks the last 48 bytes of a pack of size bytes.
func parsePackTrailer(object string, b []byte, size int64) (t packTrailer, err error) {
	if string(b[40:]) != packEndMagic || binary.LittleEndian.Uint32(b[4:]) != 0 {
		return t, corrupt(object, "it does not end as a pack does")
	}
	t.footerLength = int64(binary.LittleEndian.Uint32(b))
	copy(t.id[:], b[8:40])
	if t.footerLength < footerHeadSize+packRecordSize || t.footerLength > size-packHeaderSize-packTrailerSize {
		return t, corrupt(object, "a footer of %d bytes cannot be in a pack of %d", t.footerLength, size)
	}
	return t, nil
}

// parsePackFooter checks a pack's header and footer against each other, the
// pack's name and its size, and returns what the pack holds.
func parsePackFooter(keys *keyring, object string, want packInfo, header, footer []byte) (p packContent, err error) {
	p.packInfo = want
	if string(header[:8]) != packMagic {
		return p, corrupt(object, "it does not begin as a pack does")
	}
	if sumPack(header, footer) != want.id {
		return p, corrupt(object, "its header and footer do not match its name")
	}
	if v := binary.LittleEndian.Uint32(header[8:]); v != FormatVersion {
		return p, &FormatError{Object: object, Version: int(v)}
	}
	length := int64(len(footer))
	switch flags := binary.LittleEndian.Uint32(header[12:]); {
	case flags != packFlags(keys) && keys != nil:
		return p, corrupt(object, "it is not sealed as all of this encrypted repository is")
	case flags != packFlags(keys) && flags == packSealed:
		return p, corrupt(object, "it is sealed, and the repository is not encrypted")
	case keys != nil:
		if footer, err = keys.openFooter(object, header, footer); err != nil {
			return p, err
		}
		if len(footer) < footerHeadSize {
			return p, corrupt(object, "its footer is too short")
		}
	}
	count := int64(binary.LittleEndian.Uint32(footer))
	if count == 0 {
		return p, corrupt(object, "its footer has no records")
	}
	if binary.LittleEndian.Uint32(footer[4:]) != packRecordSize || count*packRecordSize > int64(len(footer)-footerHeadSize) {
		return p, corrupt(object, "its footer's length and count do not agree")
	}
	p.entries = make([]packEntry, 0, count)
	records := footer[footerHeadSize:][:count*packRecordSize]
	bases := footer[footerHeadSize+len(records):]
	at := int64(packHeaderSize)
	for b := records; len(b) > 0; b = b[packRecordSize:] {
		e := parsePackEntry(b)
		if int64(e.offset) != at || !entrySizesValid(e.stored, e.plain) {
			return p, corrupt(object, "record %d of its footer cannot be true", len(p.entries))
		}
		if e.codec == chunk.Delta {
			if len(bases) < packBaseSize {
				return p, corrupt(object, "its footer lacks the base of record %d", len(p.entries))
			}
			p.bases = append(p.bases, chunk.ID(bases))
			e.base = uint32(len(p.bases))
			bases = bases[packBaseSize:]
		}
		at = e.end()
		p.entries = append(p.entries, e)
	}
	if len(bases) > 0 || at+length+packTrailerSize != want.size {
		return p, corrupt(object, "its %d bytes are not what its footer describes", want.size)
	}
	return p, nil
}
