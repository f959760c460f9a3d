package repo

import (
	"bytes"
	"testing"
)

// twiceStored makes a repository in which two sessions at the same time have stored the same
// file, each in packs of its own. The pack of the first has something else that is needed, so
// that a collection rather keeps the chunks there, and something that is not, so that it is
// repacked. It returns what the snapshots hold, and the first pack's key.
func twiceStored(t *testing.T, d *testDriver, r *Repository) (snapshots map[string]map[string][]byte, first string) {
	t.Helper()
	ctx := t.Context()
	shared := noiseData(1, 200<<10)
	snapshots = map[string]map[string][]byte{
		"first":  {"shared": shared},
		"own":    {"own": noiseData(2, 300<<10)},
		"second": {"shared": shared},
	}
	cut := fixedCutter(t, 8192)
	s1, err := r.NewSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s2, err := r.NewSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m1, err := stageFiles(ctx, s1, "first", map[string][]byte{"dead": noiseData(3, 200<<10), "own": snapshots["own"]["own"], "shared": shared}, cut)
	if err != nil {
		t.Fatal(err)
	}
	m2, err := stageFiles(ctx, s2, "second", snapshots["second"], cut)
	if err != nil {
		t.Fatal(err)
	}
	if err := s1.Commit(ctx, m1); err != nil {
		t.Fatal(err)
	}
	packs := d.keys(packPrefix)
	for _, key := range packs {
		if first == "" || len(d.get(key)) > len(d.get(first)) {
			first = key
		}
	}
	if err := s2.Commit(ctx, m2); err != nil {
		t.Fatal(err)
	}
	mustSnapshot(t, r, "own", snapshots["own"], cut)
	if err := r.DeleteManifest(ctx, "first"); err != nil {
		t.Fatal(err)
	}
	delete(snapshots, "first")
	return snapshots, first
}

// A chunk that is stored twice survives a collection when one of the places is damaged,
// whichever of them the collection would rather keep.
func TestCollectKeepsTheSoundCopy(t *testing.T) {
	damage := map[string]func([]byte) []byte{
		"a bit of each chunk": func(b []byte) []byte {
			for at := 4096; at < len(b)-16<<10; at += 8192 {
				b[at] ^= 4
			}
			return b
		},
		"cut off":             func(b []byte) []byte { return b[:len(b)/2] },
		"a bit of the footer": func(b []byte) []byte { b[len(b)-100] ^= 1; return b },
	}
	for name, hurt := range damage {
		for _, opts := range []CollectOptions{{}, {MinDead: 1}, {MinDead: 0.1}} {
			d := newTestDriver()
			r := newTestRepo(t, d, Options{PackSize: 1 << 20})
			snapshots, first := twiceStored(t, d, r)
			d.put(first, hurt(bytes.Clone(d.get(first))))
			r = openTestRepo(t, r.store.bucket, Options{PackSize: 1 << 20})
			wantSnapshot(t, r, "second", snapshots["second"])
			for range 2 {
				if _, err := r.Collect(t.Context(), opts); err != nil {
					t.Logf("%s, %+v: %v", name, opts, err)
				}
			}
			got, err := readSnapshot(t.Context(), openTestRepo(t, r.store.bucket, Options{}), "second")
			if err != nil || !bytes.Equal(got["shared"], snapshots["second"]["shared"]) {
				t.Errorf("%s, %+v: a snapshot that could be read before cannot be any more: %v", name, opts, err)
			}
		}
	}
}
