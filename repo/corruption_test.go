package repo

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"gocloud.dev/blob"
)

// tinyRepo makes a repository in which every kind of object is small, and returns
// the files of its snapshots.
func tinyRepo(t *testing.T) (*testDriver, map[string]map[string][]byte) {
	t.Helper()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	shared := rowData(1, 9*512)
	snapshots := map[string]map[string][]byte{
		"first":  {"a": shared, "b/one": {1}},
		"second": {"a": shared, "c": noiseData(2, 600)},
	}
	for _, id := range slices.Sorted(maps.Keys(snapshots)) {
		mustSnapshot(t, r, id, snapshots[id], fixedCutter(t, 512))
	}
	snapshots["third"] = map[string][]byte{"a": edited(shared, 700)[:1024]}
	if n := mustDeltaSnapshot(t, r, "third", snapshots["third"], "first", fixedCutter(t, 512)); n != 512 {
		t.Fatalf("%d bytes are stored as differences", n)
	}
	return d, snapshots
}

func typed(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrMissing) || errors.Is(err, ErrFormat)
}

// examine looks at a repository that may be damaged. Every read gives the right
// bytes or a typed error, and Check says of each snapshot what reading it says. It
// returns the snapshots that cannot be read and the objects that Check calls
// damaged.
func examine(t *testing.T, what string, d *testDriver, snapshots map[string]map[string][]byte) (lost, objects []string) {
	t.Helper()
	b := blob.NewBucket(d)
	r, err := Open(t.Context(), b, variant(Options{}))
	if err != nil {
		for _, key := range append(d.keys(slotPrefix), configKey) {
			if strings.Contains(err.Error(), key) {
				objects = append(objects, key)
			}
		}
		if !typed(err) || len(objects) != 1 {
			t.Fatalf("%s: Open: %v", what, err)
		}
		return nil, objects
	}
	for _, id := range slices.Sorted(maps.Keys(snapshots)) {
		got, err := readSnapshot(t.Context(), r, id)
		if err != nil && !typed(err) && !errors.Is(err, ErrNotFound) {
			t.Fatalf("%s: reading %s: %v", what, id, err)
		}
		for path := range got {
			if !bytes.Equal(got[path], snapshots[id][path]) {
				t.Fatalf("%s: wrong bytes of %s in %s", what, path, id)
			}
		}
		if err != nil {
			lost = append(lost, id)
		} else if len(got) != len(snapshots[id]) {
			t.Fatalf("%s: %s has %d files", what, id, len(got))
		}
	}
	report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil {
		t.Fatalf("%s: Check: %v", what, err)
	}
	harmed := make(map[string]bool)
	for _, dm := range report.Damage {
		if dm.Err == nil || !typed(dm.Err) || dm.String() == "" {
			t.Fatalf("%s: damage without a typed error: %+v", what, dm)
		}
		objects = append(objects, dm.Object)
		for _, id := range dm.Snapshots {
			harmed[id] = true
		}
	}
	if got := slices.Sorted(maps.Keys(harmed)); !slices.Equal(got, lost) {
		t.Fatalf("%s: Check says %q are harmed, reading says %q: %v", what, got, lost, report.Damage)
	}
	return lost, objects
}

// One bit of every byte of every object is flipped, every object is cut off at
// every length, and a byte is added: Check finds all of it, and no read returns
// wrong bytes.
func TestEveryByteMatters(t *testing.T) {
	d, snapshots := tinyRepo(t)
	if lost, objects := examine(t, "undamaged", d, snapshots); len(lost)+len(objects) > 0 {
		t.Fatalf("damage before there is any: %q %q", lost, objects)
	}
	total := 0
	for _, key := range d.keys("") {
		total += len(d.get(key))
		t.Run(strings.ReplaceAll(key, "/", "_"), func(t *testing.T) {
			t.Parallel()
			data := d.get(key)
			try := func(what string, hurt []byte) {
				copied := d.copy()
				copied.put(key, hurt)
				_, objects := examine(t, what, copied, snapshots)
				if !slices.Contains(objects, key) {
					t.Fatalf("%s: Check does not name it, only %q", what, objects)
				}
			}
			for at := range data {
				hurt := bytes.Clone(data)
				hurt[at] ^= 1 << (at * 5 % 8)
				try(fmt.Sprintf("bit flipped in byte %d", at), hurt)
			}
			for n := range data {
				if n%3 == 0 || n < 200 || n > len(data)-200 {
					try(fmt.Sprintf("cut off after %d bytes", n), data[:n])
				}
			}
			for _, more := range []byte{0, '\n', 'x'} {
				try("a byte added", append(bytes.Clone(data), more))
			}
		})
	}
	if total > 16<<10 {
		t.Errorf("the repository has %d bytes: too many to try them all", total)
	}
}

