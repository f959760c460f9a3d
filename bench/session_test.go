package bench

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/localblob"
)

var sessionChunks = flag.Int("session.chunks", 1<<20, "how many chunks BenchmarkSessionMemory stores")

// BenchmarkSessionMemory says what a session and the repository keep of each new chunk, where
// the index is in memory, and where it is in a cache and the session notes now and then what it
// has stored, as snapshots do.
func BenchmarkSessionMemory(b *testing.B) {
	for _, cached := range []bool{false, true} {
		b.Run(fmt.Sprintf("cached=%v", cached), func(b *testing.B) {
			for b.Loop() {
				sessionMemory(b, cached)
			}
		})
	}
}

func sessionMemory(b *testing.B, cached bool) {
	dir := b.TempDir()
	bucket, err := localblob.OpenBucket(filepath.Join(dir, "repo"), &localblob.Options{CreateDir: true})
	if err != nil {
		b.Fatal(err)
	}
	defer bucket.Close()
	var opts repo.Options
	if cached {
		opts.CacheDir = filepath.Join(dir, "cache")
	}
	if err := repo.Init(b.Context(), bucket, repo.InitOptions{}); err != nil {
		b.Fatal(err)
	}
	r, err := repo.Open(b.Context(), bucket, opts)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	s, err := r.NewSession(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Abort(b.Context())
	w, err := s.NewWriter()
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	held := 0
	add := func(n int) {
		rng := rand.New(rand.NewPCG(3, uint64(n)))
		row := make([]byte, 64)
		for i := range n {
			for at := 0; at < len(row); at += 8 {
				binary.LittleEndian.PutUint64(row[at:], rng.Uint64()>>20)
			}
			_, _, err := w.Add(b.Context(), row)
			if err == nil && cached && i%1024 == 0 && s.Held() >= 128<<10 {
				held = max(held, s.Held())
				err = errors.Join(s.Checkpoint(b.Context()), s.Refresh(b.Context()))
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	add(1000)
	if err := errors.Join(w.Flush(b.Context()), s.Sync(b.Context())); err != nil {
		b.Fatal(err)
	}
	before := heapInUse()
	add(*sessionChunks)
	if err := errors.Join(w.Flush(b.Context()), s.Sync(b.Context())); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(heapInUse()-before)/float64(*sessionChunks), "heap-B/chunk")
	b.ReportMetric(float64(max(held, s.Held())), "held")
	runtime.KeepAlive(r)
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
