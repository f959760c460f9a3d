package repo

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/holdstill/holdstill/chunk"
)

// Many sessions in one process, among readers, so that indexes are merged while they
// are used.
func TestIndexesMergeBesideReaders(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	bucket := d.bucket(t)
	reader := openTestRepo(t, bucket, Options{})
	mustSnapshot(t, r, "s-first", smallFiles(0), r.Gear())
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				fresh, err := Open(t.Context(), bucket, variant(Options{}))
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range []*Repository{reader, fresh} {
					for id, err := range r.IDs(t.Context()) {
						if err != nil {
							t.Error(err)
							return
						}
						if _, err := readSnapshot(t.Context(), r, id); err != nil {
							t.Errorf("%s: %v", id, err)
							return
						}
					}
				}
				if err := fresh.Close(); err != nil {
					t.Error(err)
				}
				report, err := reader.Check(t.Context(), CheckOptions{})
				if err != nil || !report.OK() {
					t.Errorf("Check beside writers: %v %v", err, report)
				}
			}
		})
	}
	const each = 2*mergeCount + 3
	cut := fixedCutter(t, 512)
	for n := range 3 {
		mine := openTestRepo(t, d.bucket(t), Options{})
		writers.Go(func() {
			for i := range each {
				files := map[string][]byte{"f": rowData(uint64(n*1000+i+1), 3000)}
				if err := takeSnapshot(t.Context(), mine, fmt.Sprintf("s%d-%d", n, i), files, cut); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	report := wantSound(t, openTestRepo(t, d.bucket(t), Options{}))
	if report.Snapshots != 3*each+1 {
		t.Errorf("%d snapshots, want %d", report.Snapshots, 3*each+1)
	}
	if report.Indexes >= 3*mergeCount {
		t.Errorf("%d indexes are left", report.Indexes)
	}
}

// A merge makes the new index durable before it deletes the first old one, and comes
// after the manifest: it never delays or endangers the commit.
func TestMergeOrderAndRequests(t *testing.T) {
	// Under a clock that stands still no lease is renewed, however long it takes.
	synctest.Test(t, mergeOrderAndRequests)
}

func mergeOrderAndRequests(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	var kinds []string
	for n := range mergeCount + 1 {
		d.take()
		mustSnapshot(t, r, fmt.Sprintf("s%02d", n), map[string][]byte{"f": rowData(uint64(n), 900)}, fixedCutter(t, 512))
		kinds = nil
		for _, o := range d.take() {
			prefix, _, _ := strings.Cut(o.key, "/")
			if kind := o.kind + " " + prefix; o.kind != "list" && prefix != "pack" {
				kinds = append(kinds, kind)
			}
		}
		want := []string{"create session", "create index", "create snapshot", "read garbage"}
		if n == mergeCount-1 {
			want = append(want, "create index", "read garbage")
			for range mergeCount {
				want = append(want, "delete index")
			}
		}
		if want = append(want, "delete session"); !slices.Equal(kinds, want) {
			t.Fatalf("snapshot %d: requests %q, want %q", n, kinds, want)
		}
	}
	if n := len(d.keys(indexPrefix)); n != 2 {
		t.Errorf("%d indexes are left", n)
	}
}

// A commit merges up to 128 MiB of indexes in the process of a server that has better things to do with its
// memory: it takes the room of what comes of it, once.
func TestMergeMemory(t *testing.T) {
	const n = 200_000
	all := madeSet(n).indexes[0]
	var parts []*index
	for i := range 16 {
		b := appendIndexHead(all.packs, nil, 0)
		for k := i; k < n; k += 16 {
			b = append(b, all.records[k*indexRecordSize:][:indexRecordSize]...)
		}
		parts = append(parts, indexOf(b, all.packs, nil))
	}
	parts = append(parts, parts[3]) // places that two indexes name come once
	var data []byte
	var merged *index
	total := memoryOf(func() { data, merged = mergeIndexes(parts, sessionID{1}) })
	if total > 60*n {
		t.Errorf("merging takes %.1f B a chunk", float64(total)/n)
	}
	parsed, err := parseIndex(indexKey(merged.id), merged.id, data)
	if err != nil || parsed.count() != n || len(parsed.superseded) != len(parts)+1 {
		t.Fatalf("%v", err)
	}
	for k := range n {
		id := chunk.ID(all.recordID(k))
		if i := parsed.find(&id); i == parsed.count() || parsed.location(i) != all.location(k) {
			t.Fatalf("chunk %d is elsewhere", k)
		}
	}
}
