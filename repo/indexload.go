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
	s, err := r.loadIndexes(ctx, nil, nil)
	if err == nil {
		r.indexes.Store(s)
	}
	return s, err
}

// indexWithout reads the indexes that are not of the given sessions, and so supersede
// nothing.
func (r *Repository) indexWithout(ctx context.Context, sessions map[sessionID]bool) (*indexSet, error) {
	if err := r.lockIndexes(ctx); err != nil {
		return nil, err
	}
	defer r.unlockIndexes()
	return r.loadIndexes(ctx, nil, sessions)
}

// of says whether any of the indexes, or of those that they supersede, was written by
// one of the given sessions.
func (s *indexSet) of(sessions map[sessionID]bool) bool {
	return len(sessions) > 0 && slices.ContainsFunc(s.infos(), func(x indexInfo) bool { return x.by(sessions) })
}

// by says whether the index was written by one of the given sessions.
func (x indexInfo) by(sessions map[sessionID]bool) bool {
	return slices.ContainsFunc(x.superseded, func(id indexID) bool { return sessions[sessionID(id)] })
}

// loadIndexes lists the indexes and reads those that are new. more, unless nil, is
// one that need not be read; indexes of the sessions in without are left out. The caller
// holds the indexToken.
func (r *Repository) loadIndexes(ctx context.Context, more *index, without map[sessionID]bool) (*indexSet, error) {
	l := r.newIndexLoad()
	defer l.close()
	if s := r.indexes.Load(); s != nil {
		l.start(s)
	}
	if more != nil {
		l.known[more.id] = more
	}
	for attempt := 1; ; attempt++ {
		err := l.list(ctx)
		if err == nil {
			err = l.load(ctx)
		}
		if err == nil && len(without) > 0 {
			err = l.leaveOut(ctx, without)
		}
		if err == nil {
			break
		}
		// Another process may supersede and delete an index between the listing
		// and the read; what replaced it is in the next listing.
		if !errors.Is(err, errKeyMissing) || attempt == maxListings || ctx.Err() != nil {
			return nil, err
		}
	}
	next := l.set()
	l.fold(ctx, next)
	l.tidy(ctx, next)
	if err := l.unmap(next); err != nil {
		return nil, err
	}
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

// adoptIndex adds an index that is durable to those in memory. If ctx ends first, or
// the bucket fails, it does not; then the next look at the bucket finds it.
func (r *Repository) adoptIndex(ctx context.Context, x *index) {
	if r.lockIndexes(ctx) != nil {
		return
	}
	defer r.unlockIndexes()
	s := r.indexes.Load()
	if s == nil {
		return
	}
	next, ok := s.with(x)
	if !ok {
		var err error
		if next, err = r.loadIndexes(ctx, x, nil); err != nil {
			r.opts.Logger.Warn("reading the indexes failed; will be tried again", "error", err)
			return
		}
	} else {
		l := r.newIndexLoad()
		defer l.close()
		l.fold(ctx, next)
	}
	r.indexes.Store(next)
}
