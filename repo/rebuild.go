package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Rebuilt tells what RebuildIndex did.
type Rebuilt struct {
	// Packs and Chunks are what the new index holds.
	Packs, Chunks int
	// Replaced is how many indexes the new one replaces, damaged ones included.
	Replaced int
	// Damaged holds an error for each pack that could not be read and is not in
	// the index. Each matches ErrCorrupt or ErrFormat, or is the bucket's.
	Damaged []error
}

// RebuildIndex makes the index anew from the packs alone, and replaces every index
// there is, readable or not. Packs that cannot be read are left out and reported;
// they stay where they are.
//
// No other process may write to the repository meanwhile: the packs of a session
// that is under way would be in the new index, though the session may yet be
// aborted.
func (r *Repository) RebuildIndex(ctx context.Context) (Rebuilt, error) {
	var out Rebuilt
	if err := r.use(); err != nil {
		return out, err
	}
	// Indexes are listed before packs: what an index of this listing names is
	// durable already, and so in the listing of the packs.
	var old []indexID
	err := r.store.list(ctx, indexPrefix, func(o object) error {
		if id, ok := parseIndexKey(o.key); ok {
			old = append(old, id)
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	footers, err := r.readAllFooters(ctx)
	if err != nil {
		return out, err
	}
	var good []packContent
	for _, f := range footers {
		if f.err != nil {
			out.Damaged = append(out.Damaged, f.err)
			continue
		}
		good = append(good, f.packContent)
		out.Packs++
		out.Chunks += len(f.entries)
	}
	kept, err := r.writeRebuilt(ctx, good, old)
	if err != nil {
		return out, err
	}
	for _, id := range old {
		if kept[id] {
			continue
		}
		if err := r.store.remove(ctx, indexKey(id)); err != nil {
			return out, err
		}
		out.Replaced++
	}
	_, err = r.refreshIndex(ctx)
	return out, err
}

// writeRebuilt writes indexes of the packs that supersede the old ones, and
// returns which it wrote. Only the last one supersedes, when all others are
// durable.
func (r *Repository) writeRebuilt(ctx context.Context, packs []packContent, old []indexID) (map[indexID]bool, error) {
	kept := make(map[indexID]bool)
	for {
		n := indexPart(packs)
		var superseded []indexID
		last := n == len(packs)
		if last {
			// An index that was just written again, with the same content, must not
			// be called superseded.
			superseded = slices.DeleteFunc(slices.Clone(old), func(id indexID) bool { return kept[id] })
		}
		data, x := buildIndex(packs[:n], superseded)
		if n > 0 || len(superseded) > 0 {
			if err := r.replaceIndex(ctx, data, x); err != nil {
				return nil, err
			}
			kept[x.id] = true
		}
		if last {
			return kept, nil
		}
		packs = packs[n:]
	}
}

// replaceIndex writes an index also where its key holds something else, which can
// only be a damaged copy of it.
func (r *Repository) replaceIndex(ctx context.Context, data []byte, x *index) error {
	key := indexKey(x.id)
	err := r.store.create(ctx, key, data)
	if !errors.Is(err, errKeyExists) {
		return err
	}
	if there, err := r.store.readAll(ctx, key, maxIndexSize); err == nil {
		if _, err := parseIndex(key, x.id, there); err == nil {
			return nil
		}
	}
	if err := r.store.remove(ctx, key); err != nil {
		return fmt.Errorf("replace a damaged index: %w", err)
	}
	return r.store.create(ctx, key, data)
}
