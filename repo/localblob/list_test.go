package localblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
)

// oddKeys sort differently as keys and as folders, need escapes, or both.
var oddKeys = []string{
	"a-b", "a.b", "a/b", "a/b-c/d", "a/b.c", "a0//", "a0//x", "a/", "a/c/", "aé", "a☺/x", "a\x00", "a\x01/b",
	"a\\b", "b", "b!/x", "b /x", "b.c.", "b./x", "b../x", "%2E", "%/x", "//", "/lead", "..a", "../x", "CON/x", "con", "con.x",
	"t-/t.", "t/t/t", "testFile1", "z,x", "z,y/1", "z,y,2",
}

func putAll(t *testing.T, bkt *blob.Bucket, keys []string) {
	t.Helper()
	for _, key := range keys {
		if err := bkt.WriteAll(t.Context(), key, []byte("object "+key), plainFile()); err != nil {
			t.Fatal(err)
		}
	}
}

// wantList is what a listing must give, from its definition.
func wantList(keys []string, prefix, delim string) []string {
	keys = slices.Clone(keys)
	slices.Sort(keys)
	var out []string
	for _, key := range keys {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok {
			continue
		}
		if delim != "" {
			if i := strings.Index(rest, delim); i >= 0 {
				key = prefix + rest[:i+len(delim)] + " (group)"
			}
		}
		if len(out) == 0 || out[len(out)-1] != key {
			out = append(out, key)
		}
	}
	return out
}

// gotList lists page by page. With forget, every page is found by its token alone, as after a restart.
func gotList(t *testing.T, b *bucket, prefix, delim string, pageSize int, forget bool) []string {
	t.Helper()
	var out []string
	opts := &driver.ListOptions{Prefix: prefix, Delimiter: delim, PageSize: pageSize}
	for {
		page, err := b.ListPaged(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if pageSize > 0 && len(page.Objects) > pageSize {
			t.Fatalf("page of %d, want at most %d", len(page.Objects), pageSize)
		}
		for _, o := range page.Objects {
			name := o.Key
			if o.IsDir {
				name += " (group)"
			} else if o.Size != int64(len("object "+o.Key)) || o.ModTime.IsZero() {
				t.Errorf("%q has size %d, time %v", o.Key, o.Size, o.ModTime)
			}
			out = append(out, name)
		}
		if len(page.NextPageToken) == 0 {
			return out
		}
		if len(page.Objects) == 0 {
			t.Fatal("empty page with a token")
		}
		opts.PageToken = page.NextPageToken
		if forget {
			b.cursors.clear()
		}
	}
}

func TestListOddKeys(t *testing.T) {
	b, err := openBucket(t.TempDir(), nil, osFileOps())
	if err != nil {
		t.Fatal(err)
	}
	bkt := blob.NewBucket(b)
	defer bkt.Close()
	putAll(t, bkt, oddKeys)

	prefixes := []string{"", "a", "a/", "a/b", "a0", "a0/", "a0//", "b", "b.", "/", "//", "%", "..", "t", "z,", "nothing", "nothing/at/all", "a/b-c/d", "a/b-c/d/", strings.Repeat("x", 300) + "/"}
	for _, prefix := range prefixes {
		for _, delim := range []string{"", "/", ",", "b", "//", "-c/", "t/t"} {
			want := wantList(oddKeys, prefix, delim)
			for _, pageSize := range []int{0, 1, 2, 7} {
				for _, forget := range []bool{false, true} {
					got := gotList(t, b, prefix, delim, pageSize, forget)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("prefix %q, delimiter %q, page %d, forget %v (-want +got):\n%s", prefix, delim, pageSize, forget, diff)
					}
				}
			}
		}
	}
}

