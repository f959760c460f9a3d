package repo

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// The second snapshot of the same data stores a manifest and nothing else.
func TestSecondSnapshotStoresNothing(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	files := smallFiles(1)
	mustSnapshot(t, r, "a", files, r.Gear())
	before := d.keys("")
	d.take()
	mustSnapshot(t, r, "b", files, r.Gear())
	added := slices.DeleteFunc(d.keys(""), func(k string) bool { return slices.Contains(before, k) })
	if !slices.Equal(added, []string{"snapshot/b"}) {
		t.Errorf("added %q", added)
	}
	wantSnapshot(t, r, "b", files)
}

func TestCommitTakenID(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	old := smallFiles(1)
	mustSnapshot(t, r, "taken", old, r.Gear())
	s := mustSession(t, r)
	defer s.Abort(ctx)
	files := smallFiles(2)
	m, err := stageFiles(ctx, s, "taken", files, r.Gear())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Commit(ctx, m); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "taken") {
			t.Fatalf("Commit: %v", err)
		}
	}
	// More may be added before the next try, and must not be forgotten.
	files["late"] = noiseData(9, 4000)
	m, err = stageFiles(ctx, s, "free", files, r.Gear())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, m); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, m); !errors.Is(err, ErrClosed) {
		t.Errorf("Commit after Commit: %v", err)
	}
	if err := s.Abort(ctx); err != nil {
		t.Errorf("Abort after Commit: %v", err)
	}
	r = openTestRepo(t, d.bucket(t), Options{})
	wantSnapshot(t, r, "taken", old)
	wantSnapshot(t, r, "free", files)
	wantSound(t, r)
}

func TestAbortLeavesNothing(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20})
	mustSnapshot(t, r, "before", smallFiles(1), r.Gear())
	before := d.keys("")
	s := mustSession(t, r)
	if _, err := stageFiles(ctx, s, "s", map[string][]byte{"big": noiseData(1, 5<<20)}, r.Gear()); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(d.keys(packPrefix)); n < 6 {
		t.Fatalf("only %d packs before the abort", n)
	}
	if err := s.Abort(ctx); err != nil {
		t.Fatal(err)
	}
	if after := d.keys(""); !slices.Equal(after, before) {
		t.Errorf("left behind: %q", slices.DeleteFunc(after, func(k string) bool { return slices.Contains(before, k) }))
	}
	w := mustWriter(t, s)
	for name, call := range map[string]func() error{
		"Add":          func() error { _, _, err := w.Add(ctx, []byte("x")); return err },
		"Add of known": func() error { _, _, err := w.Add(ctx, smallFiles(1)["db/CURRENT"]); return err },
		"PutTable":     func() error { _, err := s.PutTable(ctx, slices.Values([]File{{Path: "x"}})); return err },
		"Sync":         func() error { return s.Sync(ctx) },
		"Commit":       func() error { return s.Commit(ctx, &Manifest{ID: "s"}) },
	} {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Abort: %v", name, err)
		}
	}
	if err := s.Abort(ctx); err != nil {
		t.Errorf("second Abort: %v", err)
	}
}

func TestManifestsThatCannotBeStored(t *testing.T) {
	for name, test := range map[string]struct {
		m    Manifest
		want error
	}{
		"no ID":             {Manifest{}, ErrBadID},
		"bad ID":            {Manifest{ID: "a/b"}, ErrBadID},
		"label not UTF-8":   {Manifest{ID: "s", Label: "a\xff"}, ErrInvalid},
		"metadata key":      {Manifest{ID: "s", Metadata: map[string]string{"\xfe": ""}}, ErrInvalid},
		"source's position": {Manifest{ID: "s", Sources: []SourceInfo{{Name: "kv", Position: "\x80"}}}, ErrInvalid},
		"source's metadata": {Manifest{ID: "s", Sources: []SourceInfo{{Metadata: map[string]string{"a": "\x80"}}}}, ErrInvalid},
		"year 10000":        {Manifest{ID: "s", Created: testTime.AddDate(9000, 0, 0)}, ErrInvalid},
		"too large":         {Manifest{ID: "s", Description: strings.Repeat("many words ", 2<<20)}, ErrInvalid},
		"table of nothing":  {Manifest{ID: "s", Table: Content{Refs: []Ref{{}}}}, ErrInvalid},
		"table too deep":    {Manifest{ID: "s", Table: Content{Depth: MaxDepth + 1}}, ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			d := newTestDriver()
			r := newTestRepo(t, d, Options{})
			before := d.keys("")
			s := mustSession(t, r)
			if err := s.Commit(ctx, &test.m); !errors.Is(err, test.want) {
				t.Errorf("Commit: %v", err)
			}
			if err := s.Sync(ctx); !errors.Is(err, ErrClosed) {
				t.Errorf("Sync after a failed Commit: %v", err)
			}
			if after := d.keys(""); !slices.Equal(after, before) {
				t.Errorf("left behind %q", after)
			}
		})
	}
}

// What a commit asks of the bucket, and in what order, is part of what it promises.
func TestCommitOrderAndRequests(t *testing.T) {
	// Under a clock that stands still no lease is renewed, however long it takes.
	synctest.Test(t, commitOrderAndRequests)
}

func commitOrderAndRequests(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20, Uploads: 1})
	d.take()
	s := mustSession(t, r)
	if got, want := fmt.Sprint(d.take()), "[create session/"+s.lease.id.String()+" list index/ list garbage/]"; got != want {
		t.Errorf("NewSession: %s, want %s", got, want)
	}
	m, err := stageFiles(ctx, s, "s", map[string][]byte{"data": noiseData(1, 1500<<10)}, fixedCutter(t, 1<<16))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, m); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, o := range d.take() {
		prefix, _, _ := strings.Cut(o.key, "/")
		kinds = append(kinds, o.kind+" "+prefix)
	}
	want := []string{"create pack", "create pack", "create pack", "create index", "create snapshot", "read garbage", "delete session"}
	if !slices.Equal(kinds, want) {
		t.Errorf("requests %q, want %q", kinds, want)
	}
	r = openTestRepo(t, d.bucket(t), Options{})
	d.take()
	if _, err := r.Manifest(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(d.take()), "[read snapshot/s read "+verdictKey(s.lease.id)+"]"; got != want {
		t.Errorf("Manifest: %s, want %s", got, want)
	}
}
