package repo

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdstill/holdstill/chunk"
)

// A difference that no snapshot needs stays in its pack as long as that stays, and in the
// index: a session finds it there and takes the chunk for stored. So no pack may go that has what
// a difference in another pack builds on, whether that is needed or not.

// markedDelta is a place at which a chunk is stored as a difference, by its number.
type markedDelta struct {
	place uint32
	// base is the number of the first place of what it builds on, noPlace if no index has it.
	base uint32
}

const noPlace = 1<<32 - 1

// findDeltas reads what all differences build on.
func (c *collector) findDeltas(ctx context.Context, m *marks) error {
	packs := make(map[uint32]bool)
	for i, f := range m.flags {
		if f&markDelta != 0 && m.packs[m.packOf[i]].size > 0 {
			packs[m.packOf[i]] = true
		}
	}
	if len(packs) == 0 {
		return nil
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	for n := range packs {
		group.Go(func() error {
			p := &m.packs[n]
			content, err := c.repo.readPackFooter(gctx, packInfo{p.id, p.size})
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			if errors.Is(err, errKeyMissing) {
				return errMarkAgain // another collection has deleted it since it was listed
			}
			if err != nil {
				p.unread = fmt.Errorf("repo: collect: what differences in %s build on is unknown: %w; nothing was deleted, see Check", packKey(p.id), outward(err))
			}
			var deltas []markedDelta
			for _, e := range content.entries {
				if e.base == 0 {
					continue
				}
				first, end := m.find(&e.id)
				for i := first; i < end; i++ {
					if m.packOf[i] == n && m.flags[i]&markDelta != 0 {
						deltas = append(deltas, markedDelta{uint32(i), m.placeOf(&content.bases[e.base-1])})
						break
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			m.deltas = append(m.deltas, deltas...)
			return nil
		})
	}
	return group.Wait()
}

// placeOf returns the number of the first place of a chunk.
func (m *marks) placeOf(id *chunk.ID) uint32 {
	first, end := m.find(id)
	if first == end {
		return noPlace
	}
	return uint32(first)
}

// markBases marks what those chunks are differences to that are kept as differences. Bases
// are in full themselves, so there is nothing below them, unless one is kept as a difference too,
// beside a place in full that is damaged.
func (m *marks) markBases() error {
	for again := true; again; {
		again = false
		for _, d := range m.deltas {
			if !m.keptIn(d.place) {
				continue
			}
			if m.fullPlace(d.base, func(int) bool { return true }) < 0 {
				return fmt.Errorf("%w: what a difference in %s builds on is in no index in full", ErrMissing, packKey(m.packs[m.packOf[d.place]].id))
			}
			again = again || m.flags[d.base]&markNeeded == 0
			m.needPlaces(int(d.base))
		}
		for i, f := range m.flags {
			if p := &m.packs[m.packOf[i]]; f&markKept != 0 && f&markDelta != 0 && p.unread != nil {
				return p.unread
			}
		}
		m.choose()
	}
	return nil
}

// keptIn says whether a chunk is kept in the pack of the given place.
func (m *marks) keptIn(place uint32) bool {
	for i := int(place); i < len(m.keys) && m.keys[i] == m.keys[place]; i++ {
		if m.packOf[i] == m.packOf[place] && m.flags[i]&markKept != 0 {
			return true
		}
	}
	return false
}

// fullPlace returns the first place for which ok is true among those that hold a chunk in full,
// given the first of its places; -1 if there is none.
func (m *marks) fullPlace(base uint32, ok func(place int) bool) int {
	if base == noPlace {
		return -1
	}
	for i := int(base); i < len(m.keys) && m.keys[i] == m.keys[base]; i++ {
		if m.flags[i]&markDelta == 0 && ok(i) {
			return i
		}
	}
	return -1
}

// settle adds to the packs that are to be repacked those with differences that would lose what
// they build on, and with holding takes packs off the dead ones instead.
func (m *marks) settle(dead, repack []packID, holding bool) (_, _ []packID) {
	const stays, dies, moves = 0, 1, 2
	fate := make([]byte, len(m.packs))
	for _, id := range dead {
		fate[m.number[id]] = dies
	}
	for _, id := range repack {
		fate[m.number[id]] = moves
	}
	survives := func(i int) bool {
		n := m.packOf[i]
		return m.usable(n) && (fate[n] == stays || fate[n] == moves && m.flags[i]&markKept != 0)
	}
	for again := true; again; {
		again = false
		for _, d := range m.deltas {
			n := m.packOf[d.place]
			if fate[n] != stays || m.fullPlace(d.base, survives) >= 0 {
				continue
			}
			at := m.fullPlace(d.base, func(i int) bool { return m.usable(m.packOf[i]) })
			switch {
			case holding && at >= 0:
				fate[m.packOf[at]] = stays
			case !holding && m.usable(n):
				fate[n] = moves
				repack = append(repack, m.packs[n].id)
			default:
				continue // another plan's to see to, or lost already
			}
			again = true
		}
	}
	gone := func(id packID) bool { return fate[m.number[id]] == stays }
	return slices.DeleteFunc(dead, gone), slices.DeleteFunc(repack, gone)
}

// usable says whether a pack is there and no other plan condemns it.
func (m *marks) usable(n uint32) bool { return m.packs[n].size > 0 && !m.packs[n].unusable }

// unknown returns why it is unknown what differences in a pack build on that does not go.
func (m *marks) unknown(goes []packID) error {
	going := make(map[packID]bool, len(goes))
	for _, id := range goes {
		going[id] = true
	}
	for i := range m.packs {
		if p := &m.packs[i]; p.unread != nil && !going[p.id] {
			return p.unread
		}
	}
	return nil
}
