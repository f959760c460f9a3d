package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdstill/holdstill/chunk"
)

// RebuildOptions say how RebuildIndex works. The zero value works.
type RebuildOptions struct {
	// ReadData reads every pack and leaves chunks that are damaged out of the index.
	// That mends nothing by itself, but the next snapshot that holds the same data
	// stores it again, which makes older ones whole that share it. Otherwise only
	// the packs' footers are read.
	ReadData bool
}

// Rebuilt tells what RebuildIndex did.
type Rebuilt struct {
	// Packs and Chunks are what the new index holds.
	Packs, Chunks int
	// Replaced is how many indexes the new one replaces, damaged ones included.
	Replaced int
	// Plans is how many plans of collections were forgotten, since they could not be read.
	Plans int
	// Damaged holds an error for each pack that could not be read and is not in
	// the index, and with ReadData a *ChunkError for each chunk left out. Each
	// matches ErrCorrupt or ErrFormat, or is the bucket's.
	Damaged []error
}

// RebuildIndex makes the index anew from the packs alone, and replaces every index
// there is, readable or not. What cannot be read is left out and reported; it stays
// where it is. Plans of collections that are damaged are forgotten: they keep sessions and
// collections from going on, and what they were about to delete is in the new index or gone.
//
// No other process may write to the repository meanwhile: the packs of a session
// that is under way would be in the new index, though the session may yet be
// aborted.
func (r *Repository) RebuildIndex(ctx context.Context, opts RebuildOptions) (Rebuilt, error) {
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
	}
	if opts.ReadData {
		if good, err = r.soundChunks(ctx, good, &out); err != nil {
			return out, err
		}
	}
	good = withoutLostBases(good, &out)
	out.Packs = len(good)
	for _, p := range good {
		out.Chunks += len(p.entries)
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
	if _, err = r.refreshIndex(ctx); err != nil {
		return out, err
	}
	out.Plans, err = r.forgetDamagedPlans(ctx)
	return out, err
}

// damagedPlans calls found with every plan of which an object cannot be read, and why.
func (r *Repository) damagedPlans(ctx context.Context, found func(id planID, key string, objects map[string]bool, err error) error) error {
	view, err := r.listGarbage(ctx)
	if err != nil {
		return err
	}
	for id, objects := range view.plans {
		for suffix := range objects {
			key, err := planKey(id)+suffix, error(nil)
			switch {
			case suffix == "" || suffix == finalSuffix:
				_, err = r.readPackList(ctx, key)
			case suffix == waitSuffix || strings.HasPrefix(suffix, cleanSuffix):
				err = planError(r.readDocument(ctx, key, maxPlanSize, &sessionList{}))
			}
			switch {
			case err == nil || errors.Is(err, errKeyMissing):
				continue
			case errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat):
				err = found(id, key, objects, err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetDamagedPlans deletes the plans that are damaged. No index names a pack any more that one of
// them has deleted.
func (r *Repository) forgetDamagedPlans(ctx context.Context) (n int, err error) {
	damaged := make(map[planID]map[string]bool)
	err = r.damagedPlans(ctx, func(id planID, _ string, objects map[string]bool, err error) error {
		if errors.Is(err, ErrCorrupt) {
			damaged[id] = objects
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for id, objects := range damaged {
		if err := r.forget(ctx, id, objects); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// soundChunks returns what of the packs can be read, and reports the rest.
func (r *Repository) soundChunks(ctx context.Context, packs []packContent, out *Rebuilt) ([]packContent, error) {
	var sound []packContent
	_, all := buildIndex(packs, nil)
	err := r.verifyPacks(ctx, packs, all, func(p packContent, bad []badFrame, err error) {
		if err != nil {
			out.Damaged = append(out.Damaged, err)
			return
		}
		left := make(map[uint32]bool)
		for _, b := range bad {
			if b.readable {
				continue
			}
			left[b.entry.offset] = true
			out.Damaged = append(out.Damaged, &ChunkError{
				ID: b.entry.id, Pack: packKey(p.id), Offset: int64(b.entry.offset), Length: int64(b.entry.stored), Err: b.err,
			})
		}
		p.entries = slices.DeleteFunc(slices.Clone(p.entries), func(e packEntry) bool { return left[e.offset] })
		if len(p.entries) > 0 {
			sound = append(sound, p)
		}
	})
	slices.SortFunc(sound, func(a, b packContent) int { return bytes.Compare(a.id[:], b.id[:]) })
	return sound, err
}

// withoutLostBases leaves out the chunks that are stored as differences to one that
// none of the packs holds in full, and reports them. If they stayed, a session that
// has one of them would take it for stored.
func withoutLostBases(packs []packContent, out *Rebuilt) []packContent {
	found := make(map[chunk.ID]bool)
	for _, p := range packs {
		for _, base := range p.bases {
			found[base] = false
		}
	}
	if len(found) == 0 {
		return packs
	}
	for _, p := range packs {
		for i := range p.entries {
			if _, base := found[p.entries[i].id]; base && p.entries[i].base == 0 {
				found[p.entries[i].id] = true
			}
		}
	}
	var kept []packContent
	for _, p := range packs {
		p.entries = slices.DeleteFunc(slices.Clone(p.entries), func(e packEntry) bool {
			if e.base == 0 || found[p.bases[e.base-1]] {
				return false
			}
			out.Damaged = append(out.Damaged, &ChunkError{
				ID: e.id, Pack: packKey(p.id), Offset: int64(e.offset), Length: int64(e.stored),
				Err: &BaseError{ID: p.bases[e.base-1], Err: fmt.Errorf("%w: no readable pack holds it in full", ErrMissing)},
			})
			return true
		})
		if len(p.entries) > 0 {
			kept = append(kept, p)
		}
	}
	return kept
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
