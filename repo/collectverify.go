package repo

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Where a chunk is stored twice, one place is kept and the other may go. Before it does, the
// one that is kept is read: the other may be the only one that is whole.

// verifyKept reads the chunks that are kept in one pack and also stand in one of those that
// go. It notes the packs in which one of them cannot be read, and says whether there are any.
func (c *collector) verifyKept(ctx context.Context, m *marks, goes []packID) (found bool, err error) {
	going := make([]bool, len(m.packs))
	for _, id := range goes {
		going[m.number[id]] = true
	}
	packs := make(map[uint32]bool)
	for first, end := range m.groups {
		for i := first; i < end; i++ {
			if m.restsOn(i, first, end, going) {
				packs[m.packOf[i]] = true
			}
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	for n := range packs {
		group.Go(func() error {
			err := c.verifyPlaces(gctx, m, n, going)
			switch {
			case err == nil:
				return nil
			case gctx.Err() != nil:
				return context.Cause(gctx)
			case !isDamage(err):
				return err
			}
			id := m.packs[n].id
			c.repo.opts.Logger.Warn("a pack is damaged: of the chunks in it, all other copies stay", "pack", packKey(id), "error", err)
			mu.Lock()
			defer mu.Unlock()
			c.damaged[id] = true
			found = true
			return nil
		})
	}
	return found, group.Wait()
}

// restsOn says whether place i, of a chunk with the places from first to end, is kept while
// another place goes that is not.
func (m *marks) restsOn(i, first, end int, going []bool) bool {
	if m.flags[i]&markKept == 0 || m.packs[m.packOf[i]].damaged {
		return false
	}
	for k := first; k < end; k++ {
		if going[m.packOf[k]] && m.flags[k]&markKept == 0 && m.packs[m.packOf[k]].size > 0 {
			return true
		}
	}
	return false
}

// verifyPlaces reads the chunks of one pack that verifyKept is about.
func (c *collector) verifyPlaces(ctx context.Context, m *marks, n uint32, going []bool) error {
	content, err := c.repo.readPackFooter(ctx, packInfo{m.packs[n].id, m.packs[n].size})
	if err != nil {
		return outward(err)
	}
	rd, err := c.repo.takeReader()
	if err != nil {
		return err
	}
	defer c.repo.readers.Put(rd)
	var window frameWindow
	for _, e := range content.entries {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		first, end := m.find(&e.id)
		asked := false
		for i := first; i < end && !asked; i++ {
			asked = m.packOf[i] == n && m.restsOn(i, first, end, going)
		}
		if !asked {
			continue
		}
		l := location{pack: content.id, offset: e.offset, stored: e.stored, plain: e.plain, codec: e.codec}
		stored, err := window.read(ctx, c.repo.store, l)
		if err == nil {
			rd.plain, err = c.repo.decode(ctx, rd, nil, e.id, l, stored, rd.plain[:0])
		}
		if err != nil {
			return chunkError(e.id, l, err)
		}
	}
	return nil
}

// isDamage says whether an error is about what is stored, and not about reaching it.
func isDamage(err error) bool {
	return slices.ContainsFunc([]error{ErrCorrupt, ErrMissing, ErrFormat}, func(target error) bool { return errors.Is(err, target) })
}
