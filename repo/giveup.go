package repo

import (
	"context"
	"errors"
	"slices"
)

// giveUp ends a session that shows no sign of life. What it does afterwards does not count,
// whenever it wakes and whichever of its requests are still on their way. What it has done
// before does: see "Giving a session up" in FORMAT.md.
func (c *collector) giveUp(ctx context.Context, id sessionID) error {
	r := c.repo
	// From here on the session does not take a snapshot for made, nor an index for replaced.
	err := r.createDocument(ctx, closingKey(id), leaseDocument{id.String()})
	if err != nil && !errors.Is(err, errKeyExists) {
		return err
	}
	manifests, err := c.readManifests(ctx)
	if err != nil {
		return err
	}
	var found []string
	for _, m := range manifests {
		if m.Session == id.String() {
			found = append(found, m.ID)
		}
	}
	if err := c.adoptIndexes(ctx, id); err != nil {
		return err
	}
	if _, err := r.decide(ctx, id, found); err != nil {
		return err
	}
	return c.removeLease(ctx, id)
}

// adoptIndexes writes the indexes of a session anew under another one.
func (c *collector) adoptIndexes(ctx context.Context, id sessionID) (err error) {
	// Before the look at the indexes: what is read without a lease may name packs that
	// another collection has forgotten by now.
	s, err := c.repo.NewSession(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Abort(ctx)) }()
	set, err := c.freshIndex(ctx)
	if err != nil {
		return err
	}
	own := map[sessionID]bool{id: true}
	var indexes []*index
	for _, info := range set.infos() {
		if !info.by(own) {
			continue
		}
		x, err := c.repo.wholeIndex(ctx, set, info.id)
		if errors.Is(err, errKeyMissing) {
			return c.adoptIndexes(ctx, id) // merged meanwhile
		}
		if err != nil {
			return err
		}
		indexes = append(indexes, x)
	}
	if len(indexes) == 0 {
		return nil
	}
	return c.repo.replaceIndexes(ctx, indexes, s.lease)
}

// removeLease deletes the lease of a session that was given up.
func (c *collector) removeLease(ctx context.Context, id sessionID) error {
	// The renewals first: without a lease they say nothing.
	var keys []string
	err := c.repo.store.list(ctx, leaseKey(id)+".", func(o object) error {
		keys = append(keys, o.key)
		return nil
	})
	for _, key := range append(keys, leaseKey(id)) {
		if err == nil {
			err = c.repo.store.remove(ctx, key)
		}
	}
	return err
}

// tidy finishes what earlier collections have left half done about sessions, and deletes what
// was written for sessions that do not count.
func (c *collector) tidy(ctx context.Context) error {
	held, orphans, err := c.repo.leases(ctx)
	if err != nil {
		return err
	}
	for _, key := range orphans {
		if err := c.repo.store.remove(ctx, key); err != nil {
			return err
		}
	}
	view, err := c.repo.listGarbage(ctx)
	if err != nil {
		return err
	}
	for id := range view.closing {
		if !view.verdicts[id] {
			if err := c.giveUp(ctx, id); err != nil {
				return err
			}
		}
	}
	for id := range held {
		if view.verdicts[id] {
			if err := c.removeLease(ctx, id); err != nil {
				return err
			}
		}
	}
	if len(view.verdicts) == 0 {
		return nil
	}
	set, err := c.repo.refreshIndex(ctx)
	if err != nil {
		return err
	}
	indexes := slices.DeleteFunc(set.infos(), func(x indexInfo) bool { return !x.by(view.verdicts) })
	for _, x := range indexes {
		// What it held when the session was given up stands in another index.
		if err := c.repo.store.remove(ctx, indexKey(x.id)); err != nil {
			return err
		}
	}
	if len(indexes) > 0 {
		_, err = c.repo.refreshIndex(ctx)
	}
	return err
}
