package snapshot_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// cuts makes snapshots from times such as "2026-03-14 15:09", with a label after a blank.
func cuts(t *testing.T, times ...string) []*snapshot.Snapshot {
	t.Helper()
	var out []*snapshot.Snapshot
	for _, s := range times {
		at, label, _ := strings.Cut(s, " #")
		created, err := time.Parse("2006-01-02 15:04", at)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &snapshot.Snapshot{ID: strings.ReplaceAll(s, " ", "_"), Created: created, Label: label})
	}
	return out
}

func TestKeepPolicy(t *testing.T) {
	labelled := func(s *snapshot.Snapshot) bool { return s.Label != "" }
	for _, test := range []struct {
		name   string
		policy snapshot.KeepPolicy
		cuts   []string
		// want has what is kept, newest first, each with its reasons.
		want []string
	}{
		{"none there", snapshot.KeepPolicy{Last: 3}, nil, nil},
		{"last", snapshot.KeepPolicy{Last: 2},
			[]string{"2026-03-01 10:00", "2026-03-02 10:00", "2026-03-03 10:00"},
			[]string{"2026-03-03_10:00: last 1", "2026-03-02_10:00: last 2"}},
		{"more than there are", snapshot.KeepPolicy{Last: 9}, []string{"2026-03-01 10:00"}, []string{"2026-03-01_10:00: last 1"}},
		{"the newest of each day, and days without one do not count", snapshot.KeepPolicy{Daily: 2},
			[]string{"2026-03-01 10:00", "2026-03-05 10:00", "2026-03-05 23:59", "2026-03-09 00:00"},
			[]string{"2026-03-09_00:00: daily 2026-03-09", "2026-03-05_23:59: daily 2026-03-05"}},
		{"hours", snapshot.KeepPolicy{Hourly: 2},
			[]string{"2026-03-05 09:10", "2026-03-05 09:50", "2026-03-05 10:01", "2026-03-05 08:00"},
			[]string{"2026-03-05_10:01: hourly 2026-03-05T10Z", "2026-03-05_09:50: hourly 2026-03-05T09Z"}},
		{"the week of the new year belongs to one year", snapshot.KeepPolicy{Weekly: 2},
			[]string{"2025-12-28 10:00", "2025-12-29 10:00", "2026-01-01 10:00"},
			[]string{"2026-01-01_10:00: weekly 2026-W01", "2025-12-28_10:00: weekly 2025-W52"}},
		{"months and years", snapshot.KeepPolicy{Monthly: 2, Yearly: 2},
			[]string{"2024-05-01 10:00", "2025-11-30 10:00", "2025-12-01 10:00", "2025-12-31 10:00", "2026-01-01 10:00"},
			[]string{"2026-01-01_10:00: monthly 2026-01, yearly 2026", "2025-12-31_10:00: monthly 2025-12, yearly 2025"}},
		{"within, counted from the newest", snapshot.KeepPolicy{Within: 24 * time.Hour},
			[]string{"2026-03-01 09:59", "2026-03-01 10:00", "2026-03-02 10:00"},
			[]string{"2026-03-02_10:00: within 24h0m0s", "2026-03-01_10:00: within 24h0m0s"}},
		{"labels", snapshot.KeepPolicy{Last: 1, Labels: []string{"release"}},
			[]string{"2026-03-01 09:59 #release", "2026-03-01 10:00 #nightly", "2026-03-02 10:00"},
			[]string{"2026-03-02_10:00: last 1", "2026-03-01_09:59_#release: label release"}},
		{"asked for", snapshot.KeepPolicy{Keep: labelled}, []string{"2026-03-01 09:59 #a", "2026-03-01 10:00"},
			[]string{"2026-03-01_09:59_#a: asked for"}},
		{"others are not counted", snapshot.KeepPolicy{Last: 1, Match: labelled},
			[]string{"2026-03-01 09:59 #a", "2026-03-01 10:00 #b", "2026-03-02 10:00"},
			[]string{"2026-03-01_10:00_#b: last 1"}},
		{"days begin elsewhere", snapshot.KeepPolicy{Daily: 5, Location: time.FixedZone("east", 3*60*60)},
			[]string{"2026-03-01 20:59", "2026-03-01 21:00"},
			[]string{"2026-03-01_21:00: daily 2026-03-02", "2026-03-01_20:59: daily 2026-03-01"}},
		{"at the same time the IDs decide", snapshot.KeepPolicy{Last: 1}, []string{"2026-03-01 10:00 #b", "2026-03-01 10:00 #a"},
			[]string{"2026-03-01_10:00_#b: last 1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := cuts(t, test.cuts...)
			for seed := range uint64(5) {
				rand.New(rand.NewPCG(seed, 1)).Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
				verdicts, err := test.policy.Apply(all)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, v := range verdicts {
					if v.Kept() {
						got = append(got, v.Snapshot.ID+": "+strings.Join(v.Reasons, ", "))
					}
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("seed %d: %s", seed, diff)
				}
			}
		})
	}
	for name, policy := range map[string]snapshot.KeepPolicy{
		"nothing":      {},
		"only a match": {Match: labelled},
		"negative":     {Last: 3, Daily: -1},
		"negative age": {Within: -time.Hour},
	} {
		if _, err := policy.Apply(cuts(t, "2026-03-01 10:00")); !errors.Is(err, repo.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPrune(t *testing.T) {
	ctx := t.Context()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	engine, err := snapshot.Open(ctx, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"t": &table{rows: map[string]string{"1": "x"}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	var ids []string
	for _, label := range []string{"a", "b", "c", "d"} {
		s, err := engine.Create(ctx, snapshot.CreateOptions{Label: label})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, s.ID)
	}
	if err := bucket.WriteAll(ctx, "snapshot/0-damaged", []byte("no manifest"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Prune(ctx, snapshot.KeepPolicy{}, snapshot.PruneOptions{}); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("a policy that keeps nothing: %v", err)
	}
	policy := snapshot.KeepPolicy{Last: 1, Labels: []string{"b"}}
	for _, dry := range []bool{true, false} {
		result, err := engine.Prune(ctx, policy, snapshot.PruneOptions{DryRun: dry})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{ids[0], ids[2]}, result.Deleted); diff != "" || len(result.Verdicts) != 4 || len(result.Unreadable) != 1 {
			t.Errorf("dry run %v: %+v, %s", dry, result, diff)
		}
		for i, id := range ids {
			_, err := engine.Get(ctx, id)
			if gone := !dry && i%2 == 0; gone != errors.Is(err, snapshot.ErrNotFound) || !gone && err != nil {
				t.Errorf("dry run %v: %s: %v", dry, id, err)
			}
		}
	}
	if ok, err := bucket.Exists(ctx, "snapshot/0-damaged"); !ok || err != nil {
		t.Errorf("a snapshot that cannot be read was deleted: %v", err)
	}
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Prune(ctx, policy, snapshot.PruneOptions{}); !errors.Is(err, snapshot.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
