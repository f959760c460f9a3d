package transfer_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/fstest"

	"golang.org/x/time/rate"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

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
		return openBucket(t, bucket, repo.Options{PackSize: 1 << 20, Uploads: 1, WriteLimiter: rate.NewLimiter(40<<20, 1<<20)})
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
