package repo

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo/localblob"
)

// buckets are the stores that the basic tests run over.
func buckets(t *testing.T, run func(*testing.T, *blob.Bucket)) {
	t.Run("memblob", func(t *testing.T) {
		b := memblob.OpenBucket(nil)
		t.Cleanup(func() { _ = b.Close() })
		run(t, b)
	})
	t.Run("localblob", func(t *testing.T) {
		run(t, openLocal(t, t.TempDir()))
	})
	t.Run("prefixed", func(t *testing.T) {
		b := blob.PrefixedBucket(memblob.OpenBucket(nil), "a/b/")
		t.Cleanup(func() { _ = b.Close() })
		run(t, b)
	})
}

func openLocal(t testing.TB, dir string) *blob.Bucket {
	t.Helper()
	b, err := localblob.OpenBucket(dir, &localblob.Options{CreateDir: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestLifeOfARepository(t *testing.T) {
	buckets(t, func(t *testing.T, b *blob.Bucket) {
		ctx := t.Context()
		if _, err := Open(ctx, b, variant(Options{})); !errors.Is(err, ErrNotRepository) {
			t.Fatalf("Open of nothing: %v", err)
		}
		if err := Init(ctx, b, variantInit(chunk.GearParams{Avg: 4096})); err != nil {
			t.Fatal(err)
		}
		if err := Init(ctx, b, InitOptions{}); !errors.Is(err, ErrRepositoryExists) {
			t.Fatalf("Init again: %v", err)
		}
		r := openTestRepo(t, b, Options{})
		if got := r.Gear().Params(); got != (chunk.GearParams{Min: 1024, Avg: 4096, Max: 16384}) {
			t.Errorf("cut parameters %+v", got)
		}
		if other := openTestRepo(t, b, Options{}); other.ID() != r.ID() || len(r.ID()) != 32 {
			t.Errorf("IDs %q and %q", other.ID(), r.ID())
		}
		one, two := smallFiles(1), smallFiles(2)
		two["big"] = rowData(5, 300_000)
		mustSnapshot(t, r, "one", one, r.Gear())
		mustSnapshot(t, r, "two", two, fixedCutter(t, 512))
		if got := strings.Join(listIDs(t, r), " "); got != "one two" {
			t.Errorf("IDs are %q", got)
		}
		fresh := openTestRepo(t, b, Options{})
		wantSnapshot(t, fresh, "one", one)
		wantSnapshot(t, fresh, "two", two)
		report := wantSound(t, fresh)
		if report.Snapshots != 2 || report.UnusedBytes != 0 || report.Packs == 0 || report.Chunks == 0 {
			t.Errorf("report %+v", report)
		}
		if err := r.DeleteManifest(ctx, "one"); err != nil {
			t.Fatal(err)
		}
		if err := r.DeleteManifest(ctx, "one"); !errors.Is(err, ErrNotFound) {
			t.Errorf("delete again: %v", err)
		}
		if _, err := r.Manifest(ctx, "one"); !errors.Is(err, ErrNotFound) {
			t.Errorf("manifest after delete: %v", err)
		}
		wantSnapshot(t, fresh, "two", two)
		if report := wantSound(t, r); report.Snapshots != 1 || report.UnusedBytes == 0 {
			t.Errorf("report after delete %+v", report)
		}
	})
}

func TestClosedRepository(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	mustSnapshot(t, r, "s", smallFiles(1), r.Gear())
	m, err := r.Manifest(ctx, "s")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	d.take()
	calls := map[string]func() error{
		"Manifest":       func() error { _, err := r.Manifest(ctx, "s"); return err },
		"DeleteManifest": func() error { return r.DeleteManifest(ctx, "s") },
		"NewSession":     func() error { _, err := r.NewSession(ctx); return err },
		"ReadChunk":      func() error { _, err := r.ReadChunk(ctx, m.Table.Refs[0].ID, nil); return err },
		"ReadEncoded":    func() error { _, _, _, err := r.ReadEncoded(ctx, m.Table.Refs[0].ID, nil); return err },
		"ReadAt":         func() error { _, err := r.NewReader(ctx, m.Table).ReadAt(make([]byte, 1), 0); return err },
		"Check":          func() error { _, err := r.Check(ctx, CheckOptions{}); return err },
		"RebuildIndex":   func() error { _, err := r.RebuildIndex(ctx, RebuildOptions{}); return err },
		"IDs":            func() error { return lastError(r.IDs(ctx)) },
		"Manifests":      func() error { return lastError(r.Manifests(ctx)) },
		"Files":          func() error { return lastError(r.Files(ctx, m)) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if log := d.take(); len(log) > 0 {
		t.Errorf("requests after Close: %v", log)
	}
}

func lastError[T any](seq func(func(T, error) bool)) (err error) {
	seq(func(_ T, e error) bool {
		err = e
		return true
	})
	return err
}

// configOf seals a configuration under a format version.
func configOf(t *testing.T, version string, doc any) []byte {
	t.Helper()
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return sealedAs(version, b)
}

func sealedAs(version string, doc []byte) []byte {
	sum := sealOf(version, doc)
	return []byte(sealHead + version + sealSum + hexOf(sum[:]) + sealDoc + string(doc) + sealTail)
}

func TestOpenOfWhatItMustNotRead(t *testing.T) {
	good := config{ID: "x", Requires: []string{}, Hash: hashBLAKE3, Cut: cutConfig{65536, 262144, 1 << 20}}
	with := func(change func(*config)) config {
		c := good
		change(&c)
		return c
	}
	tests := map[string]struct {
		data     []byte
		want     error
		version  int
		requires string
	}{
		"newer version":         {data: configOf(t, "2", map[string]any{"anything": 1}), want: ErrFormat, version: 2},
		"much newer version":    {data: configOf(t, "99", []int{}), want: ErrFormat, version: 99},
		"unknown requirement":   {data: configOf(t, "1", with(func(c *config) { c.Requires = []string{"encryption"} })), want: ErrFormat, version: 1, requires: "encryption"},
		"unknown hash":          {data: configOf(t, "1", with(func(c *config) { c.Hash = "sha3" })), want: ErrFormat, version: 1, requires: "hash sha3"},
		"version zero":          {data: configOf(t, "0", good), want: ErrCorrupt},
		"negative version":      {data: configOf(t, "-1", good), want: ErrCorrupt},
		"version with zeros":    {data: configOf(t, "01", good), want: ErrCorrupt},
		"version no number":     {data: configOf(t, "one", good), want: ErrCorrupt},
		"version beyond int":    {data: configOf(t, "99999999999999999999", good), want: ErrCorrupt},
		"impossible cut":        {data: configOf(t, "1", with(func(c *config) { c.Cut.Avg = 77 })), want: ErrCorrupt},
		"document of odd type":  {data: configOf(t, "1", []int{1}), want: ErrCorrupt},
		"empty":                 {data: nil, want: ErrCorrupt},
		"something else":        {data: []byte("hello\n"), want: ErrCorrupt},
		"larger than any":       {data: make([]byte, maxConfigSize+1), want: ErrCorrupt},
		"unknown fields ignore": {data: configOf(t, "1", map[string]any{"id": "x", "hash": hashBLAKE3, "cut": good.Cut, "new": 1})},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := newTestDriver()
			d.put(configKey, test.data)
			_, err := Open(t.Context(), d.bucket(t), variant(Options{}))
			if !errors.Is(err, test.want) {
				t.Fatalf("Open: %v, want %v", err, test.want)
			}
			var fe *FormatError
			if errors.As(err, &fe) && (fe.Version != test.version || fe.Requires != test.requires || fe.Object != configKey) {
				t.Errorf("FormatError %+v", fe)
			}
			if errors.Is(err, ErrFormat) != (fe != nil) {
				t.Errorf("%v is no FormatError", err)
			}
		})
	}
}

// A manifest of a newer version is not a damaged one, and the others stay readable.
func TestNewerManifest(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	files := smallFiles(3)
	mustSnapshot(t, r, "old", files, r.Gear())
	d.put(snapshotPrefix+"new", sealedAs("2", []byte(`{"id":"new"}`)))
	if _, err := r.Manifest(t.Context(), "new"); !errors.Is(err, ErrFormat) || errors.Is(err, ErrCorrupt) {
		t.Errorf("Manifest: %v", err)
	}
	var good, bad int
	for m, err := range r.Manifests(t.Context()) {
		if err != nil {
			bad++
		} else if m.ID == "old" {
			good++
		}
	}
	if good != 1 || bad != 1 {
		t.Errorf("%d good and %d bad manifests", good, bad)
	}
	wantSnapshot(t, r, "old", files)
}

func TestOptionsOutOfRange(t *testing.T) {
	d := newTestDriver()
	newTestRepo(t, d, Options{})
	for _, opts := range []Options{
		{PackSize: 1<<20 - 1}, {PackSize: 512<<20 + 1}, {PackSize: -1}, {Uploads: -1}, {Uploads: 65}, {CacheSize: -1},
	} {
		if _, err := Open(t.Context(), d.bucket(t), variant(opts)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "Options.") {
			t.Errorf("Open with %+v: %v", opts, err)
		}
	}
	if err := Init(t.Context(), newTestDriver().bucket(t), InitOptions{Cut: chunk.GearParams{Avg: 3}}); err == nil {
		t.Error("Init took an average of 3 bytes")
	}
	r, err := Open(t.Context(), d.bucket(t), variant(Options{Policy: 99}))
	if err == nil {
		_, err = r.NewSession(t.Context())
	}
	var pe *chunk.ParamError
	if !errors.As(err, &pe) {
		t.Errorf("unknown policy: %v", err)
	}
}

// The store answers that the key is taken, because it repeated the request itself.
func TestInitWhoseAnswerWasLost(t *testing.T) {
	d := newTestDriver()
	d.after.set(func(_ context.Context, o op) error {
		if o.kind == "create" {
			return errTaken
		}
		return nil
	})
	b := d.bucket(t)
	if err := Init(t.Context(), b, InitOptions{}); err != nil {
		t.Fatalf("Init: %v", err)
	}
	if err := Init(t.Context(), b, InitOptions{}); !errors.Is(err, ErrRepositoryExists) {
		t.Fatalf("Init of another: %v", err)
	}
}

func TestCheckID(t *testing.T) {
	for id, ok := range map[string]bool{
		"a": true, "2026-03-14T15.09.26Z_nightly": true, "A.b-c_9": true, "a..b": true, "-x": true, "_": true,
		strings.Repeat("x", MaxIDLength):   true,
		strings.Repeat("x", MaxIDLength+1): false,
		"":                                 false, ".": false, "..": false, ".hidden": false, "a/b": false, "a b": false, "a\x00": false,
		"a\n": false, "ä": false, "a:b": false, "a%2f": false, "a\\b": false, "\xff": false, "a+b": false, "a~": false,
	} {
		err := CheckID(id)
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrBadID) {
			t.Errorf("CheckID(%q) = %v", id, err)
		}
	}
}

// Names that this version does not know are left alone.
func TestForeignObjects(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	files := smallFiles(4)
	mustSnapshot(t, r, "s", files, r.Gear())
	foreign := []string{"README", "snapshot/.tmp", "snapshot/a/b", "index/x", "index/" + strings.Repeat("A", 64), "pack/zz/1",
		"attachment/s/log", "session/1", "garbage/2", "pack/00/" + strings.Repeat("1", 64)}
	for _, key := range foreign {
		d.put(key, []byte("not ours"))
	}
	r = openTestRepo(t, d.bucket(t), Options{})
	wantSound(t, r)
	if got := strings.Join(listIDs(t, r), " "); got != "s" {
		t.Errorf("IDs %q", got)
	}
	if _, err := r.RebuildIndex(t.Context(), RebuildOptions{}); err != nil {
		t.Fatal(err)
	}
	mustSnapshot(t, r, "t", smallFiles(5), r.Gear())
	for _, key := range foreign {
		if string(d.get(key)) != "not ours" {
			t.Errorf("%s was touched", key)
		}
	}
}
