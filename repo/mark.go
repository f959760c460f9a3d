package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"

	"github.com/holdstill/holdstill/chunk"
)

// marks says of every place of every chunk whether a snapshot needs it. It takes some 18
// bytes for a place, 8 more for that of a difference, and 120 for a pack.
//
// Places are told apart by the first eight bytes of the chunk's ID alone. Where two chunks
// share those, all their places are kept: that costs space, and never a chunk.
type marks struct {
	// The place with number i has these; keys go up.
	keys   []uint64
	packOf []uint32
	stored []uint32
	flags  []uint16

	packs  []markedPack
	number map[packID]uint32

	// deltas says of every place where a chunk is stored as a difference what it builds on.
	deltas []markedDelta
}

const (
	markNeeded = 1 << iota // a snapshot needs the chunk
	markKept               // and this is the place that it is kept at
	markDelta              // the chunk is stored as a difference here
	markFast               // it is compressed by S2 here
	markTwin               // another chunk has the same key
	// The bits from here on are 2 + the depth under which what is below a node, or a
	// block of a file table, was marked; 0 for none.
	markWalked = 5
)

// markedPack is a pack as a collection sees it.
type markedPack struct {
	id packID
	// size is that of the object, 0 if there is none.
	size int64
	// live is what the frames take that are kept, and records how many those are; all and
	// named are the same for all that an index knows.
	live, all      int64
	records, named int
	// avoid: it is condemned, and nothing is kept there that
	// is elsewhere. unusable: it is condemned by another plan, or not there.
	avoid, unusable bool
	// damaged: a chunk in it could not be read. What is kept there is kept everywhere.
	damaged bool
	// unread says why it is unknown what differences in the pack build on.
	unread error
}