func TestLostAndSwappedObjects(t *testing.T) {
	d, snapshots := tinyRepo(t)
	all := slices.Sorted(maps.Keys(snapshots))
	keys := func(prefix string) []string {
		k := d.keys(prefix)
		if len(k) < 2 {
			t.Fatalf("%d objects below %s", len(k), prefix)
		}
		return k
	}
	t.Run("missing index", func(t *testing.T) {
		hurt := d.copy()
		for _, key := range keys(indexPrefix) {
			delete(hurt.objects, key)
		}
		lost, objects := examine(t, "no index", hurt, snapshots)
		if !slices.Equal(lost, all) || !slices.Equal(objects, []string{indexPrefix}) {
			t.Errorf("lost %q, damaged %q", lost, objects)
		}
	})
	for _, key := range keys(packPrefix) {
		t.Run("missing pack", func(t *testing.T) {
			hurt := d.copy()
			delete(hurt.objects, key)
			lost, objects := examine(t, "no "+key, hurt, snapshots)
			if len(lost) == 0 || !slices.Equal(slices.Compact(objects), []string{key}) {
				t.Errorf("lost %q, damaged %q", lost, objects)
			}
		})
	}
	t.Run("missing manifest", func(t *testing.T) {
		hurt := d.copy()
		delete(hurt.objects, "snapshot/first")
		without := maps.Clone(snapshots)
		delete(without, "first")
		if lost, objects := examine(t, "no manifest", hurt, without); len(lost)+len(objects) > 0 {
			t.Errorf("a snapshot that is gone is damage: %q %q", lost, objects)
		}
	})
	for _, prefix := range []string{packPrefix, indexPrefix, snapshotPrefix} {
		t.Run("swapped "+prefix, func(t *testing.T) {
			all := keys(prefix)
			for i, a := range all {
				for _, b := range all[i+1:] {
					hurt := d.copy()
					hurt.put(a, d.get(b))
					hurt.put(b, d.get(a))
					_, objects := examine(t, a+" swapped with "+b, hurt, snapshots)
					if !slices.Contains(objects, a) || !slices.Contains(objects, b) {
						t.Errorf("%s swapped with %s: Check names %q", a, b, objects)
					}
				}
			}
		})
	}
	t.Run("index under the name of another kind", func(t *testing.T) {
		hurt := d.copy()
		hurt.put(keys(indexPrefix)[0], d.get(keys(packPrefix)[0]))
		if _, objects := examine(t, "pack for index", hurt, snapshots); !slices.Contains(objects, keys(indexPrefix)[0]) {
			t.Errorf("damaged %q", objects)
		}
	})
	t.Run("everything empty", func(t *testing.T) {
		hurt := d.copy()
		for _, key := range append(keys(packPrefix), keys(indexPrefix)...) {
			hurt.put(key, nil)
		}
		if lost, _ := examine(t, "everything empty", hurt, snapshots); !slices.Equal(lost, all) {
			t.Errorf("lost %q", lost)
		}
	})
}

