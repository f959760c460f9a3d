package repo

import (
	"fmt"
	"runtime"
	"testing"
)

// A difference that no snapshot needs stays where its pack does, and what it is a difference to
// goes. Who stores the same chunk again must not rely on it.
func TestCollectLeavesNoBrokenDeltas(t *testing.T) {
	for name, opts := range map[string]CollectOptions{"whole packs": {MinDead: 1}, "default": {}} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			d := newTestDriver()
			r := newTestRepo(t, d, Options{})
			cut := fixedCutter(t, 4096)
			old := map[string][]byte{"f": noiseData(1, 4096)}
			keep := map[string][]byte{"keep": noiseData(2, 400<<10)}
			mustSnapshot(t, r, "old", old, cut)
			files := map[string][]byte{"f": edited(old["f"], 300), "keep": keep["keep"]}
			mustDeltaSnapshot(t, r, "new", files, "old", cut)
			mustSnapshot(t, r, "keep", keep, cut)
			for _, id := range []string{"old", "new"} {
				if err := r.DeleteManifest(ctx, id); err != nil {
					t.Fatal(err)
				}
			}
			mustCollect(t, r, opts)
			r = openTestRepo(t, r.store.bucket, Options{})
			mustSnapshot(t, r, "again", map[string][]byte{"f": files["f"]}, cut)
			wantSnapshot(t, openTestRepo(t, r.store.bucket, Options{}), "again", map[string][]byte{"f": files["f"]})
			wantSound(t, openTestRepo(t, r.store.bucket, Options{}))
		})
	}
}

// More packs with differences than are read at once.
func TestCollectManyPacksOfDeltas(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	cut := fixedCutter(t, 4096)
	base := noiseData(1, 20_000)
	mustSnapshot(t, r, "s", map[string][]byte{"f": base}, cut)
	n := 5 * runtime.GOMAXPROCS(0) // twice as many as that are read at once
	for i := range n {
		mustDeltaSnapshot(t, r, fmt.Sprint("d", i), map[string][]byte{"f": edited(base, 100+i)}, "s", cut)
	}
	if err := r.DeleteManifest(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	wantTight(t, d, r)
	r = openTestRepo(t, r.store.bucket, Options{})
	for i := range n {
		wantSnapshot(t, r, fmt.Sprint("d", i), map[string][]byte{"f": edited(base, 100+i)})
	}
}