// newMarks makes marks for all that an index knows, and the packs that there are.
func newMarks(ctx context.Context, set *indexSet, packs []packInfo) (*marks, error) {
	m := &marks{number: make(map[packID]uint32, len(packs))}
	for _, p := range packs {
		m.number[p.id] = uint32(len(m.packs))
		m.packs = append(m.packs, markedPack{id: p.id, size: p.size})
	}
	// Growing step by step would take twice the room for a moment.
	n := set.records()
	m.keys, m.packOf, m.stored, m.flags = make([]uint64, 0, n), make([]uint32, 0, n), make([]uint32, 0, n), make([]uint16, 0, n)
	var last chunk.ID
	for e, err := range set.all() {
		if err != nil {
			return nil, err
		}
		n, ok := m.number[e.pack]
		if !ok {
			n = uint32(len(m.packs))
			m.number[e.pack] = n
			m.packs = append(m.packs, markedPack{id: e.pack, unusable: true})
		}
		m.packs[n].all += int64(e.stored)
		m.packs[n].named++
		i := len(m.keys)
		key := markKey(&e.id)
		var flag uint16
		switch e.codec {
		case chunk.Delta:
			flag = markDelta
		case chunk.S2:
			flag = markFast
		}
		if i > 0 && m.keys[i-1] == key && last != e.id {
			flag |= markTwin
			for k := i - 1; k >= 0 && m.keys[k] == key; k-- {
				m.flags[k] |= markTwin
			}
		} else if i > 0 && m.keys[i-1] == key {
			flag |= m.flags[i-1] & markTwin
		}
		last = e.id
		m.keys = append(m.keys, key)
		m.packOf = append(m.packOf, n)
		m.stored = append(m.stored, e.stored)
		m.flags = append(m.flags, flag)
		if i%(1<<16) == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return m, nil
}

func markKey(id *chunk.ID) uint64 { return binary.BigEndian.Uint64(id[:]) }

// find returns the places of a chunk as numbers from first to below end.
func (m *marks) find(id *chunk.ID) (first, end int) {
	key := markKey(id)
	lo, hi := 0, len(m.keys)
	if hi > 64 {
		// IDs are spread evenly; see index.find.
		guess := int(uint64(uint32(key>>32)) * uint64(hi) >> 32)
		if from := max(guess-256, 0); m.keys[from] < key {
			lo = from
		}
		if to := min(guess+256, hi-1); m.keys[to] >= key {
			hi = to + 1
		}
	}
	first = lo + sort.Search(hi-lo, func(i int) bool { return m.keys[lo+i] >= key })
	for end = first; end < len(m.keys) && m.keys[end] == key; end++ {
	}
	return first, end
}

// need marks a chunk, and says whether there is such a chunk and whether it was marked
// before.
func (m *marks) need(id *chunk.ID) (found, before bool) {
	first, end := m.find(id)
	if first == end {
		return false, false
	}
	before = m.flags[first]&markNeeded != 0
	m.needPlaces(first)
	return true, before
}

// needPlaces marks a chunk by its first place.
func (m *marks) needPlaces(first int) {
	for i := first; i < len(m.keys) && m.keys[i] == m.keys[first]; i++ {
		m.flags[i] |= markNeeded
	}
}

// walked says whether what is below a node was marked already, and notes that it will
// be now.
func (m *marks) walked(id *chunk.ID, depth int) bool {
	first, end := m.find(id)
	if first == end || m.flags[first]&markTwin != 0 {
		return false
	}
	// The depth may differ: the same bytes can be a node at two depths.
	seen := m.flags[first] >> markWalked
	m.flags[first] = m.flags[first]&(1<<markWalked-1) | uint16(depth+2)<<markWalked
	return seen == uint16(depth+2)
}

// isMeta says whether a chunk was met as a node or a block of a file table.
func (m *marks) isMeta(id *chunk.ID) bool {
	first, end := m.find(id)
	return first < end && m.flags[first]>>markWalked != 0
}

// group is the places of one chunk that is needed.
func (m *marks) groups(yield func(first, end int) bool) {
	for first := 0; first < len(m.keys); {
		end := first + 1
		for end < len(m.keys) && m.keys[end] == m.keys[first] {
			end++
		}
		if m.flags[first]&markNeeded != 0 && !yield(first, end) {
			return
		}
		first = end
	}
}

func (m *marks) keep(i int) {
	if m.flags[i]&markKept != 0 {
		return
	}
	m.flags[i] |= markKept
	p := &m.packs[m.packOf[i]]
	p.live += int64(m.stored[i])
	p.records++
}

// choose decides for every chunk that is needed at which place it is kept: in full before
// as a difference, elsewhere before in a damaged or a condemned pack, and then where most else
// is kept. If the best place is in a damaged pack the others stay too.
func (m *marks) choose() {
	for i := range m.flags {
		m.flags[i] &^= markKept
	}
	for i := range m.packs {
		m.packs[i].live, m.packs[i].records = 0, 0
	}
	// What has one place only goes first: it says which packs are full of life.
	for pass := range 2 {
		for first, end := range m.groups {
			best, usable := -1, 0
			for i := first; i < end; i++ {
				if m.packs[m.packOf[i]].unusable {
					continue
				}
				usable++
				if m.flags[i]&markTwin != 0 {
					m.keep(i)
				}
				if best < 0 || m.better(i, best) {
					best = i
				}
			}
			if best < 0 || (usable == 1) != (pass == 0) || m.flags[first]&markTwin != 0 {
				continue
			}
			m.keep(best)
			for i := first; i < end && m.packs[m.packOf[best]].damaged; i++ {
				if !m.packs[m.packOf[i]].unusable {
					m.keep(i)
				}
			}
		}
	}
}

// better says whether a chunk is rather kept at place i than at place k.
func (m *marks) better(i, k int) bool {
	if a, b := m.flags[i]&markDelta, m.flags[k]&markDelta; a != b {
		return a == 0
	}
	a, b := &m.packs[m.packOf[i]], &m.packs[m.packOf[k]]
	if a.damaged != b.damaged {
		return b.damaged
	}
	if a.avoid != b.avoid {
		return b.avoid
	}
	if a.live*b.size != b.live*a.size {
		return a.live*b.size > b.live*a.size
	}
	return bytes.Compare(a.id[:], b.id[:]) < 0
}

// kept says whether a chunk is kept at a place in the given pack.
func (m *marks) kept(id *chunk.ID, pack packID) bool {
	first, end := m.find(id)
	for i := first; i < end; i++ {
		if m.flags[i]&markKept != 0 && m.packs[m.packOf[i]].id == pack {
			return true
		}
	}
	return false
}

// markSnapshot marks all that a snapshot needs, without what a difference is to.
func (c *collector) markSnapshot(ctx context.Context, m *marks, manifest *Manifest) error {
	missing := func(id chunk.ID) error {
		return &ChunkError{ID: id, Err: fmt.Errorf("%w: it is in no index", ErrMissing)}
	}
	var walk func(content Content, block func(Ref) error) error
	walk = func(content Content, block func(Ref) error) error {
		for _, ref := range content.Refs {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if found, _ := m.need(&ref.ID); !found {
				return missing(ref.ID)
			}
			var err error
			switch {
			case content.Depth == 0 && block == nil:
			// A block is under depth -1, so that it is no node.
			case content.Depth == 0:
				err = block(ref)
			case block == nil && m.walked(&ref.ID, content.Depth):
			default:
				// The nodes of a file table are few, and their blocks must be met in order.
				if block != nil {
					m.walked(&ref.ID, content.Depth)
				}
				var refs []Ref
				if refs, err = c.repo.readNode(ctx, ref, content.Depth); err == nil {
					err = walk(Content{Depth: content.Depth - 1, Refs: refs}, block)
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	before := ""
	return walk(manifest.Table, func(ref Ref) error {
		seen := m.walked(&ref.ID, blockDepth)
		files, err := c.repo.readBlock(ctx, ref, before)
		if err != nil {
			return err
		}
		before = files[len(files)-1].Path
		for i := 0; i < len(files) && !seen; i++ {
			if err := walk(files[i].Content, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// mark is markOnce, again as long as snapshots go while it looks at them, or the index cache is
// found damaged.
func (c *collector) mark(ctx context.Context, plan planID, avoid []packID) (*marks, error) {
	for attempt := 1; ; attempt++ {
		m, err := c.markOnce(ctx, plan, avoid)
		if !errors.Is(err, errMarkAgain) || attempt == 2*maxListings {
			return m, err
		}
	}
}

// markOnce finds out what all snapshots need. Packs of other plans are not relied on, and those
// of avoid only where there is nothing else.
func (c *collector) markOnce(ctx context.Context, plan planID, avoid []packID) (*marks, error) {
	manifests, err := c.readManifests(ctx)
	if err != nil {
		return nil, err
	}
	view, err := c.repo.listGarbage(ctx)
	if err != nil {
		return nil, err
	}
	others, err := c.repo.condemned(ctx, view, plan)
	if err != nil {
		return nil, err
	}
	set, err := c.freshIndex(ctx)
	if err != nil {
		return nil, err
	}
	packs, err := c.listPacks(ctx)
	if err != nil {
		return nil, err
	}
	m, err := newMarks(ctx, set, packs)
	if err != nil && set.spoilt() {
		return nil, errMarkAgain // the next look at the indexes does without that file
	}
	if err != nil {
		return nil, err
	}
	if c.fault == faultIgnorePlans {
		others = nil
	}
	for i := range m.packs {
		m.packs[i].unusable = m.packs[i].unusable || others[m.packs[i].id]
		m.packs[i].damaged = c.damaged[m.packs[i].id]
	}
	for _, id := range avoid {
		if n, ok := m.number[id]; ok {
			m.packs[n].avoid = true
		}
	}
	c.snapshots = 0
	for _, manifest := range manifests {
		if ok, err := c.stillCounts(ctx, view, manifest); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		err := c.markSnapshot(ctx, m, manifest.Manifest)
		if err == nil {
			c.snapshots++
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		// It may have been deleted, and its chunks with it, since it was listed. What was
		// marked of it is marked in part: all begins anew.
		if _, again := c.repo.Manifest(ctx, manifest.ID); errors.Is(again, ErrNotFound) {
			return nil, errMarkAgain
		}
		return nil, fmt.Errorf("repo: collect: snapshot %s: %w; nothing was deleted, see Check", manifest.ID, err)
	}
	m.choose()
	if c.fault == faultForgetBases {
		return m, nil
	}
	if err := c.findDeltas(ctx, m); err != nil {
		return nil, err
	}
	if err := m.markBases(); err != nil {
		return nil, err
	}
	return m, m.complete()
}

// complete makes sure that every chunk that is needed is kept somewhere, or is in a pack
// that another plan has to spare.
func (m *marks) complete() error {
	for first, end := range m.groups {
		found := false
		for i := first; i < end && !found; i++ {
			found = m.packs[m.packOf[i]].size > 0
		}
		if !found {
			return fmt.Errorf("repo: collect: %w: %s, which snapshots need; nothing was deleted, see Check", ErrMissing, packKey(m.packs[m.packOf[first]].id))
		}
	}
	return nil
}

// errMarkAgain means that a snapshot was deleted while it was looked at, or that a file of the
// index cache was found damaged.
var errMarkAgain = errors.New("repo: snapshots or indexes went while they were looked at")