// TestListRandom compares listings of random trees with their definition.
func TestListRandom(t *testing.T) {
	const seed = 20250101
	rng := rand.New(rand.NewPCG(seed, 1))
	alphabet := []string{"a", "b", "-", ".", "/", "//", "0", "é", "%"}
	word := func(most int) string {
		var b strings.Builder
		for range rng.IntN(most) {
			b.WriteString(alphabet[rng.IntN(len(alphabet))])
		}
		return b.String()
	}
	for round := range 20 {
		ops := osFileOps()
		ops.syncFile = func(*os.File) error { return nil }
		ops.syncDir = func(*os.Root, string) error { return nil }
		b, err := openBucket(t.TempDir(), nil, ops)
		if err != nil {
			t.Fatal(err)
		}
		bkt := blob.NewBucket(b)
		var keys []string
		for range 60 {
			key := word(9)
			err := bkt.WriteAll(t.Context(), key, []byte("object "+key), plainFile())
			switch {
			case key == "" || errors.Is(err, ErrKeyConflict):
				continue // "a" and "a/b"
			case err != nil:
				t.Fatal(err)
			}
			if !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
		for range 30 {
			prefix, delim, pageSize := word(4), word(3), rng.IntN(6)
			want := wantList(keys, prefix, delim)
			got := gotList(t, b, prefix, delim, pageSize, rng.IntN(2) == 0)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, round %d, keys %q, prefix %q, delimiter %q, page %d (-want +got):\n%s", seed, round, keys, prefix, delim, pageSize, diff)
			}
		}
		if err := bkt.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestListReadsFoldersOnce pins that a listing of many pages reads no folder twice.
func TestListReadsFoldersOnce(t *testing.T) {
	reads := map[string]int{}
	ops := osFileOps()
	real := ops.openDir
	ops.openDir = func(root *os.Root, name string) (*os.File, error) {
		reads[name]++
		return real(root, name)
	}
	dir := t.TempDir()
	for i := range 3 {
		for j := range 100 {
			name := filepath.Join(dir, "pack", fmt.Sprintf("%02x", i), fmt.Sprintf("%064d", j))
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte("packed chunks"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, err := openBucket(dir, nil, ops)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	clear(reads)
	opts := &driver.ListOptions{Prefix: "pack/", PageSize: 7}
	total := 0
	for {
		page, err := b.ListPaged(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		total += len(page.Objects)
		if opts.PageToken = page.NextPageToken; len(opts.PageToken) == 0 {
			break
		}
	}
	if total != 300 {
		t.Errorf("listed %d, want 300", total)
	}
	want := map[string]int{"pack": 1, "pack/00": 1, "pack/01": 1, "pack/02": 1}
	if diff := cmp.Diff(want, reads); diff != "" {
		t.Errorf("folders read (-want +got):\n%s", diff)
	}
	// A delimited listing looks into each folder until it finds one object.
	clear(reads)
	if got := gotGroups(t, b, "pack/"); !slices.Equal(got, []string{"pack/00/", "pack/01/", "pack/02/"}) {
		t.Errorf("groups %q", got)
	}
	if diff := cmp.Diff(want, reads); diff != "" {
		t.Errorf("folders read for groups (-want +got):\n%s", diff)
	}
}

func gotGroups(t *testing.T, b *bucket, prefix string) []string {
	t.Helper()
	page, err := b.ListPaged(t.Context(), &driver.ListOptions{Prefix: prefix, Delimiter: "/"})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range page.Objects {
		if o.IsDir {
			out = append(out, o.Key)
		}
	}
	return out
}

// TestListHidesWhatIsNoObject: empty folders, temporary files, foreign names and special files.
func TestListHidesWhatIsNoObject(t *testing.T) {
	bkt, _, dir := openRecorded(t)
	ctx := t.Context()
	putAll(t, bkt, []string{"kept/1", "emptied/deep/1"})
	if err := bkt.Delete(ctx, "emptied/deep/1"); err != nil {
		t.Fatal(err)
	}
	w, err := bkt.NewWriter(ctx, "unfinished", plainFile())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, name := range []string{"foreign%zz", "trailing."} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("kept/1", filepath.Join(dir, "pointer")); err != nil {
		t.Fatal(err)
	}
	for delim, want := range map[string][]string{"": {"kept/1"}, "/": {"kept/"}} {
		var got []string
		for it := bkt.List(&blob.ListOptions{Delimiter: delim}); ; {
			o, err := it.Next(ctx)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, o.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("delimiter %q: got %q, want %q", delim, got, want)
		}
	}
}

// TestListCursorsAreBounded: listings that are begun and never ended must not pile up.
func TestListCursorsAreBounded(t *testing.T) {
	b, err := openBucket(t.TempDir(), nil, osFileOps())
	if err != nil {
		t.Fatal(err)
	}
	bkt := blob.NewBucket(b)
	defer bkt.Close()
	putAll(t, bkt, []string{"1", "2", "3"})
	var tokens [][]byte
	for range 3 * maxCursors {
		page, err := b.ListPaged(t.Context(), &driver.ListOptions{PageSize: 1})
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, page.NextPageToken)
	}
	if n := len(b.cursors.open); n > maxCursors {
		t.Errorf("%d cursors kept, want at most %d", n, maxCursors)
	}
	for i, token := range tokens { // those that were dropped go on all the same
		page, err := b.ListPaged(t.Context(), &driver.ListOptions{PageSize: 1, PageToken: token})
		if err != nil || len(page.Objects) != 1 || page.Objects[0].Key != "2" {
			t.Errorf("token %d: %v, %v", i, page, err)
		}
	}
}

func TestListCancelled(t *testing.T) {
	bkt, _, _ := openRecorded(t)
	putAll(t, bkt, []string{"1"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := bkt.List(nil).Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// brokenEntry is a file of a folder that is being read, of which the system tells nothing more.
type brokenEntry struct {
	fs.DirEntry
	name string
	err  error
}

func (e brokenEntry) Name() string      { return e.name }
func (e brokenEntry) IsDir() bool       { return false }
func (e brokenEntry) Type() fs.FileMode { return 0 }
func (e brokenEntry) Info() (fs.FileInfo, error) {
	return nil, &fs.PathError{Op: "lstat", Path: e.name, Err: e.err}
}

// TestListLeavesNothingOut: what was removed since is passed over, and nothing else is.
func TestListLeavesNothingOut(t *testing.T) {
	b, err := openBucket(t.TempDir(), nil, osFileOps())
	if err != nil {
		t.Fatal(err)
	}
	bkt := blob.NewBucket(b)
	defer bkt.Close()
	putAll(t, bkt, []string{"pack/there"})
	for _, tc := range []struct {
		name      string
		err, want error
		listed    bool
	}{
		{"gone", syscall.ENOENT, nil, false},
		{"there", syscall.ENOENT, nil, true}, // not under the path that the folder had once
		{"there", syscall.EIO, syscall.EIO, false},
		{"there", syscall.EACCES, syscall.EACCES, false},
	} {
		e, ok, err := b.newEntry("pack", brokenEntry{name: tc.name, err: tc.err})
		if ok != tc.listed || !errors.Is(err, tc.want) || ok && e.size != int64(len("object pack/there")) {
			t.Errorf("%s with %v: %+v, %v, %v", tc.name, tc.err, e, ok, err)
		}
	}
}

// FuzzListToken: tokens come back from callers and may be anything.
func FuzzListToken(f *testing.F) {
	dir := f.TempDir()
	b, err := openBucket(dir, nil, osFileOps())
	if err != nil {
		f.Fatal(err)
	}
	bkt := blob.NewBucket(b)
	f.Cleanup(func() { _ = bkt.Close() })
	for _, key := range []string{"a", "b/c", "b/d", "e"} {
		if err := bkt.WriteAll(context.Background(), key, []byte("object"), plainFile()); err != nil {
			f.Fatal(err)
		}
	}
	f.Add([]byte("k12345678b/c"), "b", "/")
	f.Add([]byte("g12345678b/"), "", "/")
	f.Add([]byte("short"), "../", "")
	f.Fuzz(func(t *testing.T, token []byte, prefix, delim string) {
		page, err := b.ListPaged(t.Context(), &driver.ListOptions{Prefix: prefix, Delimiter: delim, PageToken: token, PageSize: 2})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Objects {
			if !strings.HasPrefix(o.Key, prefix) {
				t.Errorf("%q lacks prefix %q", o.Key, prefix)
			}
		}
	})
}
