package repo

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// A store that fails for now is no damage: were the packs that it does not show left out, the new
// index would take the place of one that has them.
func TestRebuildWhileTheStoreFails(t *testing.T) {
	for _, readData := range []bool{false, true} {
		for _, failure := range []error{codedError{"SlowDown", 503}, codedError{"AccessDenied", 403}, codedError{"ExpiredToken", 400}} {
			d, snapshots := tinyRepo(t)
			r := openTestRepo(t, d.bucket(t), Options{Retry: Retry{Attempts: 1}})
			key, before := d.keys(packPrefix)[0], d.keys(indexPrefix)
			asked := 0
			d.before.set(func(_ context.Context, o op) error {
				d.mu.Lock()
				defer d.mu.Unlock()
				if o.key == key {
					if asked++; asked > 1 || !readData {
						return failure
					}
				}
				return nil
			})
			done, err := r.RebuildIndex(t.Context(), RebuildOptions{ReadData: readData})
			d.before.set(nil)
			if err == nil || !isStoreFailure(err) || !strings.Contains(err.Error(), key) {
				t.Errorf("%v, read data %v: %+v, %v", failure, readData, done, err)
			}
			if !slices.Equal(before, d.keys(indexPrefix)) {
				t.Errorf("%v, read data %v: the indexes are others now", failure, readData)
			}
			for id := range snapshots {
				wantSnapshot(t, openTestRepo(t, d.bucket(t), Options{}), id, snapshots[id])
			}
		}
	}
}

// A collection comes while the index is made anew: whenever it does, the new one names no pack for
// good that is gone.
func TestRebuildBesideACollection(t *testing.T) {
	files := map[string][]byte{"f": noiseData(1, 60<<10)}
	total := -1
	for stop := 0; total < 0 || stop < total; stop++ {
		d := newTestDriver()
		r := newTestRepo(t, d, Options{})
		mustSnapshot(t, r, "stays", smallFiles(1), fixedCutter(t, 512))
		mustSnapshot(t, r, "goes", files, fixedCutter(t, 8192))
		wantErr(t, "delete", r.DeleteManifest(t.Context(), "goes"), nil)
		var asked atomic.Int64
		var over atomic.Bool
		d.before.set(func(ctx context.Context, o op) error {
			if asked.Add(1)-1 != int64(stop) || over.Load() {
				return nil
			}
			other := openTestRepo(t, d.bucket(t), Options{})
			if _, err := other.Collect(ctx, CollectOptions{LeaseTimeout: 1 << 40, MaxWait: 1}); err != nil {
				t.Errorf("stopped in request %d, %v: %v", stop, o, err)
			}
			return nil
		})
		if _, err := r.RebuildIndex(t.Context(), RebuildOptions{}); err != nil && !errors.Is(err, ErrGivenUp) {
			t.Errorf("stopped in request %d: %v", stop, err)
		}
		over.Store(true)
		if asked.Load() <= int64(stop) {
			total = stop
		}
		for range 2 {
			if _, err := openTestRepo(t, d.bucket(t), Options{}).Collect(t.Context(), CollectOptions{}); err != nil {
				t.Errorf("stopped in request %d: collect afterwards: %v", stop, err)
			}
		}
		// What it believes to be there is there.
		again := openTestRepo(t, d.bucket(t), Options{})
		mustSnapshot(t, again, "again", files, fixedCutter(t, 8192))
		if got, err := readSnapshot(t.Context(), again, "again"); err != nil {
			t.Errorf("stopped in request %d: %d files, %v", stop, len(got), err)
		}
		wantSnapshot(t, again, "stays", smallFiles(1))
		if t.Failed() {
			return
		}
	}
}
