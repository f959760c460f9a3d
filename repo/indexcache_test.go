package repo

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// cachedRepo opens a repository with an index cache that takes to small indexes.
func cachedRepo(t testing.TB, d *testDriver, dir string, log *slog.Logger) *Repository {
	t.Helper()
	r := openTestRepo(t, d.bucket(t), Options{CacheDir: dir, Logger: log})
	r.indexCache.foldRecords = 100
	r.indexCache.stableSize = 400 * indexRecordSize
	return r
}

// indexBucket is a bucket whose indexes a test makes up, and what they should say.
type indexBucket struct {
	*testDriver
	rng  *rand.Rand
	live map[indexID][]packContent
	keys *keyring
}

func newIndexBucket(t testing.TB, seed uint64) *indexBucket {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	return &indexBucket{d, rand.New(rand.NewPCG(seed, 5)), make(map[indexID][]packContent), r.store.keys}
}

// write puts an index into the bucket that supersedes others.
func (b *indexBucket) write(packs []packContent, superseded ...indexID) indexID {
	data, x := buildIndex(packs, superseded)
	b.put(indexKey(x.id), b.keys.sealObject(indexKey(x.id), data))
	for _, id := range superseded {
		delete(b.live, id)
	}
	b.live[x.id] = packs
	return x.id
}

func (b *indexBucket) add(packs, each int) indexID { return b.write(madePacks(b.rng, packs, each)) }

// drop deletes an index. As a merge does, it first deletes those that are
// superseded, since what supersedes them may be what goes.
func (b *indexBucket) drop(id indexID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.objects {
		if old, ok := parseIndexKey(key); ok && b.live[old] == nil {
			delete(b.objects, key)
		}
	}
	delete(b.objects, indexKey(id))
}

// want is what all live indexes say together.
func (b *indexBucket) want() map[chunk.ID][]location {
	var all []packContent
	for _, id := range b.ids() {
		all = append(all, b.live[id]...)
	}
	slices.SortFunc(all, func(a, b packContent) int { return bytes.Compare(a.id[:], b.id[:]) })
	return placesOf(slices.CompactFunc(all, func(a, b packContent) bool { return a.id == b.id }))
}

func (b *indexBucket) ids() []indexID {
	var out []indexID
	for id := range b.live {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b indexID) int { return bytes.Compare(a[:], b[:]) })
	return out
}

// shuffle changes the bucket as commits, merges, collections and rebuilds do.
func (b *indexBucket) shuffle() string {
	ids := b.ids()
	some := func(n int) (picked []indexID, packs []packContent) {
		for _, i := range b.rng.Perm(len(ids))[:min(n, len(ids))] {
			picked = append(picked, ids[i])
			packs = append(packs, b.live[ids[i]]...)
		}
		slices.SortFunc(packs, func(a, b packContent) int { return bytes.Compare(a.id[:], b.id[:]) })
		return picked, slices.CompactFunc(packs, func(a, b packContent) bool { return a.id == b.id })
	}
	switch b.rng.IntN(8) {
	default:
		b.add(1+b.rng.IntN(4), 1+b.rng.IntN(80))
		return "commit"
	case 4:
		b.add(3, 250)
		return "large commit"
	case 5:
		old, packs := some(3)
		b.write(packs, old...)
		if b.rng.IntN(3) == 0 {
			for _, id := range old {
				b.drop(id)
			}
		}
		return "merge, and the old objects may stay"
	case 6:
		// Only a part of the old packs goes on, the others were condemned.
		old, packs := some(2)
		b.write(append(packs[:len(packs)/2:len(packs)/2], madePacks(b.rng, 1, 30)...), old...)
		for _, id := range old {
			b.drop(id)
		}
		return "collection"
	case 7:
		old, _ := some(1)
		for _, id := range old {
			b.drop(id)
			delete(b.live, id)
		}
		return "an index is gone"
	}
}

// A repository with a cache says the same as one without, whatever happens to the
// indexes, to those who stay and to those who come new.
func TestCacheSaysWhatMemorySays(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b := newIndexBucket(t, seed)
			dir := t.TempDir()
			stays := cachedRepo(t, b.testDriver, dir, nil)
			folded := 0
			for step := range 30 {
				what := b.shuffle()
				fresh := cachedRepo(t, b.testDriver, dir, nil)
				plain := openTestRepo(t, b.bucket(t), Options{})
				order := []*Repository{stays, fresh, plain}
				b.rng.Shuffle(3, func(i, j int) { order[i], order[j] = order[j], order[i] })
				for _, r := range order {
					set, err := r.refreshIndex(t.Context())
					if err != nil {
						t.Fatalf("step %d, %s: %v", step, what, err)
					}
					wantPlaces(t, set, b.want())
					folded = max(folded, len(set.segments))
				}
				if a, b := stays.indexes.Load(), plain.indexes.Load(); !a.sameAs(b) || len(a.leftover) != len(b.leftover) {
					t.Fatalf("step %d, %s: the sets differ: %d and %d leftover", step, what, len(a.leftover), len(b.leftover))
				}
			}
			if folded == 0 {
				t.Error("the cache was never used")
			}
		})
	}
}

