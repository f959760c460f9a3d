package repo

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"slices"
	"sort"

	"github.com/holdstill/holdstill/chunk"
)

// What a segment is asked. A segment in which damage was found answers that
// it knows nothing; the next refresh of the indexes replaces it.

// leave is to be deferred by all that reads the mapping. It notes damage.
func (g *segment) leave(before bool) {
	p := recover()
	debug.SetPanicOnFault(before)
	if p != nil {
		err := g.explain(p)
		g.damage.CompareAndSwap(nil, &err)
	}
	runtime.KeepAlive(g.mapping)
}

// err returns what was found wrong with the segment, nil if nothing was.
func (g *segment) err() error {
	if err := g.damage.Load(); err != nil {
		return *err
	}
	return nil
}

// has reports whether a chunk is in the segment.
func (g *segment) has(id *chunk.ID) (ok bool) {
	if g.damage.Load() != nil {
		return false
	}
	defer g.leave(enterMapping())
	lo, hi := g.find(id, false)
	return lo < hi
}

// locateOne returns one place of a chunk; with full only one that holds all of it.
func (g *segment) locateOne(id *chunk.ID, full bool) (l location, ok bool) {
	if g.damage.Load() != nil {
		return l, false
	}
	defer g.leave(enterMapping())
	lo, hi := g.find(id, false)
	for i := lo; i < hi; i++ {
		if l := g.location(i, false); !full || l.codec != chunk.Delta {
			return l, true
		}
	}
	return l, false
}

// locate appends the places of a chunk to out, but for those that are there
// already.
func (g *segment) locate(id *chunk.ID, out []location) (places []location) {
	places = out
	if g.damage.Load() != nil {
		return places
	}
	defer g.leave(enterMapping())
	lo, hi := g.find(id, false)
	for i := lo; i < hi; i++ {
		if l := g.location(i, false); !slices.Contains(places, l) {
			places = append(places, l)
		}
	}
	return places
}

// recheck compares everything that an answer about a chunk rests on with its
// checksums, as the first time. The memory of a machine without parity errs, and
// files change under a mapping.
func (g *segment) recheck(id *chunk.ID) error {
	if g.damage.Load() == nil {
		g.recheckBlocks(id)
	}
	return g.err()
}

func (g *segment) recheckBlocks(id *chunk.ID) {
	defer g.leave(enterMapping())
	lo, hi := g.find(id, true)
	for i := lo; i < hi; i++ {
		g.location(i, true)
	}
}

// namesPack reports whether a record may be in a pack. A segment that is damaged
// might name any.
func (g *segment) namesPack(id packID) bool {
	found := g.findPack(id)
	return found || g.err() != nil
}

func (g *segment) findPack(id packID) (ok bool) {
	if g.damage.Load() != nil {
		return false
	}
	defer g.leave(enterMapping())
	n := sort.Search(int(g.packs), func(i int) bool {
		p := g.pack(int64(i), false)
		return bytes.Compare(p.id[:], id[:]) >= 0
	})
	return int64(n) < g.packs && g.pack(int64(n), false).id == id
}

// count, read and packTable make it a recordSource.

func (g *segment) count() int { return int(g.records) }

func (g *segment) read(i int, dst []indexRecord) error {
	if g.damage.Load() == nil {
		g.readRecords(int64(i), dst)
	}
	return g.err()
}

func (g *segment) readRecords(i int64, dst []indexRecord) {
	defer g.leave(enterMapping())
	at := g.recordsAt + i*indexRecordSize
	g.check(at, int64(len(dst))*indexRecordSize, false)
	for n := range dst {
		dst[n] = indexRecord(g.data[at:])
		at += indexRecordSize
	}
}

func (g *segment) packTable() ([]packInfo, error) {
	var out []packInfo
	if g.damage.Load() == nil {
		out = g.readPacks()
	}
	return out, g.err()
}

func (g *segment) readPacks() (out []packInfo) {
	defer g.leave(enterMapping())
	all := make([]packInfo, g.packs)
	for n := range all {
		all[n] = g.pack(int64(n), false)
	}
	return all
}

// holds reports whether the segment holds an index.
func (g *segment) holds(id indexID) bool {
	return slices.ContainsFunc(g.covers, func(c indexInfo) bool { return c.id == id })
}

// stable reports whether only indexes of more than a size are in the segment.
func (g *segment) stable(size int64) bool {
	return !slices.ContainsFunc(g.covers, func(c indexInfo) bool { return c.size <= size })
}
