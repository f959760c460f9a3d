package repo

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestRebuildIndex(t *testing.T) {
	d, snapshots := tinyRepo(t)
	index := d.keys(indexPrefix)
	for name, damage := range map[string]func(*testDriver){
		"none":          func(*testDriver) {},
		"flipped":       func(d *testDriver) { b := bytes.Clone(d.get(index[0])); b[70] ^= 1; d.put(index[0], b) },
		"cut off":       func(d *testDriver) { d.put(index[1], d.get(index[1])[:9]) },
		"empty":         func(d *testDriver) { d.put(index[0], nil) },
		"one missing":   func(d *testDriver) { delete(d.objects, index[0]) },
		"all missing":   func(d *testDriver) { delete(d.objects, index[0]); delete(d.objects, index[1]) },
		"swapped":       func(d *testDriver) { a, b := d.get(index[0]), d.get(index[1]); d.put(index[0], b); d.put(index[1], a) },
		"all destroyed": func(d *testDriver) { d.put(index[0], []byte("x")); d.put(index[1], []byte("y")) },
	} {
		t.Run(name, func(t *testing.T) {
			hurt := d.copy()
			damage(hurt)
			before := len(hurt.keys(indexPrefix))
			r := openTestRepo(t, hurt.bucket(t), Options{})
			for n := range 3 {
				done, err := r.RebuildIndex(t.Context(), RebuildOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if done.Packs != len(d.keys(packPrefix)) || done.Chunks == 0 || len(done.Damaged) > 0 || n == 0 && done.Replaced != before {
					t.Errorf("rebuilt %+v", done)
				}
				if len(hurt.keys(indexPrefix)) != 1 {
					t.Errorf("indexes %q", hurt.keys(indexPrefix))
				}
				for id := range snapshots {
					wantSnapshot(t, r, id, snapshots[id])
				}
				fresh := openTestRepo(t, hurt.bucket(t), Options{})
				wantSound(t, fresh)
				mustSnapshot(t, fresh, fmt.Sprint("more", n), smallFiles(uint64(n)), r.Gear())
				if _, err := fresh.RebuildIndex(t.Context(), RebuildOptions{}); err != nil {
					t.Fatal(err)
				}
				wantSound(t, fresh)
				hurt = d.copy()
				damage(hurt)
				r = openTestRepo(t, hurt.bucket(t), Options{})
			}
		})
	}
}

func TestRebuildIndexWithoutPacks(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	if done, err := r.RebuildIndex(t.Context(), RebuildOptions{}); err != nil || done.Packs != 0 || len(d.keys(indexPrefix)) != 0 {
		t.Errorf("%+v %v", done, err)
	}
	d.put(indexPrefix+strings.Repeat("0", 64), []byte("damaged"))
	if done, err := r.RebuildIndex(t.Context(), RebuildOptions{}); err != nil || done.Replaced != 1 {
		t.Errorf("%+v %v", done, err)
	}
	wantSound(t, r)
	mustSnapshot(t, r, "s", smallFiles(1), r.Gear())
}

// A pack that cannot be read is reported and stays where it is, as are chunks that
// are differences to one in it; the rest works.
func TestRebuildIndexBesideDamagedPack(t *testing.T) {
	whole, _ := tinyRepo(t)
	keys := whole.keys(packPrefix)
	orphans := 0
	for _, key := range keys {
		d := whole.copy()
		d.put(key, d.get(key)[:100])
		r := openTestRepo(t, d.bucket(t), Options{})
		done, err := r.RebuildIndex(t.Context(), RebuildOptions{})
		if err != nil || len(done.Damaged) == 0 || !errors.Is(done.Damaged[0], ErrCorrupt) || done.Packs > len(keys)-1 {
			t.Fatalf("%+v %v", done, err)
		}
		for _, err := range done.Damaged[1:] {
			var base *BaseError
			if !errors.As(err, &base) || !errors.Is(err, ErrMissing) {
				t.Errorf("left out: %v", err)
			}
			orphans++
		}
		if len(done.Damaged) == 1 && done.Packs != len(keys)-1 {
			t.Errorf("%d of %d packs are in the index", done.Packs, len(keys))
		}
		if d.get(key) == nil {
			t.Error("the damaged pack was deleted")
		}
		report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
		if err != nil || report.OK() {
			t.Errorf("Check: %v", err)
		}
		mustSnapshot(t, r, "next", smallFiles(3), r.Gear())
		wantSnapshot(t, r, "next", smallFiles(3))
	}
	if orphans != 1 {
		t.Errorf("%d chunks lost their base, want the one difference that there is", orphans)
	}
}

// With ReadData a damaged chunk is left out of the index, and the next snapshot of
// the same data makes the damaged one whole.
func TestRebuildIndexHealsByTheNextSnapshot(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	mustSnapshot(t, r, "hurt", smallFiles(1), r.Gear())
	for _, key := range d.keys(packPrefix) {
		pack := bytes.Clone(d.get(key))
		pack[packHeaderSize+5] ^= 0x10
		d.put(key, pack)
	}
	r = openTestRepo(t, d.bucket(t), Options{})
	done, err := r.RebuildIndex(t.Context(), RebuildOptions{ReadData: true})
	if err != nil || len(done.Damaged) == 0 {
		t.Fatalf("%+v %v", done, err)
	}
	for _, err := range done.Damaged {
		var ce *ChunkError
		if !errors.As(err, &ce) || !errors.Is(err, ErrCorrupt) {
			t.Errorf("damage %v", err)
		}
	}
	report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil || report.OK() {
		t.Errorf("Check after the rebuild: %+v %v", report, err)
	}
	mustSnapshot(t, r, "next", smallFiles(1), r.Gear())
	wantSnapshot(t, r, "next", smallFiles(1))
	wantSnapshot(t, r, "hurt", smallFiles(1))
}

// Many indexes stand in for one that would be too large.
func TestIndexParts(t *testing.T) {
	packs := []packContent{
		{entries: make([]packEntry, maxIndexChunks-1)}, {entries: make([]packEntry, 1)}, {entries: make([]packEntry, 1)},
		{entries: make([]packEntry, maxIndexChunks+5)},
	}
	var parts []int
	for len(packs) > 0 {
		n := indexPart(packs)
		parts = append(parts, n)
		packs = packs[n:]
	}
	if !slices.Equal(parts, []int{2, 1, 1}) || indexPart(nil) != 0 {
		t.Errorf("parts %v", parts)
	}
}

// A superseded index that its writer did not come to delete is no matter, damaged or
// not, and the next commit takes it away.
func TestSupersededIndexLeftBehind(t *testing.T) {
	d, snapshots := tinyRepo(t)
	r := openTestRepo(t, d.bucket(t), Options{})
	old := d.copy()
	if _, err := r.RebuildIndex(t.Context(), RebuildOptions{}); err != nil {
		t.Fatal(err)
	}
	for n, key := range old.keys(indexPrefix) {
		d.put(key, old.get(key)[:len(old.get(key))-n])
	}
	if n := len(d.keys(indexPrefix)); n != 1+len(old.keys(indexPrefix)) {
		t.Fatalf("%d indexes", n)
	}
	r = openTestRepo(t, d.bucket(t), Options{})
	for id := range snapshots {
		wantSnapshot(t, r, id, snapshots[id])
	}
	wantSound(t, r)
	mustSnapshot(t, r, "next", smallFiles(1), r.Gear())
	for _, key := range old.keys(indexPrefix) {
		if d.get(key) != nil {
			t.Errorf("%s is still there", key)
		}
	}
	wantSound(t, r)
}
