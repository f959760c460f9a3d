package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/bench/database"
	"github.com/holdstill/holdstill/bench/rows"
)

// corpusBytes is the size that corpora are tested with. The race detector makes
// databases slow.
const corpusBytes = 4 << 20

func newCorpus(t *testing.T) *corpus {
	t.Helper()
	c := &corpus{dir: t.TempDir()}
	if err := makeCorpus(t.Context(), c.dir, corpusBytes, 1); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCorpus tests that both generations are databases that open, with the rows
// that they must have, and that sealed tables are the same files in both.
func TestCorpus(t *testing.T) {
	c := newCorpus(t)
	old, err := c.describe(1)
	if err != nil {
		t.Fatal(err)
	}
	updated, err := c.describe(2)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range database.Kinds() {
		// bbolt doubles its file.
		if got := old.by[name]; got < corpusBytes/5 || got > corpusBytes {
			t.Errorf("%s has %d bytes", name, got)
		}
	}
	if updated.rewritten == 0 || updated.rewritten > updated.bytes {
		t.Errorf("%d of %d bytes are rewritten", updated.rewritten, updated.bytes)
	}
	if err := c.show(2); err != nil {
		t.Fatal(err)
	}
	again, err := c.describe(2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(updated, again, cmp.AllowUnexported(corpusSize{})); diff != "" {
		t.Errorf("it differs where it is shown (-hidden +shown):\n%s", diff)
	}
	if err := c.show(1); err != nil {
		t.Fatal(err)
	}
	checkRows(t, c.live(), func(int) int { return 0 })
	if err := c.show(2); err != nil {
		t.Fatal(err)
	}
	checkRows(t, c.live(), rows.Updated(1, percentChanged))
}

// checkRows reads the first rows of all databases.
func checkRows(t *testing.T, dir string, versions rows.Versions) {
	t.Helper()
	g := rows.New(1)
	for _, name := range database.Kinds() {
		db, err := database.Open(name, filepath.Join(dir, name), g, 0)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[int]int)
		for n := range 1000 {
			key, want := g.Row(n, versions(n))
			got, err := db.Get(key)
			if err != nil {
				t.Fatalf("%s: row %d: %v", name, n, err)
			}
			if string(got) != string(want) {
				t.Fatalf("%s: row %d is %s, must be %s", name, n, got, want)
			}
			seen[versions(n)]++
		}
		if versions(0)+seen[1] > 0 && (seen[1] < 20 || seen[1] > 100) {
			t.Errorf("%s: %d of 1000 rows are updated", name, seen[1])
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTablesShared tests that what Pebble keeps of its tables is the same file in
// both generations: peers must be able to see that it has not changed.
func TestTablesShared(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"000001.sst": "table", "MANIFEST-1": "log"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := clone(src, dst); err != nil {
		t.Fatal(err)
	}
	if err := compareTrees(src, dst); err != nil {
		t.Error(err)
	}
	for name := range files {
		a, err := os.Stat(filepath.Join(src, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.Stat(filepath.Join(dst, name))
		if err != nil {
			t.Fatal(err)
		}
		if os.SameFile(a, b) != strings.HasSuffix(name, ".sst") {
			t.Errorf("%s: the same file: %v", name, os.SameFile(a, b))
		}
	}
}

func TestCompareTrees(t *testing.T) {
	long := strings.Repeat("page by page ", 20_000)
	original := map[string]string{"kv/1.sst": "one", "kv/2.sst": "", "meta/meta.db": long}
	for name, test := range map[string]struct {
		change func(map[string]string)
		says   string // empty if they are the same
	}{
		"same":        {func(map[string]string) {}, ""},
		"missing":     {func(m map[string]string) { delete(m, "kv/2.sst") }, "kv/2.sst is missing"},
		"one more":    {func(m map[string]string) { m["kv/3.sst"] = "" }, "kv/3.sst is not in the original"},
		"shorter":     {func(m map[string]string) { m["kv/1.sst"] = "on" }, "has 2 bytes"},
		"other":       {func(m map[string]string) { m["kv/1.sst"] = "two" }, "from 0"},
		"last byte":   {func(m map[string]string) { m["meta/meta.db"] = long[:len(long)-1] + "x" }, "from 196608"},
		"middle byte": {func(m map[string]string) { m["meta/meta.db"] = long[:70_000] + "_" + long[70_001:] }, "from 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := maps.Clone(original)
			test.change(changed)
			err := compareTrees(tree(t, original), tree(t, changed))
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, errDiffers) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, must say %q", err, test.says)
			}
		})
	}
}

// tree writes files to a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
