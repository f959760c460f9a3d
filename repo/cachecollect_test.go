package repo

import (
	"fmt"
	"os"
	"testing"
)

// Files of the index cache rot, in each block, before they are opened or while they are mapped. That
// costs memory and time: what a call is asked to do is done all the same.
func TestDamagedCacheSpoilsNoCall(t *testing.T) {
	d := newTestDriver()
	plain := newTestRepo(t, d, Options{PackSize: 1 << 20})
	cut := fixedCutter(t, 2048)
	files := make(map[string]map[string][]byte)
	for n := range 3 {
		id := fmt.Sprint("s", n)
		files[id] = map[string][]byte{"own": noiseData(uint64(n), 300<<10), "shared": noiseData(100, 200<<10)}
		mustSnapshot(t, plain, id, files[id], cut)
	}
	if err := plain.DeleteManifest(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	delete(files, "s1")
	calls := map[string]func(r *Repository) error{
		"collect": func(r *Repository) error { _, err := r.Collect(t.Context(), CollectOptions{}); return err },
		"dry run": func(r *Repository) error { _, err := r.Collect(t.Context(), CollectOptions{DryRun: true}); return err },
		"rebuild": func(r *Repository) error { _, err := r.RebuildIndex(t.Context(), RebuildOptions{}); return err },
		"session": func(r *Repository) error {
			return takeSnapshot(t.Context(), r, "new", map[string][]byte{"new": noiseData(7, 300<<10), "shared": files["s0"]["shared"]}, cut)
		},
		"read": func(r *Repository) error { _, err := readSnapshot(t.Context(), r, "s2"); return err },
	}
	for name, call := range calls {
		for _, mapped := range []bool{false, true} {
			for block := int64(0); ; block++ {
				dir := t.TempDir()
				bucket := d.copy()
				r := cachedRepo(t, bucket, dir, nil)
				if _, err := r.refreshIndex(t.Context()); err != nil {
					t.Fatal(err)
				}
				path := segmentPaths(t, dir)[0]
				if !mapped {
					r = cachedRepo(t, bucket, dir, nil)
				}
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				at := block*segmentBlock + 1000
				if at >= int64(len(data)) {
					break
				}
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt([]byte{data[at] ^ 8}, at); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				if err := call(r); err != nil {
					t.Errorf("%s, mapped %v, block %d: %v", name, mapped, block, err)
				}
				after := openTestRepo(t, r.store.bucket, Options{})
				for id := range files {
					wantSnapshot(t, after, id, files[id])
				}
			}
		}
	}
}
