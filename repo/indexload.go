package repo

import (
	"context"
	"errors"
	"slices"
)

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
		s, err := r.loadIndexes(ctx, nil)
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

// indexWithout reads the indexes that are not of the given sessions, and so supersede
// nothing.
func (r *Repository) indexWithout(ctx context.Context, sessions map[sessionID]bool) (*indexSet, error) {
	for attempt := 1; ; attempt++ {
		s, err := r.loadIndexes(ctx, sessions)
		if errors.Is(err, errKeyMissing) && attempt < maxListings && ctx.Err() == nil {
			continue
		}
		return s, err
	}
}

// of says whether any of the indexes, or of those that they supersede, was written by
// one of the given sessions.
func (s *indexSet) of(sessions map[sessionID]bool) bool {
	return len(sessions) > 0 && slices.ContainsFunc(s.indexes, func(x *index) bool { return x.by(sessions) })
}

// by says whether the index was written by one of the given sessions.
func (x *index) by(sessions map[sessionID]bool) bool {
	return slices.ContainsFunc(x.superseded, func(id indexID) bool { return sessions[sessionID(id)] })
}

// loadIndexes lists and reads the indexes, but for those of some sessions.
func (r *Repository) loadIndexes(ctx context.Context, without map[sessionID]bool) (*indexSet, error) {
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
	if len(without) > 0 {
		next.indexes = slices.DeleteFunc(next.indexes, func(x *index) bool { return x.by(without) })
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
