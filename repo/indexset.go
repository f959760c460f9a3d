package repo

import (
	"bytes"
	"errors"
	"iter"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// indexSet is the indexes of a repository at one time. It is immutable.
type indexSet struct {
	indexes []*index
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
	for _, x := range s.indexes {
		for i := x.find(id); i < x.count() && bytes.Equal(x.recordID(i), id[:]); i++ {
			if l := x.location(i); l.codec != chunk.Delta {
				return l, true
			}
		}
	}
	return location{}, false
}

func (s *indexSet) has(id *chunk.ID) bool {
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
	for _, x := range s.indexes {
		out = append(out, x)
	}
	return out
}

// ids returns the indexes that the set is made of, in no order.
func (s *indexSet) ids() []indexID {
	var out []indexID
	for _, x := range s.indexes {
		out = append(out, x.id)
	}
	return out
}

func (s *indexSet) namesPack(id packID) bool {
	return slices.ContainsFunc(s.indexes, func(x *index) bool {
		return slices.ContainsFunc(x.packs, func(p packInfo) bool { return p.id == id })
	})
}

func (s *indexSet) with(x *index) *indexSet {
	out := &indexSet{
		indexes:  append(slices.Clone(s.indexes), x),
		leftover: slices.Clone(s.leftover),
		broken:   slices.Clone(s.broken),
	}
	out.dropSuperseded()
	return out
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
			s.leftover = append(s.leftover, x.id)
		}
		return dead[x.id]
	})
	s.broken = slices.DeleteFunc(s.broken, func(b brokenIndex) bool {
		if dead[b.id] {
			s.leftover = append(s.leftover, b.id)
		}
		return dead[b.id]
	})
}

// sameAs reports whether both hold the same indexes.
func (s *indexSet) sameAs(o *indexSet) bool {
	return o != nil && slices.EqualFunc(s.indexes, o.indexes, func(a, b *index) bool { return a.id == b.id })
}
