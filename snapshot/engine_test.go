package snapshot_test

import (
	"bytes"
	stdcmp "cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
)

// text returns n bytes of words, the same for the same seed. Much of it is made, so it is made without fmt.
func text(seed uint64, n int) []byte {
	words := strings.Fields("order customer invoice pending shipped returned north south berlin lisbon 2024 2025 true false null amount price quantity")
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, 0, n+128)
	for len(b) < n {
		b = strconv.AppendInt(append(b, `{"id":`...), int64(r.IntN(1e9)), 10)
		b = append(append(b, `,"`...), words[r.IntN(len(words))]...)
		b = append(append(b, `":"`...), words[r.IntN(len(words))]...)
		b = append(b, `","token":"`...)
		var token [8]byte
		binary.BigEndian.PutUint64(token[:], r.Uint64())
		b = append(hex.AppendEncode(b, token[:]), "\"}\n"...)
	}
	return b[:n]
}

// memory is a Source over a map of files that a test changes between snapshots.
type memory struct {
	files  fstest.MapFS
	hint   func(string) snapshot.Hint
	epoch  string
	pin    func() error
	settle func(context.Context) error
	// plain hides that files can be read at any offset.
	plain bool
	// position is that of the view, "42" if empty; changed is its Changed.
	position string
	changed  func(name, since string) ([]snapshot.Range, bool)
	// open counts views that are not closed yet.
	open int
}

func (m *memory) Pin(ctx context.Context) (*snapshot.View, error) {
	if m.pin != nil {
		if err := m.pin(); err != nil {
			return nil, err
		}
	}
	frozen := fstest.MapFS{}
	for name, f := range m.files {
		c := *f
		frozen[name] = &c
	}
	m.open++
	frozen = snapshot.WithFolders(frozen)
	var fsys fs.FS = frozen
	if m.plain {
		fsys = plainFS{frozen}
	}
	return &snapshot.View{
		FS: fsys, Hint: m.hint, Epoch: m.epoch, Kind: "memory", Method: "copy", Position: stdcmp.Or(m.position, "42"), Settle: m.settle,
		Changed: m.changed,
		Close:   func() error { m.open--; return nil },
	}, nil
}

func newBucket(t testing.TB) *blob.Bucket {
	b := memblob.OpenBucket(nil)
	t.Cleanup(func() { b.Close() })
	return b
}

func newHooked(t testing.TB, inner *blob.Bucket) *repotest.HookedBucket {
	b := repotest.NewHooked(inner)
	t.Cleanup(func() { b.Close() })
	return b
}

func openEngine(t testing.TB, config snapshot.Config) *snapshot.Engine {
	t.Helper()
	if config.Bucket == nil && config.Repository == "" {
		config.Bucket = newBucket(t)
	}
	e, err := snapshot.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil && !errors.Is(err, snapshot.ErrClosed) {
			t.Error(err)
		}
	})
	return e
}

