package repo

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// indexLoad is one look at the indexes of the bucket. The repository's indexToken
// is held meanwhile.
type indexLoad struct {
	repo  *Repository
	cache *indexCache // nil without
	began time.Time

	listed   map[indexID]int64 // sizes
	order    []indexID
	known    map[indexID]*index
	mapped   map[indexID]mappedIndex
	segments []*segment
	// gone are superseded indexes, which need not be read, and what they supersede.
	gone   map[indexID][]indexID
	broken map[indexID]error

	// scanned and asked are set once the folder was looked at, and once its lock was
	// asked for. unlock is set while the lock is held.
	scanned, asked bool
	unlock         func()
	// stale is set when a segment cannot be used any more.
	stale bool
}

func (r *Repository) newIndexLoad() *indexLoad {
	return &indexLoad{
		repo:   r,
		cache:  r.indexCache,
		began:  time.Now(),
		listed: make(map[indexID]int64),
		known:  make(map[indexID]*index),
		mapped: make(map[indexID]mappedIndex),
		gone:   make(map[indexID][]indexID),
		broken: make(map[indexID]error),
	}
}

// close ends what the load holds.
func (l *indexLoad) close() {
	if l.unlock != nil {
		l.unlock()
		l.unlock = nil
	}
}

// start takes over what a set knows that is still good.
func (l *indexLoad) start(s *indexSet) {
	for _, x := range s.indexes {
		l.known[x.id] = x
	}
	for _, g := range s.segments {
		if err := g.err(); err != nil {
			l.cache.drop(g.name, err)
			continue
		}
		l.segments = append(l.segments, g)
	}
	maps.Copy(l.gone, s.dead)
}

// list lists the bucket's indexes.
func (l *indexLoad) list(ctx context.Context) error {
	clear(l.listed)
	l.order = l.order[:0]
	return l.repo.store.list(ctx, indexPrefix, func(o object) error {
		if id, ok := parseIndexKey(o.key); ok {
			l.listed[id] = o.size
			l.order = append(l.order, id)
		}
		return nil
	})
}

// load learns all that is listed.
func (l *indexLoad) load(ctx context.Context) error {
	for {
		unknown := l.settle()
		if l.lookInCache(ctx, unknown) {
			continue
		}
		if len(unknown) == 0 {
			return nil
		}
		if err := l.readAll(ctx, unknown); err != nil {
			return err
		}
	}
}

// readAll reads indexes, several at once: a distant store takes its time for each. Those that go
// to the folder of the cache come one after the other, since they are large.
func (l *indexLoad) readAll(ctx context.Context, ids []indexID) error {
	found := make([]*index, len(ids))
	errs := make([]error, len(ids))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(DefaultFetches)
	for i, id := range ids {
		if l.fetches(id) {
			continue
		}
		group.Go(func() error {
			found[i], errs[i] = l.repo.readIndex(groupCtx, indexKey(id), id)
			if unusable(errs[i]) {
				return nil
			}
			return errs[i]
		})
	}
	err := group.Wait()
	for i, id := range ids {
		switch {
		case found[i] != nil:
			l.known[id] = found[i]
		case unusable(errs[i]):
			l.broken[id] = errs[i]
		case err == nil:
			err = l.fetch(ctx, id)
		}
	}
	return err
}

// leaveOut forgets the indexes of some sessions, and loads again what only they
// superseded. That is seldom, and not for long: nothing of it goes into the cache.
func (l *indexLoad) leaveOut(ctx context.Context, sessions map[sessionID]bool) error {
	infos := l.set().infos()
	for id, superseded := range l.gone {
		infos = append(infos, indexInfo{id: id, superseded: superseded})
	}
	for id, x := range l.known {
		infos = append(infos, indexInfo{id: id, superseded: x.superseded})
	}
	for _, x := range infos {
		if x.by(sessions) {
			delete(l.listed, x.id)
		}
	}
	l.order = slices.DeleteFunc(l.order, func(id indexID) bool { _, ok := l.listed[id]; return !ok })
	l.cache = nil
	return l.load(ctx)
}

// settle finds out which segments can be used, and returns the indexes that are
// listed and unknown.
func (l *indexLoad) settle() []indexID {
	dead := l.dead()
	before := len(l.segments)
	slices.SortFunc(l.segments, func(a, b *segment) int { return cmp.Compare(b.records, a.records) })
	covered := make(map[indexID]bool)
	l.segments = slices.DeleteFunc(l.segments, func(g *segment) bool {
		useless := true
		for _, c := range g.covers {
			if _, listed := l.listed[c.id]; !listed || dead[c.id] {
				l.bury(g, dead)
				return true
			}
			useless = useless && covered[c.id]
		}
		for _, c := range g.covers {
			covered[c.id] = true
		}
		return useless
	})
	l.stale = l.stale || len(l.segments) < before
	var unknown []indexID
	for _, id := range l.order {
		_, gone := l.gone[id]
		if !covered[id] && !(gone && dead[id]) && l.known[id] == nil && l.mapped[id].index == nil && l.broken[id] == nil {
			unknown = append(unknown, id)
		}
	}
	return unknown
}

