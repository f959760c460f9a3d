package repo

import (
	"cmp"
	"context"
	"os"
	"slices"
)

const (
	// foldRecords is how many records of small indexes stay in memory, 3 MiB,
	// before they go into a segment.
	foldRecords = 64 << 10
	// foldShare is how much larger than all new and smaller ones a segment must be
	// to be left alone when those are written: so each record is written a few
	// times in its life, and a few segments are searched.
	foldShare = 8
)

// fold moves indexes from memory into a segment of the cache where they are many. What
// fails leaves them in memory, and is said in the log.
//
// The large indexes, which no commit merges, go into segments of their own: those of
// small ones last only until the next merge.
func (l *indexLoad) fold(ctx context.Context, next *indexSet) {
	if l.cache == nil {
		return
	}
	for _, stable := range []bool{true, false} {
		pending := l.pendingOf(next, stable)
		if !l.worthFolding(pending) || !l.cache.writable() || !l.lock(ctx, false) {
			continue
		}
		if err := l.foldThese(ctx, next, pending, stable); err != nil && ctx.Err() == nil {
			l.cache.failed("write", err)
		}
	}
}

// due reports whether there is something to fold.
func (l *indexLoad) due() bool {
	next := l.set()
	return l.worthFolding(l.pendingOf(next, true)) || l.worthFolding(l.pendingOf(next, false))
}

// pendingOf returns the indexes in memory that go into segments together.
func (l *indexLoad) pendingOf(s *indexSet, stable bool) []*index {
	var out []*index
	for _, x := range s.indexes {
		if (x.size > l.cache.stableSize) == stable {
			out = append(out, x)
		}
	}
	return out
}

func (l *indexLoad) worthFolding(pending []*index) bool {
	records := 0
	for _, x := range pending {
		records += x.count()
	}
	return records > l.cache.foldRecords
}

// foldThese writes a segment of some indexes, and of the segments that are not much
// larger than what goes into the new one.
func (l *indexLoad) foldThese(ctx context.Context, next *indexSet, pending []*index, stable bool) error {
	var sources []recordSource
	var covers []indexInfo
	records := int64(0)
	for _, x := range pending {
		if m, ok := l.mapped[x.id]; ok {
			sources = append(sources, m)
		} else {
			sources = append(sources, x)
		}
		covers = append(covers, x.info())
		records += int64(x.count())
	}
	var merged []*segment
	bySize := slices.SortedFunc(slices.Values(next.segments), func(a, b *segment) int { return cmp.Compare(a.records, b.records) })
	for _, g := range bySize {
		if g.stable(l.cache.stableSize) != stable || g.records > records*foldShare {
			continue
		}
		sources = append(sources, g)
		covers = append(covers, g.covers...)
		records += g.records
		merged = append(merged, g)
	}
	g, err := l.cache.write(ctx, sources, distinctInfos(covers))
	if err != nil {
		return err
	}
	l.cache.failing = false
	next.segments = append(slices.DeleteFunc(next.segments, func(g *segment) bool { return slices.Contains(merged, g) }), g)
	next.indexes = slices.DeleteFunc(next.indexes, func(x *index) bool { return slices.Contains(pending, x) })
	for _, old := range merged {
		_ = os.Remove(old.name)
	}
	return nil
}

// tidy deletes files that are of no use any more.
func (l *indexLoad) tidy(ctx context.Context, next *indexSet) {
	if l.cache != nil && l.scanned && (l.stale || l.unlock != nil) && l.lock(ctx, false) {
		l.cache.sweep(next.segments, l.began)
	}
}

// unmap moves indexes to memory that were read to the folder of the cache and did
// not get into a segment.
func (l *indexLoad) unmap(next *indexSet) error {
	for i, x := range next.indexes {
		if m, ok := l.mapped[x.id]; ok {
			var err error
			if next.indexes[i], err = m.toHeap(); err != nil {
				return err
			}
		}
	}
	return nil
}