// segmentPaths returns the files of the cache.
func segmentPaths(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// warmCache returns a bucket and a folder with one segment of all its indexes.
func warmCache(t testing.TB) (*indexBucket, string) {
	t.Helper()
	b := newIndexBucket(t, 99)
	b.add(4, 100)
	dir := filepath.Join(t.TempDir(), "made", "as needed")
	set, err := cachedRepo(t, b.testDriver, dir, nil).refreshIndex(t.Context())
	if err != nil || len(set.segments) != 1 || len(set.indexes) != 0 || len(segmentPaths(t, dir)) != 1 {
		t.Fatalf("%+v %v, files %q", set, err, segmentPaths(t, dir))
	}
	return b, dir
}

// With a warm cache an open lists the indexes, and reads none.
func TestWarmCacheReadsNothing(t *testing.T) {
	b, dir := warmCache(t)
	r := cachedRepo(t, b.testDriver, dir, nil)
	b.take()
	set, err := r.refreshIndex(t.Context())
	if err != nil || len(set.segments) != 1 {
		t.Fatal(set, err)
	}
	for _, o := range b.take() {
		if o.kind != "list" {
			t.Errorf("request %v", o)
		}
	}
	// A new index is all that is read then.
	id := b.add(1, 10)
	if _, err := r.refreshIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, o := range b.take() {
		if o.kind != "list" && o.key != indexKey(id) {
			t.Errorf("request %v", o)
		}
	}
	info, err := os.Stat(segmentPaths(t, dir)[0])
	if err != nil || info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		t.Errorf("%v: others can read it: %v", err, info.Mode())
	}
}

// A file of the cache is damaged in each of its blocks, cut off, longer, empty, of
// another version or another repository, or not a file at all. It is never believed.
func TestDamagedCache(t *testing.T) {
	b, dir := warmCache(t)
	path := segmentPaths(t, dir)[0]
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	otherDir := t.TempDir()
	other := newIndexBucket(t, 1)
	other.add(4, 100)
	if _, err := cachedRepo(t, other.testDriver, otherDir, nil).refreshIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(segmentPaths(t, otherDir)[0])
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string][]byte{
		"empty": {}, "text": []byte("not a file of the cache"), "of another repository": foreign,
		"longer": append(bytes.Clone(sound), 0), "zeros": make([]byte, len(sound)),
	}
	rng := rand.New(rand.NewPCG(2, 2))
	flip := func(at int) {
		hurt := bytes.Clone(sound)
		hurt[at] ^= 1 << rng.IntN(8)
		cases[fmt.Sprintf("bit of byte %d", at)] = hurt
	}
	for at := range 128 {
		flip(at)
	}
	for at := 0; at < len(sound); at += segmentBlock / 3 {
		flip(at + rng.IntN(min(segmentBlock/3, len(sound)-at)))
	}
	for at := 0; at < len(sound); at += len(sound)/40 + 1 {
		cases[fmt.Sprintf("cut off at %d", at)] = sound[:at]
	}
	want := b.want()
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			r := cachedRepo(t, b.testDriver, dir, nil)
			for id, places := range want {
				got, err := r.locate(t.Context(), id)
				if err != nil || len(got) != len(places) {
					t.Fatalf("chunk %v: %v %v", id, got, err)
				}
				for _, l := range got {
					if !slices.Contains(places, l) {
						t.Fatalf("chunk %v is at %v", id, l)
					}
				}
			}
			set, err := r.refreshIndex(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantPlaces(t, set, want)
			for _, old := range segmentPaths(t, dir) {
				if err := os.Remove(old); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// The file changes under the mapping: after it was found sound, somebody writes over
// it, or cuts it off. A process that reads beyond the end of a mapped file is
// killed, if nothing is done about that.
func TestCacheChangesUnderMapping(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"cut off": func(path string) error { return os.Truncate(path, segmentBlock) },
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"overwritten": func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for i := segmentBlock; i < len(data); i++ {
				data[i] ^= 0x5a
			}
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.Write(data)
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" {
				return // nothing is mapped there
			}
			d := newTestDriver()
			newTestRepo(t, d, Options{})
			dir := t.TempDir()
			r := cachedRepo(t, d, dir, nil)
			files := map[string][]byte{"f": rowData(7, 200_000), "g": rowData(8, 3000)}
			mustSnapshot(t, r, "s", files, fixedCutter(t, 512))
			if set := r.indexes.Load(); len(set.segments) == 0 || len(set.indexes) > 0 {
				t.Fatalf("%d segments", len(set.segments))
			}
			wantSnapshot(t, r, "s", files)
			if err := change(segmentPaths(t, dir)[0]); err != nil {
				t.Fatal(err)
			}
			r.cache.clear()
			wantSnapshot(t, r, "s", files)
			for _, size := range []int{512, 9} {
				id := identify(t, r, files["f"][:size])
				_, err := r.ReadChunk(t.Context(), id, nil)
				if (err == nil) != (size == 512) || err != nil && !errors.Is(err, ErrMissing) {
					t.Errorf("chunk of %d bytes: %v", size, err)
				}
			}
		})
	}
}
