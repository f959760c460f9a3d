package repo

import (
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/chunk"
)

var makeGolden = flag.Bool("make-golden", false, "write testdata/golden/v1 if it does not exist; it is never overwritten")

const goldenDir = "testdata/golden/v1"

// goldenPolicies name the four snapshots of the golden repository, each stored
// under another policy, and one as differences to another, so that all codecs are in it.
var goldenPolicies = map[string]chunk.Policy{"balanced": chunk.Balanced, "delta": chunk.Balanced, "fast": chunk.Fast, "small": chunk.Small}

func goldenFiles(id string) map[string][]byte {
	seed := uint64(goldenPolicies[id])
	files := map[string][]byte{
		"kv/000007.sst":  rowData(7, 8000), // the same in all but one
		"kv/CURRENT":     []byte("MANIFEST-000001\n"),
		"kv/EMPTY":       {},
		"kv/noise":       noiseData(seed, 1500),
		"meta/übergröße": rowData(seed+20, 12*512+5),
	}
	if id == "delta" {
		files["kv/000007.sst"] = edited(edited(files["kv/000007.sst"], 600), 7700)
		files["meta/übergröße"] = edited(files["meta/übergröße"], 5000)
	}
	return files
}

func goldenManifest(id string) Manifest {
	return Manifest{
		ID: id, Created: testTime, Label: "nightly", Description: "made once, read for ever: «é»", Consistency: ConsistencyFrozen,
		Parent: "none-such", DatabaseVersion: "3.12.0", Metadata: map[string]string{"k": "v", "": "empty"},
		Sources: []SourceInfo{{Name: "kv", Kind: "lsm", Method: "checkpoint", Epoch: "e1", Position: "lsn:42", Metadata: map[string]string{"a": "b"}}},
		Freeze:  FreezeInfo{Attempts: 2, Waited: time.Second, Stall: 123 * time.Microsecond, Forced: 1},
	}
}

// goldenIDs are chunks that the golden repository must hold under these names.
var goldenIDs = map[string]string{
	"kv/CURRENT":              "f4a6d200530e8ecd7e2b06dd16def5f318d6829e08ab67f9def6f4dd4d92f8ee",
	"kv/000007.sst, 1st page": "e8d1d43215b50486b21274155956a5213f4f3d55c29568305a91c2c5af21b84f",
}

func TestGoldenRepository(t *testing.T) {
	if *makeGolden {
		writeGolden(t)
	}
	d := newTestDriver()
	err := filepath.WalkDir(goldenDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		key, _ := filepath.Rel(goldenDir, path)
		d.put(filepath.ToSlash(key), data)
		return err
	})
	if err != nil {
		t.Fatalf("the golden repository cannot be read: %v", err)
	}
	r := openTestRepo(t, d.bucket(t), Options{})
	if got := listIDs(t, r); !slices.Equal(got, slices.Sorted(maps.Keys(goldenPolicies))) {
		t.Errorf("snapshots %q", got)
	}
	for id := range goldenPolicies {
		wantSnapshot(t, r, id, goldenFiles(id))
		m, err := r.Manifest(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		want := goldenManifest(id)
		want.Table, want.Stats = m.Table, m.Stats
		if diff := cmp.Diff(&want, m); diff != "" {
			t.Error(diff)
		}
		for f, err := range r.Files(t.Context(), m) {
			if err != nil || f.Mode != 0o640 || !f.ModTime.Equal(testTime) || f.Size != int64(len(goldenFiles(id)[f.Path])) {
				t.Errorf("file %+v: %v", f, err)
			}
		}
	}
	report := wantSound(t, r)
	if report.UnusedBytes != 0 {
		t.Errorf("%d bytes are unused", report.UnusedBytes)
	}
	codecs := make(map[chunk.Codec]bool)
	set, err := r.currentIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range set.indexes {
		for i := range x.count() {
			codecs[x.location(i).codec] = true
		}
	}
	if len(codecs) != 4 {
		t.Errorf("codecs %v", codecs)
	}
	page := goldenFiles("fast")["kv/000007.sst"][:512]
	for name, plain := range map[string][]byte{"kv/CURRENT": []byte("MANIFEST-000001\n"), "kv/000007.sst, 1st page": page} {
		id, err := chunk.ParseID(goldenIDs[name])
		if err != nil {
			t.Fatalf("%s: %v; its ID is %v", name, err, chunk.Identify(plain))
		}
		got, err := r.ReadChunk(t.Context(), id, nil)
		if err != nil || string(got) != string(plain) {
			t.Errorf("%s: %v; its ID is %v", name, err, chunk.Identify(plain))
		}
	}
	// And it goes on from there.
	mustSnapshot(t, r, "next", smallFiles(1), r.Gear())
	wantSound(t, r)
}

// writeGolden makes the golden repository, once.
func writeGolden(t *testing.T) {
	if _, err := os.Stat(goldenDir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s exists; a released format is not made again: %v", goldenDir, err)
	}
	d := newTestDriver()
	b := d.bucket(t)
	if err := Init(t.Context(), b, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, id := range slices.Sorted(maps.Keys(goldenPolicies)) {
		r := openTestRepo(t, b, Options{Policy: goldenPolicies[id]})
		s := mustSession(t, r)
		var staged *Manifest
		var err error
		if id == "delta" {
			staged, err = stageDeltas(t.Context(), r, s, id, goldenFiles(id), "balanced", fixedCutter(t, 512))
		} else {
			staged, err = stageFiles(t.Context(), s, id, goldenFiles(id), fixedCutter(t, 512))
		}
		if err != nil {
			t.Fatal(err)
		}
		m := goldenManifest(id)
		m.Table, m.Stats = staged.Table, staged.Stats
		if err := s.Commit(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range d.keys("") {
		path := filepath.Join(goldenDir, filepath.FromSlash(key))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, d.get(key), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
