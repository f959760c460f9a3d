package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/holdstill/holdstill/chunk"
)

// fakeRefs returns refs of chunks that are nowhere stored: PutContent does not
// look.
func fakeRefs(n int) []Ref {
	out := make([]Ref, n)
	for i := range out {
		out[i] = Ref{ID: fakeID(i), Span: int64(1000 + i%77)}
	}
	return out
}

func fakeID(i int) chunk.ID {
	return chunk.Identify(binary.LittleEndian.AppendUint64(nil, uint64(i)))
}

// collect returns the data refs of a content and the IDs of its nodes.
func collect(t *testing.T, r *Repository, c Content) (refs []Ref, nodes map[chunk.ID]bool) {
	t.Helper()
	nodes = make(map[chunk.ID]bool)
	err := r.walkContent(t.Context(), c, func(ref Ref, depth int) (bool, error) {
		if depth > 0 {
			nodes[ref.ID] = true
		} else {
			refs = append(refs, ref)
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return refs, nodes
}

// putContent stores a tree in a session of its own.
func putContent(t *testing.T, r *Repository, refs []Ref) Content {
	t.Helper()
	s := mustSession(t, r)
	c, err := s.PutContent(t.Context(), refs)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), &Manifest{ID: s.lease.id.String()}); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestContentOfEveryLength(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	for _, n := range []int{0, 1, 7, 8, 9, 31, 32, 33, 511, 512, 513, 5000, 40_000} {
		want := fakeRefs(n)
		c := putContent(t, r, want)
		if len(c.Refs) > inlineRefs {
			t.Errorf("%d refs: %d stand in the content itself", n, len(c.Refs))
		}
		got, _ := collect(t, r, c)
		if !slices.Equal(got, want) {
			t.Errorf("%d refs come back as %d", n, len(got))
		}
		var size int64
		for _, r := range want {
			size += r.Span
		}
		if c.Size() != size {
			t.Errorf("%d refs: size %d, want %d", n, c.Size(), size)
		}
		if n > 0 && n <= inlineRefs {
			want[0].Span++
			if c.Refs[0] == want[0] {
				t.Error("the content keeps the caller's refs")
			}
		}
	}
}

// levelByLevel says what a content is to be, from all its refs at once: FORMAT.md, "Content".
func levelByLevel(t testing.TB, r *Repository, refs []Ref) Content {
	t.Helper()
	c := Content{Refs: refs}
	for len(c.Refs) > inlineRefs {
		var up []Ref
		var node []byte
		var span int64
		for i, ref := range c.Refs {
			node = appendRef(node, ref)
			span += ref.Span
			if nodeEnd(len(node)/refSize, ref.ID) || i+1 == len(c.Refs) {
				up = append(up, Ref{identify(t, r, node), span})
				node, span = nil, 0
			}
		}
		c = Content{Depth: c.Depth + 1, Refs: up}
	}
	return c
}

// However its refs are told, a content is the same, and a writer keeps few of them.
func TestContentWriterTakesAnyPortions(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	s := mustSession(t, r)
	defer s.Abort(t.Context())
	for n, portion := range map[int]int{0: 1, 8: 3, 9: 9, 40: 1, 513: 512, 20_000: 1, 70_000: 777, 150_000: 4096} {
		refs := fakeRefs(n)
		w := s.NewContentWriter()
		for part := range slices.Chunk(refs, portion) {
			if err := w.Add(t.Context(), part...); err != nil {
				t.Fatal(err)
			}
			for depth, l := range w.levels {
				if cap(l.refs) > 2*maxNodeRefs {
					t.Fatalf("level %d has room for %d refs", depth, cap(l.refs))
				}
			}
		}
		got, err := w.Finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(levelByLevel(t, r, refs), got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%d refs in portions of %d:\n%s", n, portion, diff)
		}
	}
}

// A change in one place of a long content leaves all nodes but a few as they were.
func TestTreesShareNodes(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	refs := fakeRefs(100_000)
	base := putContent(t, r, refs)
	_, old := collect(t, r, base)
	if len(old) < 500 || len(old) > 1500 {
		t.Fatalf("%d nodes for 100,000 chunks", len(old))
	}
	extra := Ref{fakeID(1 << 30), 4321}
	for name, changed := range map[string][]Ref{
		"replace":         slices.Concat(refs[:50_000], []Ref{extra}, refs[50_001:]),
		"insert":          slices.Insert(slices.Clone(refs), 50_000, extra),
		"insert in front": slices.Insert(slices.Clone(refs), 0, extra),
		"append":          append(slices.Clone(refs), extra),
		"remove":          slices.Delete(slices.Clone(refs), 50_000, 50_001),
	} {
		got, nodes := collect(t, r, putContent(t, r, changed))
		if !slices.Equal(got, changed) {
			t.Fatalf("%s: other refs come back", name)
		}
		fresh := 0
		for id := range nodes {
			if !old[id] {
				fresh++
			}
		}
		// One or two at each of the three levels.
		if fresh < 1 || fresh > 8 {
			t.Errorf("%s: %d nodes of %d are new", name, fresh, len(nodes))
		}
	}
	if again := putContent(t, r, refs); !cmp.Equal(again, base) {
		t.Error("the same refs make another tree")
	}
}

// fileOf returns an entry without content.
func fileOf(path string) File {
	return File{Path: path, Mode: 0o644, ModTime: testTime}
}

func TestTableRoundTrip(t *testing.T) {
	ref := func(n int) Ref { return Ref{fakeID(n), 100} }
	odd := []File{
		{Path: " ", Mode: 0, ModTime: time.Unix(-1<<40, 1).UTC()},
		{Path: "!\t\n", Mode: 0o777, ModTime: time.Unix(1<<40, 999_999_999).UTC()},
		{Path: "-rf", Mode: 0o644, ModTime: time.Unix(0, 0).UTC(), Size: 100, Content: Content{Refs: []Ref{ref(1)}}},
		{Path: "...", Mode: 0o600, ModTime: time.Time{}},
		{Path: "C:\\x", Mode: 0o600, ModTime: testTime, Class: 255, PageSize: 1<<31 - 1, Identity: strings.Repeat("i", 255)},
		{Path: "a", Mode: fs.ModeDir | 0o700, ModTime: testTime},
		{Path: "a/b", Mode: 0o600, ModTime: testTime, Size: 800, Content: Content{Refs: []Ref{ref(1), ref(2), ref(3), ref(4), ref(5), ref(6), ref(7), ref(8)}}},
		{Path: "big", Mode: 0o600, ModTime: testTime, Size: 1 << 50, Content: Content{Depth: MaxDepth, Refs: []Ref{{fakeID(9), 1 << 50}}}},
		{Path: strings.Repeat("p/", 2047) + "p", Mode: 0o600, ModTime: testTime},
		{Path: "日本/語", Mode: 0o600, ModTime: testTime},
		{Path: "\u202e\u0000"[:3], Mode: 0o600, ModTime: testTime},
	}
	slices.SortFunc(odd, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	many := make([]File, 10_000)
	for i := range many {
		many[i] = File{Path: fmt.Sprintf("dir%02d/f%06d", i/1000, i), Mode: 0o644, ModTime: testTime, Size: 200,
			Content: Content{Refs: []Ref{ref(i), ref(i + 1)}}, Identity: fmt.Sprint(i)}
	}
	long := make([]File, 300)
	for i := range long {
		long[i] = fileOf(fmt.Sprintf("%s/%04d", strings.Repeat("x", 4000), i))
	}
	for name, files := range map[string][]File{"none": nil, "one": odd[:1], "odd": odd, "ten thousand": many, "long paths": long} {
		t.Run(name, func(t *testing.T) {
			r := newTestRepo(t, newTestDriver(), Options{})
			s := mustSession(t, r)
			table, err := s.PutTable(t.Context(), slices.Values(files))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(t.Context(), &Manifest{ID: "s", Table: table}); err != nil {
				t.Fatal(err)
			}
			m, err := r.Manifest(t.Context(), "s")
			if err != nil {
				t.Fatal(err)
			}
			var got []File
			for f, err := range r.Files(t.Context(), m) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, f)
			}
			if diff := cmp.Diff(files, got); diff != "" {
				t.Error(diff)
			}
			n := 0
			for range r.Files(t.Context(), m) {
				if n++; n == 3 {
					break
				}
			}
		})
	}
}

// Two tables share the blocks in which no file changed.
func TestTablesShareBlocks(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	files := make([]File, 10_000)
	for i := range files {
		files[i] = fileOf(fmt.Sprintf("f%06d", i))
	}
	blocks := func(files []File) map[chunk.ID]bool {
		s := mustSession(t, r)
		c, err := s.PutTable(t.Context(), slices.Values(files))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), &Manifest{ID: "s-" + fakeID(len(files)).String() + fmt.Sprint(files[5000].Size)}); err != nil {
			t.Fatal(err)
		}
		refs, _ := collect(t, r, c)
		out := make(map[chunk.ID]bool)
		for _, r := range refs {
			out[r.ID] = true
		}
		return out
	}
	old := blocks(files)
	if len(old) < 60 {
		t.Fatalf("%d blocks", len(old))
	}
	changed := slices.Clone(files)
	changed[5000].Size, changed[5000].Content = 5, Content{Refs: []Ref{{fakeID(1), 5}}}
	for name, files := range map[string][]File{
		"change": changed,
		"insert": slices.Insert(slices.Clone(files), 5000, fileOf("f004999x")),
		"remove": slices.Delete(slices.Clone(files), 5000, 5001),
	} {
		fresh := 0
		for id := range blocks(files) {
			if !old[id] {
				fresh++
			}
		}
		if fresh < 1 || fresh > 3 {
			t.Errorf("%s: %d blocks are new", name, fresh)
		}
	}
}

