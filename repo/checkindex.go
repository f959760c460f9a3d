package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// readIndexes reads all indexes, and again what changed, until two listings agree:
// while a listing runs an index may be replaced by one whose name it has passed.
func (c *checker) readIndexes(ctx context.Context) error {
	read := make(map[indexID]indexResult)
	var before []indexID
	for attempt := 1; ; attempt++ {
		listed, err := c.listIndexes(ctx, read)
		if err != nil {
			return err
		}
		c.report.Indexes = len(listed)
		if attempt > 1 && slices.Equal(listed, before) || attempt == maxListings {
			break
		}
		before = listed
	}
	set := &indexSet{}
	for id, got := range read {
		if got.err != nil {
			set.broken = append(set.broken, brokenIndex{id, got.err})
		} else {
			set.indexes = append(set.indexes, got.index)
		}
	}
	// What a session writes after it was given up counts for nothing, and may name packs that
	// are gone. The next collection deletes it.
	view, err := c.repo.listGarbage(ctx)
	if err != nil {
		return err
	}
	set.indexes = slices.DeleteFunc(set.indexes, func(x *index) bool { return x.info().by(view.verdicts) })
	slices.SortFunc(set.indexes, func(a, b *index) int { return bytes.Compare(a.id[:], b.id[:]) })
	set.dropSuperseded()
	for _, b := range set.broken {
		c.add(Damage{Object: indexKey(b.id), Err: b.err})
	}
	c.indexes = set.indexes
	c.repo.indexes.Store(set)
	return nil
}

// indexResult is what reading one index gave.
type indexResult struct {
	index *index
	err   error
}

// listIndexes lists the indexes and reads those that are not in read.
func (c *checker) listIndexes(ctx context.Context, read map[indexID]indexResult) (listed []indexID, err error) {
	err = c.repo.store.list(ctx, indexPrefix, func(o object) error {
		id, ok := parseIndexKey(o.key)
		if !ok {
			return nil
		}
		listed = append(listed, id)
		if _, ok := read[id]; ok {
			return nil
		}
		x, err := c.repo.readIndex(ctx, o.key, id)
		if errors.Is(err, errKeyMissing) {
			return nil // superseded since the listing
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		read[id] = indexResult{x, err}
		return nil
	})
	return listed, err
}

// compareIndexes looks for records that say something else than the packs do.
func (c *checker) compareIndexes() {
	packs := make(map[packID]bool)
	for _, p := range c.actual.packs {
		packs[p.id] = true
	}
	for _, x := range c.indexes {
		wrong, missing := 0, map[packID]bool{}
		for i := range x.count() {
			id, l := chunk.ID(x.recordID(i)), x.location(i)
			if _, ok := c.unreadable[l.pack]; ok {
				continue
			}
			if !c.known(&id, l) {
				if packs[l.pack] {
					wrong++
				} else {
					missing[l.pack] = true
				}
			}
		}
		if wrong > 0 {
			c.add(Damage{Object: indexKey(x.id), Err: fmt.Errorf("%w: %d records differ from the packs: rebuild the index", ErrCorrupt, wrong)})
		}
		for pack := range missing {
			c.add(Damage{Object: packKey(pack), Err: fmt.Errorf("%w: index %s names it", ErrMissing, indexKey(x.id))})
		}
	}
}

// known says whether the packs themselves say that a chunk is at a place.
func (c *checker) known(id *chunk.ID, l location) bool {
	for i := c.actual.find(id); i < c.actual.count() && chunk.ID(c.actual.recordID(i)) == *id; i++ {
		if c.actual.location(i) == l {
			return true
		}
	}
	return false
}
