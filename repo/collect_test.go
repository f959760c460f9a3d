package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/chunk"
)

// mustCollect collects, and fails unless all that is listed is whole afterwards.
func mustCollect(t testing.TB, r *Repository, opts CollectOptions) *CollectResult {
	t.Helper()
	result, err := r.Collect(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	wantSound(t, openTestRepo(t, r.store.bucket, Options{}))
	return result
}

// bytesOf returns the size of all objects below a prefix.
func (d *testDriver) bytesOf(prefix string) (n int64) {
	for _, k := range d.keys(prefix) {
		n += int64(len(d.get(k)))
	}
	return n
}

// wantCompact fails unless the packs take at most 5 % more than a new repository with the
// same snapshots, and nothing but what belongs there is left.
func wantCompact(t testing.TB, d *testDriver, r *Repository) {
	t.Helper()
	for _, prefix := range []string{sessionPrefix, planGarbage} {
		if left := d.keys(prefix); len(left) > 0 {
			t.Errorf("left below %s: %q", prefix, left)
		}
	}
	report := wantSound(t, openTestRepo(t, r.store.bucket, Options{}))
	if live := report.PackBytes - report.UnusedBytes; float64(report.UnusedBytes) > 0.05*float64(live) {
		t.Errorf("%d of %d bytes are dead", report.UnusedBytes, report.PackBytes)
	}
}

func TestCollect(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20})
	cut := fixedCutter(t, 4096)
	files := make(map[string]map[string][]byte)
	for n := range 6 {
		id := fmt.Sprint("s", n)
		files[id] = smallFiles(uint64(n))
		files[id]["own"] = noiseData(uint64(n), 300<<10)
		files[id]["shared"] = noiseData(uint64(100+n/2), 200<<10)
		mustSnapshot(t, r, id, files[id], cut)
	}
	if result := mustCollect(t, r, CollectOptions{}); result.PacksDeleted != 0 || result.BytesDead != 0 {
		t.Errorf("collected what was needed: %+v", result)
	}
	for _, id := range []string{"s0", "s3", "s4"} {
		if err := r.DeleteManifest(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		delete(files, id)
	}
	before := d.keys("")
	dry := mustCollect(t, r, CollectOptions{DryRun: true})
	if diff := cmp.Diff(before, d.keys("")); diff != "" {
		t.Errorf("a dry run changed something: %s", diff)
	}
	wet := mustCollect(t, r, CollectOptions{})
	if diff := cmp.Diff(dry, wet); diff != "" {
		// What is written is only estimated by a dry run.
		if dry.BytesWritten = wet.BytesWritten; !cmp.Equal(dry, wet) {
			t.Errorf("a dry run tells something else: %s", diff)
		}
	}
	if wet.PacksDeleted == 0 || wet.BytesFreed == 0 || wet.PacksRepacked == 0 || wet.BytesAfter() != d.bytesOf(packPrefix) {
		t.Errorf("%+v, but %d bytes are left", wet, d.bytesOf(packPrefix))
	}
	wantCompact(t, d, r)
	for id := range files {
		wantSnapshot(t, r, id, files[id])
	}
	if again := mustCollect(t, r, CollectOptions{}); again.PacksDeleted != 0 {
		t.Errorf("a second collection found more: %+v", again)
	}
	for id := range files {
		if err := r.DeleteManifest(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	mustCollect(t, r, CollectOptions{})
	if left := d.keys(packPrefix); len(left) != 0 {
		t.Errorf("packs are left in an empty repository: %q", left)
	}
	mustSnapshot(t, r, "anew", smallFiles(1), cut)
	wantSound(t, openTestRepo(t, r.store.bucket, Options{}))
}

// A difference keeps what it is a difference to.
func TestCollectKeepsBases(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20})
	cut := fixedCutter(t, 8192)
	old := map[string][]byte{"f": noiseData(1, 400<<10), "gone": noiseData(2, 400<<10)}
	mustSnapshot(t, r, "old", old, cut)
	files := map[string][]byte{"f": edited(edited(old["f"], 5000), 300_000)}
	s := mustSession(t, r)
	m, err := stageDeltas(ctx, r, s, "new", files, "old", cut)
	if err != nil {
		t.Fatal(err)
	}
	if s.BytesDelta() == 0 {
		t.Fatal("nothing was stored as a difference")
	}
	if err := s.Commit(ctx, m); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteManifest(ctx, "old"); err != nil {
		t.Fatal(err)
	}
	result := mustCollect(t, r, CollectOptions{})
	if result.BytesFreed < 380<<10 {
		t.Errorf("only %d bytes were freed", result.BytesFreed)
	}
	wantSnapshot(t, openTestRepo(t, r.store.bucket, Options{}), "new", files)
	wantCompact(t, d, r)
}

