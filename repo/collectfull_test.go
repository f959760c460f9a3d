package repo

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
)

// A disk is full, so snapshots were deleted, and a collection is to make room. It must not fail for
// want of the room to store anew what is alive, while packs are there that are dead.
func TestCollectOnAFullDisk(t *testing.T) {
	for _, free := range []int64{0, 100 << 10} {
		d := newTestDriver()
		r := newTestRepo(t, d, Options{PackSize: 1 << 20})
		cut := fixedCutter(t, 8192)
		kept := map[string][]byte{"kept": noiseData(1, 400<<10)}
		// The first pack is partly dead, and all of the others.
		s := mustSession(t, r)
		m, err := stageFiles(t.Context(), s, "mixed", map[string][]byte{"kept": kept["kept"], "other": noiseData(2, 500<<10)}, cut)
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, "commit", s.Commit(t.Context(), m), nil)
		mustSnapshot(t, r, "kept", kept, cut)
		mustSnapshot(t, r, "dead", map[string][]byte{"dead": noiseData(3, 3<<20)}, cut)
		capacity := d.bytesOf(packPrefix) + free
		d.before.set(func(_ context.Context, o op) error {
			if o.kind == "create" && strings.HasPrefix(o.key, packPrefix) && d.bytesOf(packPrefix)+o.length > capacity {
				return pathError(o, syscall.ENOSPC)
			}
			return nil
		})
		for _, id := range []string{"mixed", "dead"} {
			wantErr(t, "delete", r.DeleteManifest(t.Context(), id), nil)
		}
		result, err := r.Collect(t.Context(), CollectOptions{})
		if err != nil {
			t.Fatalf("%d bytes free: %v", free, err)
		}
		if result.BytesFreed < 3<<20 || result.PacksRepacked == 0 || result.BytesAfter() != d.bytesOf(packPrefix) {
			t.Errorf("%d bytes free: %+v", free, result)
		}
		wantSnapshot(t, r, "kept", kept)
		wantCompact(t, d, r)
	}
}

// Where there is nothing to delete either, the disk is what is wrong.
func TestCollectOnAFullDiskOfLiveData(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20})
	files := map[string][]byte{"kept": noiseData(1, 300<<10)}
	s := mustSession(t, r)
	m, err := stageFiles(t.Context(), s, "mixed", map[string][]byte{"kept": files["kept"], "other": noiseData(2, 300<<10)}, fixedCutter(t, 8192))
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "commit", s.Commit(t.Context(), m), nil)
	mustSnapshot(t, r, "kept", files, fixedCutter(t, 8192))
	wantErr(t, "delete", r.DeleteManifest(t.Context(), "mixed"), nil)
	d.before.set(func(_ context.Context, o op) error {
		if o.kind == "create" && strings.HasPrefix(o.key, packPrefix) {
			return pathError(o, syscall.ENOSPC)
		}
		return nil
	})
	// The file table of the snapshot that is gone is a dead pack.
	for n := range 2 {
		if _, err := r.Collect(t.Context(), CollectOptions{}); !errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("collection %d: %v", n, err)
		}
	}
	d.before.set(nil)
	wantSnapshot(t, r, "kept", files)
	mustCollect(t, r, CollectOptions{})
	wantCompact(t, d, r)
}
