package repo

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// needOf is what the snapshots need at least: the frames of their chunks, those that differences
// build on included, with a record for each, and the base's ID for each difference.
func needOf(t testing.TB, r *Repository) (need int64) {
	t.Helper()
	c := &collector{repo: r, opts: CollectOptions{}, result: &CollectResult{}}
	m, err := c.mark(t.Context(), planID{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.packs {
		need += m.packs[i].live + int64(m.packs[i].records)*packRecordSize
	}
	for _, f := range m.flags {
		if f&markKept != 0 && f&markDelta != 0 {
			need += packBaseSize
		}
	}
	return need
}

// wantTight collects, and fails unless the packs take at most 5 % more than the snapshots need,
// and a second collection leaves them alone.
func wantTight(t *testing.T, d *testDriver, r *Repository) {
	t.Helper()
	mustCollect(t, r, CollectOptions{})
	need, takes := needOf(t, r), d.bytesOf(packPrefix)
	// A pack of each kind has a head and a tail, however little is in it.
	if limit := need + need/20 + packKinds*256; takes > limit {
		t.Errorf("%d packs take %d bytes, and %d are needed: %.1f %% more", len(d.keys(packPrefix)), takes, need, 100*float64(takes-need)/float64(need))
	}
	if again := mustCollect(t, r, CollectOptions{}); again.PacksDeleted > 0 || again.BytesWritten > 0 {
		t.Errorf("a second collection found something to do: %+v", again)
	}
}

func TestCollectSpace(t *testing.T) {
	cut := fixedCutter(t, 4096)
	t.Run("random deletes", func(t *testing.T) {
		for seed := range uint64(4) {
			rng := rand.New(rand.NewPCG(seed, 5))
			d := newTestDriver()
			r := newTestRepo(t, d, Options{PackSize: 1 << 20})
			var ids []string
			for n := range 40 {
				id := fmt.Sprintf("s%02d", n)
				mustSnapshot(t, r, id, map[string][]byte{
					"noise": noiseData(rng.Uint64N(20), int(rng.Int64N(200<<10)+1)),
					"rows":  rowData(rng.Uint64N(20), int(rng.Int64N(400<<10)+1)),
				}, cut)
				ids = append(ids, id)
				for rng.IntN(3) > 0 && len(ids) > 3 {
					gone := rng.IntN(len(ids))
					if err := r.DeleteManifest(t.Context(), ids[gone]); err != nil {
						t.Fatal(err)
					}
					ids[gone] = ids[len(ids)-1]
					ids = ids[:len(ids)-1]
				}
				if n%13 == 12 {
					wantTight(t, d, r)
				}
			}
			wantTight(t, d, r)
			wantCompact(t, d, r)
		}
	})
	t.Run("tiny snapshots", func(t *testing.T) {
		d := newTestDriver()
		r := newTestRepo(t, d, Options{})
		for n := range 60 {
			mustSnapshot(t, r, fmt.Sprint("s", n), map[string][]byte{"f": rowData(uint64(n), 200)}, cut)
			if n%3 == 0 {
				if err := r.DeleteManifest(t.Context(), fmt.Sprint("s", n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		wantTight(t, d, r)
		if n := len(d.keys(packPrefix)); n > packKinds {
			t.Errorf("%d packs are left of %d tiny snapshots", n, 40)
		}
	})
	t.Run("differences", func(t *testing.T) {
		d := newTestDriver()
		r := newTestRepo(t, d, Options{PackSize: 1 << 20})
		file := noiseData(1, 2<<20)
		mustSnapshot(t, r, "s0", map[string][]byte{"f": file}, fixedCutter(t, 1<<16))
		for n := 1; n < 8; n++ {
			for at := n; at < len(file); at += 150_000 {
				file = edited(file, at)
			}
			mustDeltaSnapshot(t, r, fmt.Sprint("s", n), map[string][]byte{"f": file}, fmt.Sprint("s", n-1), fixedCutter(t, 1<<16))
			if n > 2 {
				if err := r.DeleteManifest(t.Context(), fmt.Sprint("s", n-2)); err != nil {
					t.Fatal(err)
				}
				wantTight(t, d, r)
			}
		}
		wantSnapshot(t, openTestRepo(t, r.store.bucket, Options{}), "s7", map[string][]byte{"f": file})
	})
}

// Many small packs are made one, also where they take little of the space.
func TestCollectMergesPacks(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 4 << 20})
	for n := range manyPacks / packKinds {
		mustSnapshot(t, r, fmt.Sprint("s", n), map[string][]byte{"f": noiseData(uint64(n), 60_000)}, fixedCutter(t, 1<<16))
	}
	wantTight(t, d, r)
	if n := len(d.keys(packPrefix)); n > packKinds {
		t.Errorf("%d packs are left", n)
	}
}

// Of chunks that zstd makes larger than S2 did, nothing is left to be done.
func TestCollectRecompressOnce(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{Policy: chunk.Fast})
	files := map[string][]byte{"rows": rowData(1, 100<<10)}
	for n := range 50 {
		files[fmt.Sprint("short", n)] = []byte(fmt.Sprintf("%02d%032d%02d", n, 0, n))
	}
	mustSnapshot(t, r, "s", files, fixedCutter(t, 1<<16))
	r = openTestRepo(t, r.store.bucket, Options{})
	if first := mustCollect(t, r, CollectOptions{Recompress: true}); first.PacksRepacked == 0 {
		t.Errorf("nothing was recompressed: %+v", first)
	}
	if again := mustCollect(t, r, CollectOptions{Recompress: true}); again.PacksRepacked != 0 {
		t.Errorf("recompressed twice: %+v", again)
	}
	wantSnapshot(t, openTestRepo(t, r.store.bucket, Options{}), "s", files)
}

// madeSet is the index of a repository of n chunks.
func madeSet(n int) *indexSet {
	rng := rand.New(rand.NewPCG(1, 77))
	packs := make([]packInfo, (n+indexBenchPack-1)/indexBenchPack)
	for i := range packs {
		packs[i] = packInfo{packID(madeID(rng)), 8 << 20}
	}
	b := appendIndexHead(packs, nil, n)
	for i := range n {
		id := madeChunk(0, 1, i, n)
		b = appendIndexRecord(b, id[:], uint32(i%len(packs)), packHeaderSize, 30000, 64<<10|uint32(chunk.Zstd)<<24)
	}
	return &indexSet{indexes: []*index{indexOf(b, packs, nil)}}
}

// memoryOf returns what f allocates in all, in bytes.
func memoryOf(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func TestCollectMemory(t *testing.T) {
	const n = 200_000
	set := madeSet(n)
	var m *marks
	total := memoryOf(func() {
		var err error
		if m, err = newMarks(t.Context(), set, nil); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			id := madeChunk(0, 1, i, n)
			m.need(&id)
		}
		m.choose()
	})
	if len(m.keys) != n || total > 32*n {
		t.Errorf("marking %d chunks allocates %.1f B each", len(m.keys), float64(total)/n)
	}
	t.Logf("%.1f B a chunk", float64(total)/n)
}

// BenchmarkCollect marks what is alive in a repository of a million chunks: what a
// collection keeps in memory is that.
func BenchmarkCollect(b *testing.B) {
	const n = 1 << 20
	set := madeSet(n)
	var total int64
	for b.Loop() {
		total = memoryOf(func() {
			m, err := newMarks(b.Context(), set, nil)
			if err != nil {
				b.Fatal(err)
			}
			for i := range n {
				id := madeChunk(0, 1, i, n)
				m.need(&id)
			}
			m.choose()
		})
	}
	b.ReportMetric(float64(total)/n, "B/chunk")
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "chunks/s")
}
