package repo

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// openPlan makes a repository with a plan that a collection has left open, since a session was
// under way. It returns what the one snapshot holds.
func openPlan(t *testing.T, d *testDriver) (r *Repository, files map[string][]byte) {
	t.Helper()
	ctx := t.Context()
	r = newTestRepo(t, d, Options{PackSize: 1 << 20})
	files = map[string][]byte{"f": noiseData(1, 300<<10)}
	mustSnapshot(t, r, "stays", files, fixedCutter(t, 8192))
	mustSnapshot(t, r, "goes", map[string][]byte{"g": noiseData(2, 300<<10)}, fixedCutter(t, 8192))
	if err := r.DeleteManifest(ctx, "goes"); err != nil {
		t.Fatal(err)
	}
	s, err := r.NewSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	result, err := r.Collect(ctx, CollectOptions{LeaseTimeout: time.Hour, MaxWait: 1})
	if err != nil || result.PacksPending == 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if err := s.Abort(ctx); err != nil {
		t.Fatal(err)
	}
	return r, files
}

// A plan that is damaged stops sessions and collections, since what it condemns is unknown.
// Both say what to do, Check finds it, and RebuildIndex sets them free.
func TestDamagedPlan(t *testing.T) {
	for _, suffix := range []string{"", waitSuffix} {
		d := newTestDriver()
		r, files := openPlan(t, d)
		key := ""
		for _, k := range d.keys(planGarbage) {
			if strings.HasSuffix(k, suffix) && (suffix != "" || !strings.Contains(k, ".")) {
				key = k
			}
		}
		data := bytes.Clone(d.get(key))
		data[len(data)-10] ^= 1
		d.put(key, data)
		r = openTestRepo(t, r.store.bucket, Options{PackSize: 1 << 20})
		wantAdvice := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "RebuildIndex") {
				t.Errorf("%q, %s: %v", suffix, what, err)
			}
		}
		_, err := r.Collect(t.Context(), CollectOptions{})
		wantAdvice("Collect", err)
		if suffix == "" {
			_, err = r.NewSession(t.Context())
			wantAdvice("NewSession", err)
		}
		report, err := r.Check(t.Context(), CheckOptions{})
		if err != nil || len(report.Damage) != 1 || report.Damage[0].Object != key || len(report.Damage[0].Snapshots) > 0 {
			t.Errorf("%q, Check: %+v, %v", suffix, report, err)
		} else {
			wantAdvice("Check", report.Damage[0].Err)
		}
		rebuilt, err := r.RebuildIndex(t.Context(), RebuildOptions{})
		if err != nil || rebuilt.Plans != 1 || len(rebuilt.Damaged) > 0 {
			t.Fatalf("%q, RebuildIndex: %+v, %v", suffix, rebuilt, err)
		}
		wantSound(t, openTestRepo(t, r.store.bucket, Options{}))
		mustSnapshot(t, r, "new", map[string][]byte{"n": noiseData(3, 50<<10)}, fixedCutter(t, 8192))
		mustCollect(t, r, CollectOptions{})
		wantSnapshot(t, r, "stays", files)
		wantCompact(t, d, r)
	}
}

// A plan that is whole is none of RebuildIndex's business, nor one of a newer format.
func TestRebuildKeepsPlans(t *testing.T) {
	d := newTestDriver()
	r, files := openPlan(t, d)
	plans := d.keys(planGarbage)
	if rebuilt, err := r.RebuildIndex(t.Context(), RebuildOptions{}); err != nil || rebuilt.Plans != 0 || len(d.keys(planGarbage)) != len(plans) {
		t.Errorf("%+v, %v", rebuilt, err)
	}
	mustCollect(t, r, CollectOptions{})
	wantSnapshot(t, r, "stays", files)
	wantCompact(t, d, r)
}
