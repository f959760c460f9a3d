package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// forgetful makes sessions that note and forget now and then, with and without a cache.
func forgetful(t *testing.T, run func(t *testing.T, d *testDriver, r *Repository)) {
	for _, cached := range []bool{true, false} {
		t.Run(fmt.Sprintf("cached %v", cached), func(t *testing.T) {
			d := newTestDriver()
			r := newTestRepo(t, d, Options{})
			if cached {
				r = openTestRepo(t, d.bucket(t), Options{CacheDir: t.TempDir()})
				r.indexCache.foldRecords = 10
			}
			r.opts.PackSize = 20_000
			run(t, d, r)
		})
	}
}

func note(ctx context.Context, s *Session) error {
	return errors.Join(s.Checkpoint(ctx), s.Refresh(ctx))
}

// While writers add new chunks, known ones, and differences to both, what is noted leaves the
// session's memory, no chunk is stored twice, and the snapshot is whole.
func TestSessionForgetsWhatIsNoted(t *testing.T) {
	forgetful(t, func(t *testing.T, d *testDriver, r *Repository) {
		s := mustSession(t, r)
		defer s.Abort(t.Context())
		const writers, rounds = 4, 150
		refs := make([][]Ref, writers)
		var wg sync.WaitGroup
		for n := range writers {
			wg.Go(func() {
				w, err := s.NewWriter()
				if err != nil {
					t.Error(err)
					return
				}
				defer w.Close()
				rng := rand.New(rand.NewPCG(1, uint64(n)))
				// base is a chunk that was noted, last the last one in full.
				var base, last struct {
					id   chunk.ID
					data []byte
				}
				for i := range rounds {
					// Half of the chunks are those of the other writers too.
					data := noiseData(uint64(i/2*2), 1500+i%9)
					if i%2 == 1 {
						data = noiseData(uint64(n*1000+i), 1500)
					}
					var id chunk.ID
					if i%5 == 4 && base.data != nil {
						data = bytes.Clone(base.data)
						data[rng.IntN(len(data))] ^= 1
						id, _, _, err = w.AddDelta(t.Context(), data, base.id)
					} else {
						id, _, err = w.Add(t.Context(), data)
						last.id, last.data = id, data
					}
					if err != nil {
						t.Error(err)
						return
					}
					refs[n] = append(refs[n], Ref{id, int64(len(data))})
					if !s.Has(id) {
						t.Errorf("the session lacks chunk %d of writer %d", i, n)
					}
					if i%20 == 19 {
						if err := errors.Join(w.Flush(t.Context()), s.Sync(t.Context()), note(t.Context(), s)); err != nil {
							t.Error(err)
						}
						base = last
					}
				}
				if err := w.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		if err := errors.Join(s.Sync(t.Context()), note(t.Context(), s)); err != nil {
			t.Fatal(err)
		}
		if held := s.Held(); held != 0 {
			t.Errorf("the session holds %d chunks", held)
		}
		if s.BytesDelta() == 0 {
			t.Error("no difference was stored")
		}
		m := &Manifest{ID: "x"}
		var files []File
		for n := range refs {
			f := fileOf(fmt.Sprintf("f%d", n))
			content, err := s.PutContent(t.Context(), refs[n])
			if err != nil {
				t.Fatal(err)
			}
			f.Content, f.Size = content, content.Size()
			files = append(files, f)
		}
		var err error
		if m.Table, err = s.PutTable(t.Context(), slices.Values(files)); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		places := 0
		seen := make(map[chunk.ID]bool)
		for e, err := range r.indexes.Load().all() {
			if err != nil {
				t.Fatal(err)
			}
			places++
			seen[e.id] = true
		}
		if places != len(seen) {
			t.Errorf("%d chunks are stored in %d places", len(seen), places)
		}
		again := openTestRepo(t, d.bucket(t), Options{})
		report, err := again.Check(t.Context(), CheckOptions{ReadData: true})
		if err != nil || !report.OK() || report.Snapshots != 1 {
			t.Errorf("check: %+v, error %v", report, err)
		}
	})
}

// Chunks that a Writer has not finished, and packs that are not noted, are held; what is
// noted outlives an abort, and the rest is deleted.
func TestSessionHoldsWhatIsNotNoted(t *testing.T) {
	forgetful(t, func(t *testing.T, d *testDriver, r *Repository) {
		s := mustSession(t, r)
		noted := addNoise(t, s, 1, 5000)
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		w, err := s.NewWriter()
		if err != nil {
			t.Fatal(err)
		}
		open, _, err := w.Add(t.Context(), noiseData(2, 300))
		if err != nil {
			t.Fatal(err)
		}
		if held := s.Held(); held != 2 {
			t.Fatalf("%d chunks are held", held)
		}
		if err := s.Refresh(t.Context()); err != nil || s.Held() != 2 {
			t.Errorf("without a checkpoint: %d chunks are held, error %v", s.Held(), err)
		}
		if err := note(t.Context(), s); err != nil || s.Held() != 1 {
			t.Errorf("%d chunks are held, error %v", s.Held(), err)
		}
		for _, id := range []chunk.ID{noted, open} {
			if !s.Has(id) || !s.HasFull(id) {
				t.Errorf("the session lacks chunk %s", id)
			}
		}
		if _, fresh, err := w.Add(t.Context(), noiseData(1, 5000)); fresh || err != nil {
			t.Errorf("a chunk that is noted is stored again: %v", err)
		}
		if err := s.Commit(t.Context(), &Manifest{ID: "x"}); err == nil {
			t.Error("committed with a writer that was not flushed")
		}
		w.Close()
		if err := s.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantHas(t, d, true, noted)
		wantHas(t, d, false, open)
	})
}
