package repo

import (
	"bytes"
	"errors"
	"iter"
	"maps"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// indexSet is the indexes of a repository at one time. It is immutable.
type indexSet struct {
	// indexes are those in memory, segments the files of the cache that hold the
	// others. An index may be in two segments, which does no harm.
	indexes  []*index
	segments []*segment
	// dead is superseded indexes, and what they supersede: that stays dead too.
	dead map[indexID][]indexID
	// leftover is superseded indexes whose objects are still there, because their
	// writer stopped before it deleted them.
	leftover []indexID
	// broken says of each index that is damaged, or of a newer format, what is wrong.
	// The others serve without it; a session that lacks its chunks stores them
	// again.
	broken []brokenIndex
}

// brokenIndex is an index that cannot be used, and why.
type brokenIndex struct {
	id  indexID
	err error
}

// brokenErr says what is wrong with the indexes that cannot be used, nil if there
// are none.
func (s *indexSet) brokenErr() error {
	var errs []error
	for _, b := range s.broken {
		errs = append(errs, b.err)
	}
	return errors.Join(errs...)
}

// locate returns the places a chunk is stored in, best first: in full before as a
// difference.
func (s *indexSet) locate(id *chunk.ID) []location {
	var out []location
	for _, g := range s.segments {
		out = g.locate(id, out)
	}
	for _, x := range s.indexes {
		for i := x.find(id); i < x.count() && chunk.ID(x.recordID(i)) == *id; i++ {
			// Two processes that merge at once leave the same record twice.
			if l := x.location(i); !slices.Contains(out, l) {
				out = append(out, l)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b location) int { return deltaOrder(a) - deltaOrder(b) })
	return out
}

// locateOne returns one place of a chunk, without allocating.
func (s *indexSet) locateOne(id *chunk.ID) (location, bool) {
	for _, g := range s.segments {
		if l, ok := g.locateOne(id, false); ok {
			return l, true
		}
	}
	for _, x := range s.indexes {
		if i := x.find(id); i < x.count() {
			return x.location(i), true
		}
	}
	return location{}, false
}

func deltaOrder(l location) int {
	if l.codec == chunk.Delta {
		return 1
	}
	return 0
}

// locateFull returns one place that holds a chunk in full, without allocating.
func (s *indexSet) locateFull(id *chunk.ID) (location, bool) {
	for _, g := range s.segments {
		if l, ok := g.locateOne(id, true); ok {
			return l, true
		}
	}
	for _, x := range s.indexes {
		for i := x.find(id); i < x.count() && bytes.Equal(x.recordID(i), id[:]); i++ {
			if l := x.location(i); l.codec != chunk.Delta {
				return l, true
			}
		}
	}
	return location{}, false
}

// has reports whether a chunk is in an index.
func (s *indexSet) has(id *chunk.ID) bool {
	for _, g := range s.segments {
		if g.has(id) {
			return true
		}
	}
	for _, x := range s.indexes {
		if x.find(id) < x.count() {
			return true
		}
	}
	return false
}

// indexEntry is one place of one chunk.
type indexEntry struct {
	id chunk.ID
	location
}

// all goes through every place of every chunk, in the order of the chunks' IDs. A
// place that several indexes name comes once. It stops after the first error.
func (s *indexSet) all() iter.Seq2[indexEntry, error] {
	return func(yield func(indexEntry, error) bool) {
		packs, records, err := mergeSources(s.sources())
		if err != nil {
			yield(indexEntry{}, err)
			return
		}
		for r, err := range records {
			if err != nil {
				yield(indexEntry{}, err)
				return
			}
			if !yield(indexEntry{chunk.ID(r[:32]), parseRecord(r, packs)}, nil) {
				return
			}
		}
	}
}

func (s *indexSet) sources() []recordSource {
	var out []recordSource
	for _, g := range s.segments {
		out = append(out, g)
	}
	for _, x := range s.indexes {
		out = append(out, x)
	}
	return out
}

// records returns at least how many records all goes through: places that several indexes name
// count more than once.
func (s *indexSet) records() (n int) {
	for _, g := range s.segments {
		n += int(g.records)
	}
	for _, x := range s.indexes {
		n += x.count()
	}
	return n
}

// infos says which indexes the set is made of, in the order of their IDs.
func (s *indexSet) infos() []indexInfo {
	var out []indexInfo
	for _, g := range s.segments {
		out = append(out, g.covers...)
	}
	for _, x := range s.indexes {
		out = append(out, x.info())
	}
	return distinctInfos(out)
}

// distinctInfos sorts by ID, and leaves each index in once.
func distinctInfos(infos []indexInfo) []indexInfo {
	slices.SortFunc(infos, func(a, b indexInfo) int { return bytes.Compare(a.id[:], b.id[:]) })
	return slices.CompactFunc(infos, func(a, b indexInfo) bool { return a.id == b.id })
}

// namesPack reports whether an index names a pack, or might: what is damaged in the
// cache might.
func (s *indexSet) namesPack(id packID) bool {
	return slices.ContainsFunc(s.segments, func(g *segment) bool { return g.namesPack(id) }) ||
		slices.ContainsFunc(s.indexes, func(x *index) bool {
			return slices.ContainsFunc(x.packs, func(p packInfo) bool { return p.id == id })
		})
}

// spoilt says whether a file of the cache that the set rests on was found damaged.
func (s *indexSet) spoilt() bool {
	return slices.ContainsFunc(s.segments, func(g *segment) bool { return g.err() != nil })
}

// recheck looks once more at what an answer about a chunk rests on, and returns
// what is wrong with it.
func (s *indexSet) recheck(id *chunk.ID) error {
	var errs []error
	for _, g := range s.segments {
		errs = append(errs, g.recheck(id))
	}
	return errors.Join(errs...)
}

// with returns the set with one more index. It reports false if that supersedes a
// part of a segment: then the rest has to be read again.
func (s *indexSet) with(x *index) (*indexSet, bool) {
	out := &indexSet{
		indexes:  append(slices.Clone(s.indexes), x),
		segments: slices.Clone(s.segments),
		dead:     maps.Clone(s.dead),
		leftover: slices.Clone(s.leftover),
		broken:   slices.Clone(s.broken),
	}
	for _, g := range s.segments {
		if slices.ContainsFunc(x.superseded, g.holds) {
			return nil, false
		}
	}
	out.dropSuperseded()
	return out, true
}

// dropSuperseded takes out the indexes that another one replaces.
func (s *indexSet) dropSuperseded() {
	dead := make(map[indexID]bool)
	for _, x := range s.indexes {
		for _, id := range x.superseded {
			dead[id] = true
		}
	}
	s.indexes = slices.DeleteFunc(s.indexes, func(x *index) bool {
		if dead[x.id] {
			s.bury(x.id, x.superseded)
		}
		return dead[x.id]
	})
	s.broken = slices.DeleteFunc(s.broken, func(b brokenIndex) bool {
		if dead[b.id] {
			s.bury(b.id, nil)
		}
		return dead[b.id]
	})
}

// bury notes that an index is superseded, and that its object is still there.
func (s *indexSet) bury(id indexID, superseded []indexID) {
	if s.dead == nil {
		s.dead = make(map[indexID][]indexID)
	}
	s.dead[id] = superseded
	s.leftover = append(s.leftover, id)
}

// sameAs reports whether both hold the same indexes.
func (s *indexSet) sameAs(o *indexSet) bool {
	return o != nil && slices.EqualFunc(s.infos(), o.infos(), func(a, b indexInfo) bool { return a.id == b.id })
}

// follows reports whether nothing can have been missed by a look at the indexes that found s, right
// after one that found before: all that was there is there still, and what is new replaces nothing. A
// commit's index names its session alone as superseded.
func (s *indexSet) follows(before *indexSet) bool {
	left := make(map[indexID]bool)
	for _, x := range before.infos() {
		left[x.id] = true
	}
	for _, x := range s.infos() {
		if !left[x.id] && len(x.superseded) > 1 {
			return false
		}
		delete(left, x.id)
	}
	return len(left) == 0
}