// Check names the chunk, its place and the files that are harmed.
func TestCheckSaysWhatIsLost(t *testing.T) {
	d, snapshots := tinyRepo(t)
	r := openTestRepo(t, d.bucket(t), Options{})
	m, err := r.Manifest(t.Context(), "second")
	if err != nil {
		t.Fatal(err)
	}
	var c Content
	for f, err := range r.Files(t.Context(), m) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Path == "c" {
			c = f.Content
		}
	}
	places, err := r.locate(t.Context(), c.Refs[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	key := packKey(places[0].pack)
	hurt := bytes.Clone(d.get(key))
	hurt[places[0].offset+5] ^= 0x10
	d.put(key, hurt)

	var progress []int64
	report, err := r.Check(t.Context(), CheckOptions{ReadData: true, Progress: func(done, total int64) {
		if done > total {
			t.Errorf("%d of %d bytes", done, total)
		}
		progress = append(progress, done)
	}})
	if err != nil || len(report.Damage) != 1 {
		t.Fatalf("%v %v", err, report)
	}
	if !slices.IsSorted(progress) || len(progress) != report.Packs || progress[len(progress)-1] != report.PackBytes {
		t.Errorf("progress %d of %d bytes", progress, report.PackBytes)
	}
	got := report.Damage[0]
	if got.Object != key || got.Chunk != c.Refs[0].ID || got.Offset != int64(places[0].offset) || got.Length != int64(places[0].stored) ||
		!slices.Equal(got.Snapshots, []string{"second"}) || !slices.Equal(got.Files, []string{"second: c"}) || !errors.Is(got.Err, ErrCorrupt) {
		t.Errorf("damage %+v", got)
	}
	_, err = readSnapshot(t.Context(), r, "second")
	var ce *ChunkError
	if !errors.As(err, &ce) || ce.ID != got.Chunk || ce.Pack != key || ce.Offset != got.Offset || !errors.Is(err, ErrCorrupt) {
		t.Errorf("reading it: %v", err)
	}
	wantSnapshot(t, r, "first", snapshots["first"])
	// Without ReadData only the structure is looked at.
	if report, err = r.Check(t.Context(), CheckOptions{}); err != nil || !report.OK() {
		t.Errorf("quick check: %v %v", err, report)
	}
}

// A damaged index stops neither reading what others know nor writing: what only it
// named is stored again.
func TestDamagedIndexDoesNotStopWriting(t *testing.T) {
	d, snapshots := tinyRepo(t)
	index := d.keys(indexPrefix)
	for _, key := range index {
		hurt := bytes.Clone(d.get(key))
		hurt[len(hurt)-1] ^= 1
		d.put(key, hurt)
	}
	r := openTestRepo(t, d.bucket(t), Options{})
	if _, err := readSnapshot(t.Context(), r, "first"); !errors.Is(err, ErrMissing) || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), index[0]) {
		t.Errorf("reading without an index: %v", err)
	}
	mustSnapshot(t, r, "fourth", snapshots["first"], fixedCutter(t, 512))
	wantSnapshot(t, r, "fourth", snapshots["first"])
	wantSnapshot(t, r, "first", snapshots["first"])
	// An abort cannot know whether such an index names its packs, and keeps them.
	packs := len(d.keys(packPrefix))
	s := mustSession(t, r)
	if _, err := stageFiles(t.Context(), s, "x", smallFiles(1), r.Gear()); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Abort(t.Context()); !errors.Is(err, ErrCorrupt) || len(d.keys(packPrefix)) <= packs {
		t.Errorf("Abort: %v, %d packs", err, len(d.keys(packPrefix)))
	}
	if _, err := r.RebuildIndex(t.Context(), RebuildOptions{}); err != nil {
		t.Fatal(err)
	}
	wantSound(t, r)
	for id := range snapshots {
		wantSnapshot(t, r, id, snapshots[id])
	}
}

// The configuration can be made again: nothing that is stored depends on it.
func TestLostConfiguration(t *testing.T) {
	d, snapshots := tinyRepo(t)
	delete(d.objects, configKey)
	b := d.bucket(t)
	if err := Init(t.Context(), b, variantInit()); err != nil {
		t.Fatal(err)
	}
	r := openTestRepo(t, b, Options{})
	wantSound(t, r)
	for id := range snapshots {
		wantSnapshot(t, r, id, snapshots[id])
	}
}
