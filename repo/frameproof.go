package repo

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"sort"
	"sync"
	"sync/atomic"
)

// proofMin is how much of a pack must be wanted, in bytes, before its footer is read to check
// the frames with. Decoding less than that takes less time than a request.
const proofMin = 256 << 10

// frameProofs are what the frames of one pass through the packs are checked with, where they
// are not decoded.
type frameProofs struct {
	packs           []frameProof // by their number in the plan
	requests, bytes atomic.Int64
}

// frameProof is the same for one pack.
type frameProof struct {
	packInfo
	// sealed: who opens the frames checks them.
	sealed bool
	// left counts the stretches of the pack that are still to come.
	left  atomic.Int32
	start sync.Once
	// read is closed when the footer has been read, or was found not to be readable.
	read chan struct{}
	// entries is what the footer says, in the order of the offsets; nil if that is not known.
	entries []packEntry
}

// plan notes what there is to check in one pass.
func (p *frameProofs) plan(ctx context.Context, r *Repository, plan *readPlan, parts []stretch) error {
	p.packs = make([]frameProof, len(plan.packs))
	wanted := make([]int64, len(plan.packs))
	for i := range parts {
		n := parts[i].items[0].pack
		p.packs[n].left.Add(1)
		wanted[n] += parts[i].end - parts[i].start
	}
	if r.store.keys != nil {
		for i := range p.packs {
			p.packs[i].sealed = true
		}
		return nil
	}
	set, err := r.currentIndex(ctx)
	if err != nil {
		return err
	}
	for _, source := range set.sources() {
		table, err := source.packTable()
		if err != nil {
			continue // the packs that only it knows are decoded
		}
		for _, info := range table {
			if n, ok := plan.numbers[info.id]; ok && wanted[n] >= proofMin {
				p.packs[n].packInfo = info
			}
		}
	}
	return nil
}

// proof returns what the frames of a pack are checked with, and begins to read it if nobody has
// yet. Whoever calls it must wait for it.
func (m *manyReads) proof(ctx context.Context, pack int32) *frameProof {
	if !m.framesOnly {
		return nil
	}
	p := &m.proofs.packs[pack]
	if p.sealed || p.size == 0 {
		return p
	}
	p.start.Do(func() {
		p.read = make(chan struct{})
		go func() {
			defer close(p.read)
			entries, err := m.repo.readEntries(ctx, p.packInfo, &m.proofs)
			if err != nil && ctx.Err() == nil {
				m.repo.opts.Logger.Warn("the footer of a pack cannot be read: its chunks are decoded to check them", "pack", packKey(p.id), "error", err)
			}
			p.entries = entries
		}()
	})
	return p
}

// wait waits until all is there. What is read ends with the context of the pass.
func (p *frameProof) wait() {
	if p != nil && p.read != nil {
		<-p.read
	}
}

// done lets go of what nobody needs any more.
func (p *frameProof) done() {
	if p != nil && p.left.Add(-1) == 0 {
		p.entries = nil
	}
}

// covers reports whether a frame is the one that was written for a chunk. A sealed one is, if
// it can be opened.
func (p *frameProof) covers(it *planned, frame []byte) bool {
	if p == nil || p.sealed {
		return p != nil
	}
	n := sort.Search(len(p.entries), func(i int) bool { return p.entries[i].offset >= it.offset })
	if n == len(p.entries) {
		return false
	}
	e := &p.entries[n]
	return e.offset == it.offset && e.id == it.id && e.stored == it.stored && e.plain == it.plain && e.codec == it.codec &&
		crc32.Checksum(frame, castagnoli) == e.crc
}

// readEntries reads a pack's footer. All packs of a repository that is not encrypted have the same
// header, and the pack's name tells if this one has another: so it is not read.
func (r *Repository) readEntries(ctx context.Context, p packInfo, count *frameProofs) ([]packEntry, error) {
	key := packKey(p.id)
	if p.size < packHeaderSize+packTrailerSize || p.size > maxPackSize {
		return nil, corrupt(key, "its %d bytes cannot be a pack", p.size)
	}
	tail := make([]byte, min(p.size, footerGuess))
	read := func(b []byte, offset int64) error {
		count.requests.Add(1)
		count.bytes.Add(int64(len(b)))
		return r.store.readRange(ctx, key, b, offset)
	}
	if err := read(tail, p.size-int64(len(tail))); err != nil {
		return nil, err
	}
	trailer, err := parsePackTrailer(key, tail[len(tail)-packTrailerSize:], p.size)
	if err != nil {
		return nil, err
	}
	footer := tail[:len(tail)-packTrailerSize]
	if n := int64(len(footer)) - trailer.footerLength; n >= 0 {
		footer = footer[n:]
	} else {
		footer = make([]byte, trailer.footerLength)
		if err := read(footer, p.size-packTrailerSize-trailer.footerLength); err != nil {
			return nil, err
		}
	}
	header := binary.LittleEndian.AppendUint32([]byte(packMagic), FormatVersion)
	header = binary.LittleEndian.AppendUint32(header, packFlags(nil))
	content, err := parsePackFooter(nil, key, p, header, footer)
	return content.entries, err
}
