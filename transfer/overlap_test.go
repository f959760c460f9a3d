package transfer_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// inStep holds up packs until what others have noted was looked for, a pack or two ago at most:
// as a network would that is far slower than all else. At the end of a copy nobody looks any more.
func inStep() func(context.Context, repotest.Request) error {
	var packs, looked atomic.Int64
	return func(_ context.Context, r repotest.Request) error {
		switch {
		case r.Verb == repotest.VerbCreate && isPack(r):
			n := packs.Add(1)
			for end := time.Now().Add(5 * time.Second); n > looked.Load()+1 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		case r.Verb == repotest.VerbList && r.Key == "index/":
			looked.Store(packs.Load())
		}
		return nil
	}
}

// Two uploads of the same data to one repository at the same time send little more than one
// does alone, and a collection beside them takes nothing away that they need.
func TestOverlappingCopiesShare(t *testing.T) {
	const size = 80 << 20
	var sources []*snapshot.Engine
	var ids []string
	for n := range 2 {
		b := newMemory(t)
		e, err := snapshot.Open(t.Context(), snapshot.Config{
			Bucket: b, Options: repo.Options{PackSize: 1 << 20},
			Sources: map[string]snapshot.Source{"kv": mapSource{fstest.MapFS{"a": {Data: noisy(1, size)}, "own": {Data: rows(n, 50_000)}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		sources = append(sources, e)
		ids = append(ids, create(t, e, fmt.Sprintf("of%d", n)).ID)
	}
	bucket := newMemory(t)
	destination := func() *repo.Repository {
		hooked := repotest.NewHooked(bucket)
		t.Cleanup(func() { _ = hooked.Close() })
		hooked.Hook(inStep())
		return openBucket(t, hooked.Bucket, repo.Options{PackSize: 1 << 20, Uploads: 1})
	}
	opened := []*repo.Repository{destination(), destination()}
	sent := make([]int64, 2)
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() {
			result, err := transfer.Copy(t.Context(), opened[n], sources[n].Repository(), ids[n], transfer.Options{CheckpointBytes: 1 << 20})
			if err != nil {
				t.Error(err)
				return
			}
			sent[n] = result.BytesSent
		})
	}
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for range 3 {
			if _, err := destination().Collect(t.Context(), repo.CollectOptions{MaxWait: 1}); err != nil {
				t.Error(err)
			}
		}
	}()
	wg.Wait()
	<-collected
	t.Logf("sent %d and %d bytes of %d", sent[0], sent[1], size)
	if share := float64(sent[0]+sent[1]) / size; share > 1.3 {
		t.Errorf("the two sent %.2f times what one has to", share)
	}
	r := openBucket(t, bucket, repo.Options{})
	wantWhole(t, r, ids...)
	if _, err := r.Collect(t.Context(), repo.CollectOptions{}); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, r, ids...)
}
