package optools

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNextRun(t *testing.T) {
	for now, want := range map[string]string{
		"2026-03-04T00:59:59Z":      "2026-03-04T01:00:00Z",
		"2026-03-04T01:00:00Z":      "2026-03-05T01:00:00Z",
		"2026-12-31T23:00:00Z":      "2027-01-01T01:00:00Z",
		"2026-03-04T02:30:00+02:00": "2026-03-04T01:00:00Z",
	} {
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := nextRun(at).Format(time.RFC3339); got != want {
			t.Errorf("after %s: %s, want %s", now, got, want)
		}
	}
}

// TestDaily lets half a year go by, with a backup and what is pruned every day.
func TestDaily(t *testing.T) {
	now := time.Date(2026, 1, 1, 1, 3, 0, 0, time.UTC)
	var ids []string
	for range 180 {
		if hasRecent(ids, now) {
			t.Fatal("a backup of a day ago counts as recent")
		}
		ids = append(ids, fmt.Sprintf("%s%d", idPrefix, now.UnixMilli()))
		if !hasRecent(ids, now.Add(12*time.Hour)) {
			t.Fatal("a backup of half a day ago does not count as recent")
		}
		for _, id := range pruned(ids, now) {
			ids = slices.DeleteFunc(ids, func(x string) bool { return x == id })
		}
		now = now.Add(day)
	}
	now = now.Add(-day)
	var ages []int
	for _, id := range ids {
		start, _ := parseID(id)
		ages = append(ages, int(now.Sub(start)/day))
	}
	if len(ages) != len(keptAges) {
		t.Errorf("kept are the ages %v", ages)
	}
	for _, age := range []int{0, 1, 2, 3, 4, 5, 6, 7} {
		if !slices.Contains(ages, age) {
			t.Errorf("there is none of %d days in %v", age, ages)
		}
	}
	if slices.Max(ages) < 60 {
		t.Errorf("there is no old one in %v", ages)
	}
}

// TestPruned keeps whatever is younger than a day, and what is no backup.
func TestPruned(t *testing.T) {
	now := time.Date(2026, 1, 1, 1, 3, 0, 0, time.UTC)
	var ids, want []string
	for hours := range 100 {
		id := fmt.Sprintf("%s%d", idPrefix, now.Add(-time.Duration(hours)*time.Hour).UnixMilli())
		ids = append(ids, id)
	}
	ids = append(ids, "nightly", idPrefix+"x")
	drop := pruned(ids, now)
	for _, id := range append(ids[:24:24], "nightly", idPrefix+"x") {
		if slices.Contains(drop, id) {
			want = append(want, id)
		}
	}
	// All ages but that of today find one that is older than a day.
	if len(want) > 0 || len(drop) != 100-24-(len(keptAges)-1) {
		t.Errorf("%d pruned, among them %v", len(drop), want)
	}
	if got := pruned(nil, now); got != nil {
		t.Error(got)
	}
}

// TestAutomatic runs what the automatic backup does every day.
func TestAutomatic(t *testing.T) {
	f := newFixture(t, nil)
	ids := func() []string {
		ids, err := f.handler.ids(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	for i := range 20 {
		if err := f.handler.daily(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(ids()); got != min(i+1, len(keptAges)) {
			t.Errorf("%d backups after day %d", got, i)
		}
		before := ids()
		f.clock.add(11 * time.Hour)
		if err := f.handler.daily(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, ids()); diff != "" {
			t.Error(diff)
		}
		f.clock.add(13 * time.Hour)
	}
	for _, id := range ids() {
		if doc := f.call("GET", "/api/v2/backups/"+id, "", 200); doc["doc_count"] != number(4) {
			t.Error(doc)
		}
	}
	why := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := f.handler.daily(ctx); err == nil {
		t.Error("it went on")
	}
}

// TestAutomaticEnds closes a handler that waits for the next day.
func TestAutomaticEnds(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Automatic = true })
	if err := f.handler.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.handler.daily(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
