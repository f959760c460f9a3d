package repo

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

const (
	// mergeCount is how many small indexes a commit leaves standing: each one is
	// a request at every open and a search at every look-up.
	mergeCount = 16
	// mergeLimit is the size in bytes above which an index is left alone, so that
	// a commit never rewrites the index of a large repository.
	mergeLimit = 32 << 20
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

// currentIndex returns the indexes, loading them the first time.
func (r *Repository) currentIndex(ctx context.Context) (*indexSet, error) {
	if s := r.indexes.Load(); s != nil {
		return s, nil
	}
	return r.refreshIndex(ctx)
}

// refreshIndex reads what other writers have added since the last look. What is
// in memory already is not read again.
func (r *Repository) refreshIndex(ctx context.Context) (*indexSet, error) {
	if err := r.lockIndexes(ctx); err != nil {
		return nil, err
	}
	defer r.unlockIndexes()
	for attempt := 1; ; attempt++ {
		s, err := r.loadIndexes(ctx)
		// Another process may supersede and delete an index between the listing
		// and the read; what replaced it is in the next listing.
		if errors.Is(err, errKeyMissing) && attempt < maxListings && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		r.indexes.Store(s)
		return s, nil
	}
}

// loadIndexes lists and reads the indexes. The caller holds indexMu.
func (r *Repository) loadIndexes(ctx context.Context) (*indexSet, error) {
	known := make(map[indexID]*index)
	if s := r.indexes.Load(); s != nil {
		for _, x := range s.indexes {
			known[x.id] = x
		}
	}
	next := &indexSet{}
	err := r.store.list(ctx, indexPrefix, func(o object) error {
		id, ok := parseIndexKey(o.key)
		if !ok {
			return nil
		}
		if x := known[id]; x != nil {
			next.indexes = append(next.indexes, x)
			return nil
		}
		x, err := r.readIndex(ctx, o.key, id)
		switch {
		case err == nil:
			next.indexes = append(next.indexes, x)
		case errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat):
			next.broken = append(next.broken, brokenIndex{id, err})
		default:
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	next.dropSuperseded()
	if err := next.brokenErr(); err != nil {
		r.opts.Logger.Warn("indexes cannot be used; RebuildIndex replaces them", "error", err)
	}
	return next, nil
}

func (r *Repository) readIndex(ctx context.Context, key string, id indexID) (*index, error) {
	data, err := r.store.readAll(ctx, key, maxIndexSize)
	if err != nil {
		return nil, err
	}
	return parseIndex(key, id, data)
}

// lockIndexes waits for the right to replace indexes.
func (r *Repository) lockIndexes(ctx context.Context) error {
	select {
	case r.indexToken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Repository) unlockIndexes() { <-r.indexToken }

// adoptIndex adds an index that is durable to those in memory. If ctx ends first it
// does not; then the next look at the bucket finds it.
func (r *Repository) adoptIndex(ctx context.Context, x *index) {
	if r.lockIndexes(ctx) != nil {
		return
	}
	defer r.unlockIndexes()
	if s := r.indexes.Load(); s != nil {
		r.indexes.Store(s.with(x))
	}
}

// writeIndex makes an index durable. That it exists already is as good: its name
// is its content.
func (r *Repository) writeIndex(ctx context.Context, data []byte, x *index) error {
	err := r.store.create(ctx, indexKey(x.id), data)
	if err != nil && !errors.Is(err, errKeyExists) {
		return err
	}
	return nil
}

// mergeSmallIndexes replaces many small indexes by one. It is upkeep: a failure
// leaves more indexes than need be and is tried again at the next commit.
func (r *Repository) mergeSmallIndexes(ctx context.Context) error {
	s, err := r.currentIndex(ctx)
	if err != nil {
		return err
	}
	for _, id := range s.leftover {
		if err := r.store.remove(ctx, indexKey(id)); err != nil {
			return err
		}
	}
	var small []*index
	var total int64
	for _, x := range s.indexes {
		if x.size <= mergeLimit && total+x.size <= 4*mergeLimit {
			small = append(small, x)
			total += x.size
		}
	}
	if len(small) < mergeCount {
		return nil
	}
	return r.replaceIndexes(ctx, small)
}

// replaceIndexes writes one index in the place of several. The new one is durable
// before the first of the old ones goes, so a reader always finds every chunk.
func (r *Repository) replaceIndexes(ctx context.Context, old []*index) error {
	data, merged := mergeIndexes(old)
	if err := r.writeIndex(ctx, data, merged); err != nil {
		return err
	}
	r.adoptIndex(ctx, merged)
	for _, x := range old {
		if err := r.store.remove(ctx, indexKey(x.id)); err != nil {
			return err
		}
	}
	return nil
}
