package repo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
)

const (
	// mergeCount is how many small indexes a commit leaves standing: each one is
	// a request at every open and a search at every look-up.
	mergeCount = 16
	// mergeLimit is the size in bytes above which an index is left alone, so that
	// a commit never rewrites the index of a large repository.
	mergeLimit = 32 << 20
	// mergeLimitCached is the same where the index is in a cache, since memory is short: a
	// merge reads up to four times that, and writes as much.
	mergeLimitCached = 4 << 20
)

func (r *Repository) mergeLimit() int64 {
	if r.indexCache != nil {
		return mergeLimitCached
	}
	return mergeLimit
}

// writeIndex makes an index durable. That it exists already is as good: its name
// is its content.
func (r *Repository) writeIndex(ctx context.Context, data []byte, x *index) error {
	err := r.store.create(ctx, indexKey(x.id), data)
	if err != nil && !errors.Is(err, errKeyExists) {
		return err
	}
	return nil
}

// mergeSmallIndexes replaces many small indexes by one. It is upkeep: a failure
// leaves more indexes than need be and is tried again at the next commit.
func (r *Repository) mergeSmallIndexes(ctx context.Context, l *lease) error {
	s, err := r.currentIndex(ctx)
	if err != nil {
		return err
	}
	var small []indexInfo
	var total int64
	limit := r.mergeLimit()
	for _, x := range s.infos() {
		if x.size <= limit && total+x.size <= 4*limit {
			small = append(small, x)
			total += x.size
		}
	}
	if len(small) < mergeCount && len(s.leftover) == 0 {
		return nil
	}
	// What supersedes others must be there for good before those go, or are merged: an
	// index that a session wrote after it was given up does not count.
	view, err := r.listGarbage(ctx)
	if err != nil || s.of(view.closing) || len(view.plans) > 0 {
		return err
	}
	for _, id := range s.leftover {
		if err := r.store.remove(ctx, indexKey(id)); err != nil {
			return err
		}
	}
	if len(small) < mergeCount {
		return nil
	}
	var old []*index
	for _, info := range small {
		x, err := r.wholeIndex(ctx, s, info.id)
		if errors.Is(err, errKeyMissing) {
			return nil // another process has merged it
		}
		if err != nil {
			return err
		}
		old = append(old, x)
	}
	return r.replaceIndexes(ctx, old, l)
}

// wholeIndex returns an index of the set, and reads it if it is not in memory.
func (r *Repository) wholeIndex(ctx context.Context, s *indexSet, id indexID) (*index, error) {
	for _, x := range s.indexes {
		if x.id == id {
			return x, nil
		}
	}
	return r.readIndex(ctx, indexKey(id), id)
}

// replaceIndexes writes one index in the place of several. The new one is durable
// before the first of the old ones goes, so a reader always finds every chunk. The new
// one counts only as long as the session that holds the lease was not given up before:
// else the old ones stay.
func (r *Repository) replaceIndexes(ctx context.Context, old []*index, l *lease) error {
	data, merged := mergeIndexes(old, l.id)
	if err := r.writeIndex(ctx, data, merged); err != nil {
		l.unsure.Store(true)
		return err
	}
	_, err := r.store.readAll(ctx, closingKey(l.id), maxClosingSize)
	if !errors.Is(err, errKeyMissing) && r.collectFault != faultMergeLate {
		l.unsure.Store(true)
		return errors.Join(ErrGivenUp, err)
	}
	r.adoptIndex(ctx, merged)
	for _, x := range old {
		if err := r.store.remove(ctx, indexKey(x.id)); err != nil {
			return err
		}
	}
	return nil
}

// mergeIndexes renders one index with all that the given ones hold, and which
// supersedes them. It takes the room of that index alone: records are sorted where they lie.
func mergeIndexes(in []*index, by sessionID) ([]byte, *index) {
	var packs []packInfo
	numbers := make(map[packID]uint32)
	superseded := append(make([]indexID, 0, len(in)+1), indexID(by))
	count := 0
	for _, x := range in {
		superseded = append(superseded, x.id)
		count += x.count()
		for i := range x.count() {
			info := x.packs[binary.LittleEndian.Uint32(x.records[i*indexRecordSize+32:])]
			if _, ok := numbers[info.id]; !ok {
				numbers[info.id] = uint32(len(packs))
				packs = append(packs, info)
			}
		}
	}
	slices.SortFunc(superseded, func(a, b indexID) int { return bytes.Compare(a[:], b[:]) })
	b := appendIndexHead(packs, superseded, count)
	tables := len(b)
	for _, x := range in {
		for i := range x.count() {
			record := x.records[i*indexRecordSize:][:indexRecordSize]
			number := numbers[x.packs[binary.LittleEndian.Uint32(record[32:])].id]
			b = append(b, record[:32]...)
			b = binary.LittleEndian.AppendUint32(b, number)
			b = append(b, record[36:]...)
		}
	}
	records := recordsIn(b[tables:])
	slices.SortFunc(records, compareRecords)
	records = slices.Compact(records)
	binary.LittleEndian.PutUint64(b[24:], uint64(len(records)))
	b = b[:tables+indexRecordSize*len(records)]
	return b, indexOf(b, packs, superseded)
}

func compareRecords(a, b [indexRecordSize]byte) int {
	if c := bytes.Compare(a[:32], b[:32]); c != 0 {
		return c
	}
	if c := cmp.Compare(binary.LittleEndian.Uint32(a[32:]), binary.LittleEndian.Uint32(b[32:])); c != 0 {
		return c
	}
	// A pack may hold a chunk twice. The order does not matter, but there must be
	// one, for equal records to come together.
	return bytes.Compare(a[36:], b[36:])
}
