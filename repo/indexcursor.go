package repo

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// indexRecord is one record as it stands in an index; see index.go.
type indexRecord = [indexRecordSize]byte

// recordSource is sorted records and the packs that they are in.
type recordSource interface {
	count() int
	// read copies records from number i on to dst.
	read(i int, dst []indexRecord) error
	// packTable returns the packs that the records name by number.
	packTable() ([]packInfo, error)
}

// cursorBatch is how many records a cursor reads at once.
const cursorBatch = 256

// cursor goes through one source.
type cursor struct {
	source recordSource
	// numbers says what number each pack of the source has in the table of all.
	numbers []uint32
	next    int // the first record of the source that is not in batch
	batch   []indexRecord
	at      int // the present record in batch
	// key is the beginning of the present record's ID, for comparing.
	key uint64
}

// record returns the present record.
func (c *cursor) record() *indexRecord { return &c.batch[c.at] }

// advance goes to the next record, and reports whether there is one.
func (c *cursor) advance() (bool, error) {
	if c.at++; c.at >= len(c.batch) {
		n := min(cursorBatch, c.source.count()-c.next)
		if n == 0 {
			return false, nil
		}
		c.batch = slices.Grow(c.batch[:0], n)[:n]
		if err := c.source.read(c.next, c.batch); err != nil {
			return false, err
		}
		c.at, c.next = 0, c.next+n
	}
	c.key = binary.BigEndian.Uint64(c.record()[:])
	return true, nil
}

// mergeSources goes through the records of several sources in the order of their
// IDs. Equal records come once. In what it yields packs are numbered by the table
// that it returns, which is in the order of their IDs.
func mergeSources(sources []recordSource) ([]packInfo, iter.Seq2[*indexRecord, error], error) {
	packs, numbers, err := mergePacks(sources)
	if err != nil {
		return nil, nil, err
	}
	return packs, func(yield func(*indexRecord, error) bool) {
		var live []*cursor
		for i, s := range sources {
			c := &cursor{source: s, numbers: numbers[i]}
			ok, err := c.advance()
			if err != nil {
				yield(nil, err)
				return
			}
			if ok {
				live = append(live, c)
			}
		}
		var same []indexRecord
		for len(live) > 0 {
			var err error
			if same, live, err = nextGroup(same[:0], live); err != nil {
				yield(nil, err)
				return
			}
			if len(same) > 1 {
				slices.SortFunc(same, compareRecords)
				same = slices.Compact(same)
			}
			for i := range same {
				if !yield(&same[i], nil) {
					return
				}
			}
		}
	}, nil
}

// nextGroup appends all records of the chunk that comes first, and takes them off
// the cursors. Cursors at their end are left out of those returned.
func nextGroup(same []indexRecord, live []*cursor) ([]indexRecord, []*cursor, error) {
	first := live[0]
	for _, c := range live[1:] {
		if c.key < first.key || c.key == first.key && bytes.Compare(c.record()[:32], first.record()[:32]) < 0 {
			first = c
		}
	}
	id := chunk.ID(first.record()[:32])
	key := first.key
	for n := 0; n < len(live); {
		c := live[n]
		ok := true
		for ok && c.key == key && chunk.ID(c.record()[:32]) == id {
			r := *c.record()
			number := binary.LittleEndian.Uint32(r[32:])
			if int64(number) >= int64(len(c.numbers)) {
				return same, live, corrupt("an index", "a record names a pack that is not in the table")
			}
			binary.LittleEndian.PutUint32(r[32:], c.numbers[number])
			same = append(same, r)
			var err error
			if ok, err = c.advance(); err != nil {
				return same, live, err
			}
		}
		if ok {
			n++
		} else {
			live = slices.Delete(live, n, n+1)
		}
	}
	return same, live, nil
}

// mergePacks makes one table of the packs of all sources, in the order of their IDs,
// and says what number the packs of each source have in it.
func mergePacks(sources []recordSource) ([]packInfo, [][]uint32, error) {
	var all []packInfo
	tables := make([][]packInfo, len(sources))
	for i, s := range sources {
		var err error
		if tables[i], err = s.packTable(); err != nil {
			return nil, nil, err
		}
		all = append(all, tables[i]...)
	}
	slices.SortFunc(all, comparePacks)
	all = slices.Compact(all)
	numbers := make([][]uint32, len(sources))
	for i, table := range tables {
		numbers[i] = make([]uint32, len(table))
		for n, p := range table {
			at, _ := slices.BinarySearchFunc(all, p, comparePacks)
			numbers[i][n] = uint32(at)
		}
	}
	return all, numbers, nil
}

func comparePacks(a, b packInfo) int {
	if c := bytes.Compare(a.id[:], b.id[:]); c != 0 {
		return c
	}
	return cmp.Compare(a.size, b.size)
}

// parseRecord takes a record apart.
func parseRecord(r *indexRecord, packs []packInfo) location {
	l := location{
		pack:   packs[binary.LittleEndian.Uint32(r[32:])].id,
		offset: binary.LittleEndian.Uint32(r[36:]),
		stored: binary.LittleEndian.Uint32(r[40:]),
	}
	l.plain, l.codec = splitPlain(binary.LittleEndian.Uint32(r[44:]))
	return l
}