func TestTableRefuses(t *testing.T) {
	ctx := t.Context()
	r := newTestRepo(t, newTestDriver(), Options{})
	s := mustSession(t, r)
	defer s.Abort(ctx)
	change := func(f func(*File)) []File {
		x := fileOf("x")
		f(&x)
		return []File{x}
	}
	for name, files := range map[string][]File{
		"wrong order":       {fileOf("b"), fileOf("a")},
		"order by parts":    {fileOf("a/b"), fileOf("a-b")},
		"duplicate":         {fileOf("a"), fileOf("a")},
		"empty path":        {fileOf("")},
		"dot":               {fileOf(".")},
		"dot dot":           {fileOf("../x")},
		"dot dot inside":    {fileOf("a/../x")},
		"absolute":          {fileOf("/x")},
		"trailing slash":    {fileOf("x/")},
		"not UTF-8":         {fileOf("x\xff")},
		"null byte":         {fileOf("x\x00")},
		"too long":          {fileOf(strings.Repeat("x", maxPathLength+1))},
		"symbolic link":     change(func(f *File) { f.Mode |= fs.ModeSymlink }),
		"set-user-ID":       change(func(f *File) { f.Mode |= fs.ModeSetuid }),
		"negative size":     change(func(f *File) { f.Size = -1 }),
		"size of a folder":  change(func(f *File) { f.Mode |= fs.ModeDir; f.Size = 1 }),
		"size, no content":  change(func(f *File) { f.Size = 1 }),
		"content, no size":  change(func(f *File) { f.Content.Refs = []Ref{{fakeID(1), 1}} }),
		"spans over size":   change(func(f *File) { f.Size = 9; f.Content.Refs = []Ref{{fakeID(1), 10}} }),
		"span too large":    change(func(f *File) { f.Size = 9 << 20; f.Content.Refs = []Ref{{fakeID(1), 9 << 20}} }),
		"spans that wrap":   change(func(f *File) { f.Size = 6; f.Content = Content{1, []Ref{{fakeID(1), 1 << 62}, {fakeID(2), 1 << 62}}} }),
		"too deep":          change(func(f *File) { f.Content.Depth = MaxDepth + 1 }),
		"negative depth":    change(func(f *File) { f.Content.Depth = -1 }),
		"identity too long": change(func(f *File) { f.Identity = strings.Repeat("x", maxIdentity+1) }),
		"page size":         change(func(f *File) { f.PageSize = -1 }),
		"nine refs":         change(func(f *File) { f.Size = 9; f.Content.Refs = slices.Repeat([]Ref{{fakeID(1), 1}}, 9) }),
	} {
		if _, err := s.PutTable(ctx, slices.Values(files)); !errors.Is(err, ErrInvalid) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Commit(ctx, &Manifest{ID: "s"}); err != nil {
		t.Errorf("the session did not survive: %v", err)
	}
}

// The listing of files ends soon after its context, also when all is in memory.
func TestFilesHonourContext(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	mustSnapshot(t, r, "s", smallFiles(1), r.Gear())
	m, err := r.Manifest(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	if err := lastError(r.Files(t.Context(), m)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := lastError(r.Files(ctx, m)); !errors.Is(err, context.Canceled) {
		t.Errorf("Files: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newChunkCache(1000)
	for i := range 100 {
		c.put(fakeID(i), bytes.Repeat([]byte{byte(i)}, 90))
		c.put(fakeID(i), nil)
		if c.size > c.limit || len(c.byID) != c.order.Len() {
			t.Fatalf("size %d, %d and %d entries", c.size, len(c.byID), c.order.Len())
		}
		if c.get(fakeID(0)) == nil { // always in use, so never the oldest
			t.Fatal("what is used was dropped")
		}
	}
	if c.get(fakeID(50)) != nil || c.get(fakeID(99)) == nil {
		t.Error("not the least recently used is dropped first")
	}
	c.put(fakeID(1000), make([]byte, 501))
	if c.get(fakeID(1000)) != nil {
		t.Error("one chunk may fill more than half")
	}
	c.clear()
	if c.size != 0 || c.get(fakeID(99)) != nil {
		t.Error("clear left something")
	}
}