// What a killed writer has left goes once its lease was given up, and no sooner.
func TestCollectDebris(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20})
	mustSnapshot(t, r, "s", smallFiles(1), fixedCutter(t, 512))
	packs := len(d.keys(packPrefix))
	s := mustSession(t, r)
	defer s.Abort(ctx)
	m, err := stageFiles(ctx, s, "late", map[string][]byte{"f": noiseData(3, 3<<20)}, fixedCutter(t, 1<<16))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Alive(ctx); err != nil {
		t.Errorf("Alive: %v", err)
	}
	result := mustCollect(t, r, CollectOptions{LeaseTimeout: time.Hour, MaxWait: time.Nanosecond})
	if result.PacksDeleted != 0 || result.PacksPending < 3 || len(result.Waited) != 1 {
		t.Errorf("a writer is under way: %+v", result)
	}
	result = mustCollect(t, r, CollectOptions{LeaseTimeout: time.Millisecond, MaxWait: time.Minute})
	if result.PacksDeleted < 3 || len(result.GivenUp) != 1 || len(d.keys(packPrefix)) != packs {
		t.Errorf("a writer was given up: %+v", result)
	}
	// The writer was not dead.
	if err := s.Alive(ctx); !errors.Is(err, ErrGivenUp) {
		t.Errorf("Alive: %v", err)
	}
	if err := s.Commit(ctx, m); !errors.Is(err, ErrGivenUp) {
		t.Errorf("Commit: %v", err)
	}
	if err := s.Alive(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("Alive after the end: %v", err)
	}
	if _, err := r.Manifest(ctx, "late"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Manifest: %v", err)
	}
	mustCollect(t, r, CollectOptions{LeaseTimeout: time.Millisecond, MaxWait: time.Minute})
	if got := listIDs(t, r); len(got) != 1 {
		t.Errorf("snapshots %q", got)
	}
	wantCompact(t, d, r)
	mustSnapshot(t, r, "late", map[string][]byte{"f": noiseData(3, 3<<20)}, fixedCutter(t, 1<<16))
	wantSound(t, openTestRepo(t, r.store.bucket, Options{}))
}

// Snapshots are made all the time: there is a new index whenever the collection looks.
func TestCollectBesideBusyWriters(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	cut := fixedCutter(t, 4096)
	mustSnapshot(t, r, "gone", map[string][]byte{"f": noiseData(1, 100<<10)}, cut)
	wantErr(t, "delete", r.DeleteManifest(t.Context(), "gone"), nil)
	writer := openTestRepo(t, d.bucket(t), Options{})
	var busy atomic.Bool
	made := make(map[string]map[string][]byte)
	d.before.set(func(ctx context.Context, o op) error {
		// It follows each look at the indexes.
		if o.String() != "list "+garbagePrefix || !busy.CompareAndSwap(false, true) {
			return nil
		}
		defer busy.Store(false)
		id := fmt.Sprintf("s%03d", len(made))
		made[id] = map[string][]byte{"f": noiseData(uint64(100+len(made)), 500)}
		return takeSnapshot(ctx, writer, id, made[id], cut)
	})
	result, err := r.Collect(t.Context(), CollectOptions{})
	d.before.set(nil)
	if err != nil || result.BytesFreed < 100<<10 {
		t.Errorf("beside %d snapshots: %+v, %v", len(made), result, err)
	}
	again := openTestRepo(t, d.bucket(t), Options{})
	for id, files := range made {
		wantSnapshot(t, again, id, files)
	}
	wantSound(t, again)
}

func TestCollectRefuses(t *testing.T) {
	ctx := t.Context()
	for name, opts := range map[string]CollectOptions{
		"share":    {MinDead: 1.5},
		"negative": {MinDead: -1},
		"time":     {LeaseTimeout: -1},
		"wait":     {MaxWait: -1},
	} {
		if _, err := newTestRepo(t, newTestDriver(), Options{}).Collect(ctx, opts); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, prefix := range map[string]string{"manifest": snapshotPrefix, "index": indexPrefix} {
		d := newTestDriver()
		r := newTestRepo(t, d, Options{})
		mustSnapshot(t, r, "a", smallFiles(1), fixedCutter(t, 512))
		mustSnapshot(t, r, "b", smallFiles(2), fixedCutter(t, 512))
		if err := r.DeleteManifest(ctx, "b"); err != nil {
			t.Fatal(err)
		}
		key := d.keys(prefix)[0]
		data := append([]byte{}, d.get(key)...)
		data[len(data)/2] ^= 1
		d.put(key, data)
		packs := d.keys(packPrefix)
		_, err := openTestRepo(t, r.store.bucket, Options{}).Collect(ctx, CollectOptions{})
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "collect") {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(packs, d.keys(packPrefix)); diff != "" {
			t.Errorf("%s: packs were deleted: %s", name, diff)
		}
	}
}

func TestCollectRecompress(t *testing.T) {
	d := newTestDriver()
	files := map[string][]byte{"rows": rowData(1, 2<<20)}
	r := newTestRepo(t, d, Options{Policy: chunk.Fast})
	b := r.store.bucket
	mustSnapshot(t, r, "s", files, fixedCutter(t, 1<<16))
	before := d.bytesOf(packPrefix)
	r = openTestRepo(t, b, Options{})
	mustCollect(t, r, CollectOptions{Recompress: true})
	if after := d.bytesOf(packPrefix); after >= before*9/10 {
		t.Errorf("%d bytes before, %d after", before, after)
	}
	wantSnapshot(t, openTestRepo(t, b, Options{}), "s", files)
	wantCompact(t, d, r)
	if again := mustCollect(t, r, CollectOptions{Recompress: true}); again.PacksRepacked != 0 {
		t.Errorf("recompressed twice: %+v", again)
	}
}
