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
// No session may be under way meanwhile, in this process or another: its packs
// would be in the new index, though it may yet be aborted. A collection may.
//
// It fails, and has changed nothing, where the store fails to show a pack for now
// (ErrUnavailable, ErrAuthentication, ErrPermission): that is no damage. Otherwise it fails
// with ErrClosed, with ErrGivenUp, with the context's error or the bucket's.
func (r *Repository) RebuildIndex(ctx context.Context, opts RebuildOptions) (out Rebuilt, err error) {
	if err := r.use(); err != nil {
		return out, err
	}
	// No collection that begins from here on forgets a pack that the new index may name.
	leased, end := context.WithCancelCause(ctx)
	defer end(ErrClosed)
	l, err := takeLease(leased, r.store, r.opts.Logger)
	if err != nil {
		return out, err
	}
	defer func() {
		end(ErrClosed)
		ctx, cancel := outlive(ctx, commitGrace)
		defer cancel()
		if err := l.end(ctx); err != nil {
			r.opts.Logger.Warn("the lease of a rebuild stays", "error", err)
		}
	}()
	err = r.rebuildIndex(ctx, opts, l, &out)
	return out, err
}

func (r *Repository) rebuildIndex(ctx context.Context, opts RebuildOptions, l *lease, out *Rebuilt) error {
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
		return err
	}
	good, err := r.readablePacks(ctx, opts, out)
	if err != nil {
		return err
	}
	out.Packs = len(good)
	for _, p := range good {
		out.Chunks += len(p.entries)
	}
	if err := r.writeRebuilt(ctx, good, old, l.id); err != nil {
		l.unsure.Store(true)
		return err
	}
	if _, err := r.store.readAll(ctx, closingKey(l.id), maxClosingSize); !errors.Is(err, errKeyMissing) {
		l.unsure.Store(true)
		return errors.Join(ErrGivenUp, err)
	}
	for _, id := range old {
		if err := r.store.remove(ctx, indexKey(id)); err != nil {
			return err
		}
		out.Replaced++
	}
	if _, err = r.refreshIndex(ctx); err != nil {
		return err
	}
	out.Plans, err = r.forgetDamagedPlans(ctx)
	return err
}

// readablePacks returns what of all packs the new index is to name, and reports the rest.
func (r *Repository) readablePacks(ctx context.Context, opts RebuildOptions, out *Rebuilt) ([]packContent, error) {
	footers, err := r.readAllFooters(ctx)
	if err != nil {
		return nil, err
	}
	var good []packContent
	for _, f := range footers {
		switch {
		case f.err == nil:
			good = append(good, f.packContent)
		case isStoreFailure(f.err):
			return nil, rebuildFailure(f.err)
		default:
			out.Damaged = append(out.Damaged, f.err)
		}
	}
	if opts.ReadData {
		if good, err = r.soundChunks(ctx, good, out); err != nil {
			return nil, err
		}
	}
	return withoutLostBases(good, out), nil
}

// rebuildFailure is the error where the store fails to show a pack.
func rebuildFailure(err error) error {
	return fmt.Errorf("repo: rebuild the index: the store fails, and the indexes stay as they are: %w", err)
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
	var failure error
	_, all := buildIndex(packs, nil)
	err := r.verifyPacks(ctx, packs, all, func(p packContent, bad []badFrame, err error) {
		if err != nil && isStoreFailure(err) {
			failure = rebuildFailure(err)
			return
		}
		if err != nil {
			out.Damaged = append(out.Damaged, err)
			return
		}
		left := make(map[uint32]bool)
		for _, b := range bad {
			if b.readable {
				continue
			}
			damage := &ChunkError{ID: b.entry.id, Pack: packKey(p.id), Offset: int64(b.entry.offset), Length: int64(b.entry.stored), Err: b.err}
			if isStoreFailure(b.err) {
				failure = rebuildFailure(damage)
			}
			left[b.entry.offset] = true
			out.Damaged = append(out.Damaged, damage)
		}
		p.entries = slices.DeleteFunc(slices.Clone(p.entries), func(e packEntry) bool { return left[e.offset] })
		if len(p.entries) > 0 {
			sound = append(sound, p)
		}
	})
	slices.SortFunc(sound, func(a, b packContent) int { return bytes.Compare(a.id[:], b.id[:]) })
	if err == nil {
		err = failure
	}
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

// writeRebuilt writes indexes of the packs that supersede the old ones. Only the last one
// supersedes, when all others are durable.
func (r *Repository) writeRebuilt(ctx context.Context, packs []packContent, old []indexID, by sessionID) error {
	for {
		n := indexPart(packs)
		last := n == len(packs)
		superseded := []indexID{indexID(by)}
		if last {
			superseded = append(superseded, old...)
			slices.SortFunc(superseded, func(a, b indexID) int { return bytes.Compare(a[:], b[:]) })
		}
		if n > 0 || len(old) > 0 {
			data, x := buildIndex(packs[:n], superseded)
			if err := r.writeIndex(ctx, data, x); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		packs = packs[n:]
	}
}