func create(t testing.TB, e *snapshot.Engine, opts snapshot.CreateOptions) *snapshot.Snapshot {
	t.Helper()
	s, err := e.Create(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sample() fstest.MapFS {
	when := time.Date(2025, 3, 1, 12, 0, 0, 123456789, time.UTC)
	return fstest.MapFS{
		"000012.sst":    {Data: text(1, 3<<20), Mode: 0o644, ModTime: when},
		"000013.sst":    {Data: text(2, 100_000), Mode: 0o640, ModTime: when},
		"CURRENT":       {Data: []byte("MANIFEST-1\n"), Mode: 0o600, ModTime: when},
		"empty":         {Mode: 0o644, ModTime: when},
		"log/000001.wl": {Data: text(3, 700_001), Mode: 0o644, ModTime: when},
		"log.d":         {Data: []byte("sorts between log and log/"), Mode: 0o644, ModTime: when},
		"void":          {Mode: fs.ModeDir | 0o755, ModTime: when},
	}
}

func TestCreateAndOpenFS(t *testing.T) {
	files := sample()
	src := &memory{files: files}
	e := openEngine(t, snapshot.Config{Lock: lock.New(lock.Options{}), Sources: map[string]snapshot.Source{"kv": src, "meta": &memory{files: fstest.MapFS{"a": {Data: []byte("x")}}}}})
	s := create(t, e, snapshot.CreateOptions{Label: "first", Description: "d", Metadata: map[string]string{"k": "v"}})
	if src.open != 0 {
		t.Errorf("%d views left open", src.open)
	}
	if s.Consistency != repo.ConsistencyFrozen || s.Freeze.Attempts != 1 {
		t.Errorf("consistency %q, freeze %+v", s.Consistency, s.Freeze)
	}
	if s.Stats.Files != 7 || s.Stats.Bytes != s.Stats.BytesRead || s.Stats.BytesStored >= s.Stats.Bytes {
		t.Errorf("stats %+v", s.Stats)
	}
	got, err := e.Get(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, got); diff != "" {
		t.Errorf("Get differs from Create: %s", diff)
	}
	fsys, err := e.OpenFS(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name, f := range files {
		if f.Mode.IsDir() {
			continue
		}
		names = append(names, "kv/"+name)
		data, err := fsys.ReadFile("kv/" + name)
		if err != nil || !bytes.Equal(data, f.Data) {
			t.Errorf("%s: %d bytes, error %v", name, len(data), err)
		}
		info, err := fsys.Stat("kv/" + name)
		if err != nil || info.Mode() != f.Mode || !info.ModTime().Equal(f.ModTime) || info.Size() != int64(len(f.Data)) {
			t.Errorf("%s: %v, error %v", name, info, err)
		}
	}
	// It reads everything byte by byte, several times: without the largest file.
	small := create(t, e, snapshot.CreateOptions{Skip: []string{"kv/000012.sst"}})
	if fsys, err = e.OpenFS(t.Context(), small.ID); err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "kv/000012.sst" })
	if err := fstest.TestFS(fsys, append(names, "meta/a", "kv/void")...); err != nil {
		t.Error(err)
	}
}

func TestOpenFSSeeksAndReadsAt(t *testing.T) {
	data := pages(9, 40<<20)
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": &memory{files: fstest.MapFS{"big": {Data: data}}}}})
	s := create(t, e, snapshot.CreateOptions{})
	fsys, err := e.OpenFS(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Open("kv/big")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := f.(io.ReaderAt)
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		off, n := r.Int64N(int64(len(data))), r.IntN(3<<20)
		p := make([]byte, n)
		got, err := at.ReadAt(p, off)
		want := data[off:min(off+int64(n), int64(len(data)))]
		if !bytes.Equal(p[:got], want) || (err == io.EOF) != (got < n) {
			t.Fatalf("ReadAt(%d, %d) = %d, %v", n, off, got, err)
		}
	}
	if _, err := f.(io.Seeker).Seek(-5, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	tail, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(tail, data[len(data)-5:]) {
		t.Errorf("tail %q, error %v", tail, err)
	}
}

func TestUnchangedImmutableFilesAreNotRead(t *testing.T) {
	src := &memory{files: sample(), epoch: "e1", hint: func(name string) snapshot.Hint {
		if strings.HasSuffix(name, ".sst") {
			return snapshot.Hint{Class: snapshot.Immutable, Identity: "id of " + name}
		}
		return snapshot.Hint{}
	}}
	e := openEngine(t, snapshot.Config{VerifyShare: -1, Sources: map[string]snapshot.Source{"kv": src}})
	first := create(t, e, snapshot.CreateOptions{Label: "a"})
	sst := int64(3<<20 + 100_000)

	second := create(t, e, snapshot.CreateOptions{Label: "b"})
	if second.Parent != first.ID || second.Stats.BytesRead != first.Stats.Bytes-sst || second.Stats.BytesNew != 0 {
		t.Errorf("second: parent %q, stats %+v", second.Parent, second.Stats)
	}
	verified := create(t, e, snapshot.CreateOptions{Label: "c", Verify: true})
	if verified.Stats.BytesVerified != sst || verified.Stats.BytesRead != first.Stats.Bytes-sst {
		t.Errorf("verified: %+v", verified.Stats)
	}
	src.epoch = "e2"
	other := create(t, e, snapshot.CreateOptions{Label: "d"})
	if other.Stats.BytesRead != first.Stats.Bytes {
		t.Errorf("another epoch: read %d of %d bytes", other.Stats.BytesRead, first.Stats.Bytes)
	}
	whole := create(t, e, snapshot.CreateOptions{Label: "e", NoParent: true})
	if whole.Stats.BytesRead != first.Stats.Bytes || whole.Parent != "" || whole.Stats.BytesNew != 0 {
		t.Errorf("without a parent: %+v", whole.Stats)
	}
	src.epoch = "e1"
	src.files["000012.sst"].Data = text(99, 3<<20)
	src.files["CURRENT"].Data = []byte("MANIFEST-2\n")
	_, err := e.Create(t.Context(), snapshot.CreateOptions{Label: "f", Parent: first.ID, Verify: true})
	var promise *snapshot.BrokenPromiseError
	if !errors.As(err, &promise) || promise.Path != "kv/000012.sst" || promise.Parent != first.ID || !errors.Is(err, snapshot.ErrBrokenPromise) {
		t.Errorf("broken promise: %v", err)
	}
	if src.open != 0 {
		t.Errorf("%d views left open", src.open)
	}
}

func TestDamagedParentIsReadAgain(t *testing.T) {
	src := &memory{files: sample(), epoch: "e", hint: func(name string) snapshot.Hint { return snapshot.Hint{Identity: name} }}
	bucket := newBucket(t)
	config := snapshot.Config{Bucket: bucket, VerifyShare: -1, Sources: map[string]snapshot.Source{"kv": src}}
	e := openEngine(t, config)
	first := create(t, e, snapshot.CreateOptions{})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	it := bucket.List(&blob.ListOptions{})
	for {
		o, err := it.Next(t.Context())
		if err == io.EOF {
			break
		}
		if strings.HasPrefix(o.Key, "pack/") || strings.HasPrefix(o.Key, "index/") {
			if err := bucket.Delete(t.Context(), o.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
	e = openEngine(t, config)
	second := create(t, e, snapshot.CreateOptions{Label: "again"})
	if second.Parent != first.ID || second.Stats.BytesRead != second.Stats.Bytes {
		t.Errorf("stats %+v", second.Stats)
	}
	// What was stored again has the same identity, so it heals the first one too.
	report, err := e.Repository().Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil || !report.OK() {
		t.Errorf("check: %v, error %v", report.Damage, err)
	}
}

func TestListFilters(t *testing.T) {
	a := &memory{files: fstest.MapFS{"f": {Data: []byte("1")}}}
	bucket := newBucket(t)
	e := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"a": a}})
	both := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"a": a, "b": a}})
	s1 := create(t, e, snapshot.CreateOptions{Label: "nightly", Metadata: map[string]string{"n": "1"}})
	s2 := create(t, both, snapshot.CreateOptions{Label: "nightly", Metadata: map[string]string{"n": "2", "m": ""}})
	s3 := create(t, e, snapshot.CreateOptions{Label: "weekly", Parent: s1.ID})
	if s1.ID == s2.ID || !strings.HasSuffix(s1.ID, "Z_nightly") {
		t.Errorf("IDs %q and %q", s1.ID, s2.ID)
	}
	for _, test := range []struct {
		name   string
		filter snapshot.Filter
		want   []string
	}{
		{"all", snapshot.Filter{}, []string{s1.ID, s2.ID, s3.ID}},
		{"newest first", snapshot.Filter{NewestFirst: true}, []string{s3.ID, s2.ID, s1.ID}},
		{"label", snapshot.Filter{Label: "nightly"}, []string{s1.ID, s2.ID}},
		{"limit", snapshot.Filter{Label: "nightly", Limit: 1, NewestFirst: true}, []string{s2.ID}},
		{"source", snapshot.Filter{Source: "b"}, []string{s2.ID}},
		{"parent", snapshot.Filter{Parent: s1.ID}, []string{s2.ID, s3.ID}},
		{"metadata", snapshot.Filter{Metadata: map[string]string{"n": "2"}}, []string{s2.ID}},
		{"metadata with an empty value", snapshot.Filter{Metadata: map[string]string{"m": ""}}, []string{s2.ID}},
		{"since", snapshot.Filter{Since: s2.Created}, []string{s2.ID, s3.ID}},
		{"before", snapshot.Filter{Before: s2.Created}, []string{s1.ID}},
		{"none", snapshot.Filter{Label: "x"}, nil},
	} {
		var got []string
		for s, err := range e.List(t.Context(), test.filter) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, s.ID)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
	if err := e.Delete(t.Context(), s1.ID); err != nil {
		t.Fatal(err)
	}
	if err := e.Delete(t.Context(), s1.ID); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("second delete: %v", err)
	}
	if _, err := e.Get(t.Context(), s1.ID); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("get after delete: %v", err)
	}
	if _, err := e.OpenFS(t.Context(), s2.ID); err != nil {
		t.Errorf("the other snapshot: %v", err)
	}
}

func TestManySnapshotsInOneSecond(t *testing.T) {
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"a": &memory{files: fstest.MapFS{"f": {Data: []byte("1")}}}}})
	seen := map[string]bool{}
	last := ""
	for i := range 20 {
		s := create(t, e, snapshot.CreateOptions{Label: []string{"x", "", "a"}[i%3]})
		if s.Parent != last {
			t.Errorf("the parent of %s is %q, want %q", s.ID, s.Parent, last)
		}
		last = s.ID
		if seen[s.ID] {
			t.Fatalf("ID %s came twice", s.ID)
		}
		seen[s.ID] = true
		if err := repo.CheckID(s.ID); err != nil {
			t.Error(err)
		}
	}
}
