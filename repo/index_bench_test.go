package repo

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/zeebo/blake3"
	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo/localblob"
)

// indexChunks is how many chunks the repository of the index benchmarks has: 16
// million need about 2 GiB of the folder for temporary files.
var indexChunks = flag.Int("index.chunks", 1<<20, "chunks in the repository of the index benchmarks, such as 16777216")

// indexBenchPack is how many chunks go into a pack: 64 KiB each into 8 MiB.
const indexBenchPack = 128

// madeIndex writes an index of n chunks to the folder of a local bucket. IDs are in order
// of their first bytes, as hashes would be, and random after that; number i of part p is
// found again by madeChunk.
func madeIndex(b testing.TB, dir string, part, parts, n int) {
	b.Helper()
	rng := rand.New(rand.NewPCG(uint64(part), 77))
	packs := make([]packInfo, (n+indexBenchPack-1)/indexBenchPack)
	for i := range packs {
		packs[i] = packInfo{packID(madeID(rng)), 8 << 20}
	}
	head := appendIndexHead(packs, nil, n)
	temp := filepath.Join(dir, "index.tmp")
	f, err := os.Create(temp)
	if err != nil {
		b.Fatal(err)
	}
	hash := blake3.New()
	w := bufio.NewWriterSize(f, 1<<20)
	write := func(p []byte) {
		_, _ = hash.Write(p)
		if _, err := w.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	write(head)
	var record []byte
	for i := range n {
		id := madeChunk(part, parts, i, n)
		at := rng.Uint32N(8<<20 - 70000)
		record = appendIndexRecord(record[:0], id[:], rng.Uint32N(uint32(len(packs))), packHeaderSize+at, 30000+at%9000, 64<<10|uint32(chunk.Zstd)<<24)
		write(record)
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "index"), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(dir, "index", hex.EncodeToString(hash.Sum(nil)))); err != nil {
		b.Fatal(err)
	}
}

// madeChunk returns the ID of a chunk of a made index. It spreads them evenly, in
// order, different in every part.
func madeChunk(part, parts, i, n int) (id chunk.ID) {
	step := ^uint64(0) / uint64(n) / uint64(parts)
	state := uint64(i)*uint64(parts) + uint64(part)
	binary.BigEndian.PutUint64(id[:], state*step+mix(state)%step)
	for word := 1; word < 4; word++ {
		binary.LittleEndian.PutUint64(id[8*word:], mix(state+uint64(word)<<40))
	}
	return id
}

// mix scatters the bits of a number (splitmix64, S. Vigna).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// heapNow returns the bytes of heap in use.
func heapNow() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkIndex makes a repository whose indexes name many chunks, and opens it with
// an index in memory, and with a cache that is cold and warm.
func BenchmarkIndex(b *testing.B) {
	const parts = 4
	n := *indexChunks / parts
	dir := b.TempDir()
	bucket, err := localblob.OpenBucket(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = bucket.Close() })
	if err := Init(b.Context(), bucket, InitOptions{}); err != nil {
		b.Fatal(err)
	}
	for part := range parts {
		madeIndex(b, dir, part, parts, n)
	}
	for _, kind := range []string{"memory", "cache"} {
		b.Run(kind, func(b *testing.B) {
			opts := Options{}
			if kind == "cache" {
				opts.CacheDir = b.TempDir()
			}
			benchmarkOpenIndex(b, bucket, opts, parts, n)
		})
	}
}

func openIndex(b *testing.B, bucket *blob.Bucket, opts Options) (*Repository, *indexSet) {
	b.Helper()
	r, err := Open(b.Context(), bucket, opts)
	if err != nil {
		b.Fatal(err)
	}
	set, err := r.refreshIndex(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return r, set
}

func benchmarkOpenIndex(b *testing.B, bucket *blob.Bucket, opts Options, parts, n int) {
	if opts.CacheDir != "" {
		b.Run("open cold", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				if err := os.RemoveAll(opts.CacheDir); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				openIndex(b, bucket, opts)
			}
		})
	}
	before := heapNow()
	r, set := openIndex(b, bucket, opts)
	chunks := float64(parts * n)
	perChunk := float64(heapNow()-before) / chunks
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			openIndex(b, bucket, opts)
		}
		b.ReportMetric(perChunk, "heap-B/chunk")
	})
	rng := rand.New(rand.NewPCG(1, 1))
	hits, misses := make([]chunk.ID, 1<<20), make([]chunk.ID, 1<<20)
	for i := range hits {
		hits[i] = madeChunk(rng.IntN(parts), parts, rng.IntN(n), n)
		misses[i] = chunk.ID(madeID(rng))
	}
	look := func(name string, ids []chunk.ID, want bool) {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if set.has(&ids[i%len(ids)]) != want {
					b.Fatal("a wrong answer")
				}
			}
		})
	}
	look("miss", misses, false)
	look("hit", hits, true)
	b.Run("locate", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, ok := set.locateOne(&hits[i%len(hits)]); !ok {
				b.Fatal("a wrong answer")
			}
		}
	})
	b.Run("refresh one new", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			data, x := buildIndex(madePacks(rng, 1, indexBenchPack), nil)
			if err := r.writeIndex(b.Context(), data, x); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			if _, err := r.refreshIndex(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := r.store.remove(context.WithoutCancel(b.Context()), indexKey(x.id)); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	runtime.KeepAlive(set)
}

// BenchmarkPendingMemory says what a session keeps of each new chunk: to know it again,
// and for the index.
func BenchmarkPendingMemory(b *testing.B) {
	for _, n := range []int{100_000, 1 << 20, 1_800_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var kept []*pendingSet
			var packs []*sessionPack
			entries := make([]packEntry, indexBenchPack)
			before := heapNow()
			for b.Loop() {
				s := newPendingSet()
				for i := range n {
					id := madeChunk(0, 1, i, n)
					s.add(&id, true)
					if entries[i%indexBenchPack].id = id; i%indexBenchPack == indexBenchPack-1 {
						packs = append(packs, &sessionPack{rows: s.rows(entries)})
					}
				}
				kept = append(kept, s)
			}
			b.StopTimer()
			total := float64(len(kept)) * float64(n)
			b.ReportMetric(float64(heapNow()-before)/total, "heap-B/chunk")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/total, "ns/chunk")
			runtime.KeepAlive(kept)
			runtime.KeepAlive(packs)
		})
	}
}