// bury keeps of a segment what its superseded indexes supersede.
func (l *indexLoad) bury(g *segment, dead map[indexID]bool) {
	for _, c := range g.covers {
		if dead[c.id] {
			l.gone[c.id] = c.superseded
		}
	}
}

// dead returns what the listed indexes that are known supersede. Those that are
// superseded themselves count as well.
func (l *indexLoad) dead() map[indexID]bool {
	dead := make(map[indexID]bool)
	add := func(id indexID, superseded []indexID) {
		if _, ok := l.listed[id]; ok {
			for _, id := range superseded {
				dead[id] = true
			}
		}
	}
	for id, x := range l.known {
		add(id, x.superseded)
	}
	for id, x := range l.mapped {
		add(id, x.superseded)
	}
	for id, superseded := range l.gone {
		add(id, superseded)
	}
	for _, g := range l.segments {
		for _, c := range g.covers {
			add(c.id, c.superseded)
		}
	}
	return dead
}

// lookInCache looks for segments with unknown indexes, and reports whether there may
// be some: first as anybody may, and then, if there is much to read or to write,
// with the lock, since another process may be about to do the same.
func (l *indexLoad) lookInCache(ctx context.Context, unknown []indexID) bool {
	if l.cache == nil {
		return false
	}
	if !l.scanned && len(unknown) > 0 {
		l.scan()
		return true
	}
	var size int64
	for _, id := range unknown {
		size += l.listed[id]
	}
	if l.asked || size <= l.cache.foldBytes() && !l.due() || !l.cache.writable() {
		return false
	}
	if !l.lock(ctx, size > l.cache.foldBytes()) {
		return false
	}
	l.scan()
	return true
}

func (l *indexLoad) scan() {
	l.segments = append(l.segments, l.cache.scan(l.segments)...)
	l.scanned = true
}

// lock asks once for the lock of the cache, and reports whether it is held.
func (l *indexLoad) lock(ctx context.Context, wait bool) bool {
	if !l.asked {
		l.asked = true
		unlock, err := l.cache.lock(ctx, wait)
		if err == nil {
			l.unlock = unlock
		} else if ctx.Err() == nil && (wait || !errors.Is(err, errCacheBusy)) {
			l.cache.failed("lock", err)
		}
	}
	return l.unlock != nil
}

// fetches reports whether an index is to be read to the folder of the cache: a large one, if the
// lock is held.
func (l *indexLoad) fetches(id indexID) bool {
	return l.unlock != nil && l.listed[id] > l.cache.foldBytes() && l.cache.writable()
}

// fetch reads one index to the folder of the cache, or to memory if that fails.
func (l *indexLoad) fetch(ctx context.Context, id indexID) error {
	if l.fetches(id) {
		x, err := l.cache.fetch(ctx, l.repo.store, id, l.listed[id])
		var local *cacheError
		if !errors.As(err, &local) {
			if err == nil {
				l.mapped[id] = x
			}
			return l.broke(id, err)
		}
		l.cache.failed("fetch", err)
	}
	x, err := l.repo.readIndex(ctx, indexKey(id), id)
	if err == nil {
		l.known[id] = x
	}
	return l.broke(id, err)
}

// broke notes an index that cannot be used. Other errors it returns.
func (l *indexLoad) broke(id indexID, err error) error {
	if unusable(err) {
		l.broken[id] = err
		return nil
	}
	return err
}

// unusable says whether an index is damaged, or of a newer format: the others serve without it.
func unusable(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) }

// set makes a set of all that is listed and not superseded.
func (l *indexLoad) set() *indexSet {
	dead := l.dead()
	next := &indexSet{segments: slices.Clone(l.segments), dead: make(map[indexID][]indexID)}
	for _, id := range l.order {
		x := l.known[id]
		if x == nil {
			x = l.mapped[id].index
		}
		switch {
		case dead[id]:
			superseded := l.gone[id]
			if x != nil {
				superseded = x.superseded
			}
			next.bury(id, superseded)
		case slices.ContainsFunc(l.segments, func(g *segment) bool { return g.holds(id) }):
		case x != nil:
			next.indexes = append(next.indexes, x)
		default:
			next.broken = append(next.broken, brokenIndex{id, l.broken[id]})
		}
	}
	return next
}
