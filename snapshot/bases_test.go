package snapshot_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
)

// pages returns n bytes of pages of 4 KiB with a number in front of each.
func pages(seed uint64, n int) []byte {
	p := text(seed, min(n, 1<<20))
	for len(p) < n {
		p = append(p, p[:min(len(p), n-len(p))]...)
	}
	for at := 0; at+8 <= n; at += 4096 {
		binary.LittleEndian.PutUint64(p[at:], seed<<32|uint64(at/4096))
	}
	return p
}

// update changes a row on some pages, and returns a copy.
func update(p []byte, seed uint64, count int) []byte {
	r := rand.New(rand.NewPCG(seed, 3))
	p = bytes.Clone(p)
	for range count {
		copy(p[r.IntN(len(p)-20):], fmt.Sprintf("%016x", r.Uint64()))
	}
	return p
}

func pagedHint(name string) snapshot.Hint {
	if strings.HasSuffix(name, ".db") {
		return snapshot.Hint{Class: snapshot.Paged, PageSize: 4096}
	}
	if strings.HasSuffix(name, ".log") {
		return snapshot.Hint{Class: snapshot.AppendOnly}
	}
	return snapshot.Hint{}
}

func wantFile(t testing.TB, e *snapshot.Engine, id, path string, want []byte) {
	t.Helper()
	fsys, err := e.OpenFS(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fsys.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s of %s: %d bytes where %d are expected, error %v", path, id, len(got), len(want), err)
	}
}

func wantSound(t testing.TB, e *snapshot.Engine) *repo.Report {
	t.Helper()
	report, err := e.Repository().Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil || !report.OK() {
		t.Fatalf("check: %+v, error %v", report, err)
	}
	return report
}

// A page file of which little changes costs little, generation after generation, though
// the source promises nothing and all of it is read.
func TestPagedFilesAreStoredAsDifferences(t *testing.T) {
	src := &memory{files: fstest.MapFS{}, hint: pagedHint}
	bucket := newBucket(t)
	e := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": src}})
	data := pages(1, 1<<20+3*4096)
	all := make(map[string][]byte)
	var first int64
	for n := range 5 {
		src.files["a.db"] = &fstest.MapFile{Data: data, Mode: 0o600}
		s := create(t, e, snapshot.CreateOptions{Label: fmt.Sprint("g", n)})
		all[s.ID] = data
		if n == 0 {
			first = s.Stats.BytesStored
			if s.Stats.BytesDelta != 0 {
				t.Errorf("the first has differences: %+v", s.Stats)
			}
		} else if s.Stats.BytesDelta < 1<<19 || s.Stats.BytesDelta > s.Stats.BytesNew || s.Stats.BytesStored > first/20 || s.Stats.BytesRead != int64(len(data)) {
			t.Errorf("generation %d, after %d bytes for the first: %+v", n, first, s.Stats)
		}
		data = update(data, uint64(n), 30)
		if n == 2 {
			data = append(data, pages(9, 5*4096)...)
		}
	}
	fresh := openEngine(t, snapshot.Config{Bucket: bucket})
	for id, want := range all {
		wantFile(t, fresh, id, "kv/a.db", want)
	}
	wantSound(t, fresh)
	// The first one's data serves the others when it is gone.
	for id := range all {
		if strings.HasSuffix(id, "g0") {
			if err := fresh.Delete(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			delete(all, id)
		}
	}
	for id, want := range all {
		wantFile(t, fresh, id, "kv/a.db", want)
	}
	wantSound(t, fresh)
}

// What is stored as a difference, and what is not.
func TestWhatIsStoredAsADifference(t *testing.T) {
	data := pages(2, 300_000)
	next := update(data, 1, 3)
	for name, tt := range map[string]struct {
		change func(src *memory)
		opts   snapshot.CreateOptions
		want   bool
	}{
		"changed rows":  {func(*memory) {}, snapshot.CreateOptions{}, true},
		"another epoch": {func(src *memory) { src.epoch = "2" }, snapshot.CreateOptions{}, true},
		"verified":      {func(*memory) {}, snapshot.CreateOptions{Verify: true}, true},
		"front to back": {func(src *memory) { src.plain = true }, snapshot.CreateOptions{}, true},
		"grown":         {func(src *memory) { src.files["a.db"].Data = append(bytes.Clone(next), data[:70_000]...) }, snapshot.CreateOptions{}, true},
		"shrunk":        {func(src *memory) { src.files["a.db"].Data = next[:200_000] }, snapshot.CreateOptions{}, true},
		"empty":         {func(src *memory) { src.files["a.db"].Data = nil }, snapshot.CreateOptions{}, false},
		"no parent":     {func(*memory) {}, snapshot.CreateOptions{NoParent: true}, false},
		"under another name": {func(src *memory) {
			src.files["b.db"] = src.files["a.db"]
			delete(src.files, "a.db")
		}, snapshot.CreateOptions{}, false},
		"another page size": {func(src *memory) {
			src.hint = func(string) snapshot.Hint { return snapshot.Hint{Class: snapshot.Paged, PageSize: 8192} }
		}, snapshot.CreateOptions{}, false},
		"a log that grew": {func(src *memory) {
			src.files["w.log"].Data = append(bytes.Clone(src.files["w.log"].Data), "one more record\n"...)
			src.files["a.db"].Data = data
		}, snapshot.CreateOptions{}, true},
		"another class": {func(src *memory) { src.hint = nil }, snapshot.CreateOptions{}, false},
		"all new":       {func(src *memory) { src.files["a.db"].Data = noise(5, len(data)) }, snapshot.CreateOptions{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			src := &memory{files: fstest.MapFS{"a.db": {Data: data}, "w.log": {Data: text(12, 300_000)}, "z.db": {Data: text(8, 10_000)}}, hint: pagedHint, epoch: "1"}
			e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": src}})
			create(t, e, snapshot.CreateOptions{})
			src.files["a.db"] = &fstest.MapFile{Data: next}
			tt.change(src)
			s := create(t, e, tt.opts)
			if got := s.Stats.BytesDelta > 0; got != tt.want {
				t.Errorf("%+v", s.Stats)
			}
			for name, f := range src.files {
				wantFile(t, e, s.ID, "kv/"+name, f.Data)
			}
			wantSound(t, e)
		})
	}
}

func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(p)
	return p
}

// plainFS hides that files can be read at any offset.
type plainFS struct{ fs.FS }

func (p plainFS) Open(name string) (fs.File, error) {
	f, err := p.FS.Open(name)
	if _, dir := f.(fs.ReadDirFile); err != nil || dir {
		return f, err
	}
	return struct{ fs.File }{f}, nil
}

// A file of several segments finds its bases in all of them.
func TestDifferencesInEverySegment(t *testing.T) {
	const segment = 32 << 20
	data := pages(3, segment+700_000)
	src := &memory{files: fstest.MapFS{"a.db": {Data: data}}, hint: pagedHint}
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": src}})
	create(t, e, snapshot.CreateOptions{})
	next := bytes.Clone(data)
	changed := []int{0, 20 << 20, segment - 100, segment + 5, len(data) - 50}
	for _, at := range changed {
		copy(next[at:], "a changed row")
	}
	for _, plain := range []bool{false, true} {
		src.files, src.plain = fstest.MapFS{"a.db": {Data: next}}, plain
		s := create(t, e, snapshot.CreateOptions{})
		if want := int64(4*64<<10 + (700_000)%(64<<10)); s.Stats.BytesDelta != want && !plain || plain && s.Stats.BytesNew > 0 {
			t.Errorf("%+v, want %d bytes as differences", s.Stats, want)
		}
		wantFile(t, e, s.ID, "kv/a.db", next)
		next = bytes.Clone(next)
	}
	wantSound(t, e)
}

// A parent that is damaged costs space, and nothing else.
func TestDamagedParentIsNoBase(t *testing.T) {
	data := pages(4, 700_000)
	for name, hurt := range map[string]func(pack []byte) []byte{
		"data":   func(pack []byte) []byte { pack[100] ^= 1; return pack },
		"middle": func(pack []byte) []byte { pack[len(pack)/2] ^= 1; return pack },
		"all":    func(pack []byte) []byte { return pack[:20] },
	} {
		t.Run(name, func(t *testing.T) {
			bucket := newBucket(t)
			src := &memory{files: fstest.MapFS{"a.db": {Data: data}, "b.db": {Data: pages(6, 100_000)}}, hint: pagedHint}
			e := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": src}})
			create(t, e, snapshot.CreateOptions{})
			hurtPacks(t, bucket, hurt)
			src.files["a.db"] = &fstest.MapFile{Data: update(data, 3, 50)}
			again := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": src}})
			s := create(t, again, snapshot.CreateOptions{})
			if s.Stats.BytesNew == 0 {
				t.Errorf("%+v", s.Stats)
			}
			// What changed was stored anew, and can be read where nothing of the parent
			// is needed.
			report, err := again.Repository().Check(t.Context(), repo.CheckOptions{ReadData: true})
			if err != nil || report.OK() {
				t.Fatalf("check: %+v, error %v", report, err)
			}
			fsys, err := again.OpenFS(t.Context(), s.ID)
			if err != nil {
				t.Fatal(err)
			}
			f, err := fsys.Open("kv/a.db")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			good, want := 0, src.files["a.db"].Data
			for at := 0; at < len(want); at += 64 << 10 {
				p := make([]byte, min(64<<10, len(want)-at))
				if _, err := f.(io.ReaderAt).ReadAt(p, int64(at)); err == nil || err == io.EOF {
					good++
					if !bytes.Equal(p, want[at:at+len(p)]) {
						t.Fatalf("wrong bytes at %d", at)
					}
				}
			}
			if good < 8 {
				t.Errorf("%d chunks can be read", good)
			}
		})
	}
}

func hurtPacks(t testing.TB, bucket *blob.Bucket, hurt func([]byte) []byte) {
	t.Helper()
	it := bucket.List(&blob.ListOptions{Prefix: "pack/"})
	for {
		o, err := it.Next(t.Context())
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := bucket.ReadAll(t.Context(), o.Key)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) < 20_000 {
			continue // nodes and file tables
		}
		if err := bucket.WriteAll(t.Context(), o.Key, hurt(data), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// A file that was written anew is not compared with its old self all the way, and one
// half of which was is still compared in the other half.
func TestFilesWrittenAnewAreNotComparedForLong(t *testing.T) {
	const chunks = 200
	data := pages(5, chunks<<16)
	anew := noise(9, len(data))
	half := append(bytes.Clone(anew[:len(data)/2]), update(data, 1, 4000)[len(data)/2:]...)
	for name, tt := range map[string]struct {
		next        []byte
		least, most int64 // requests for packs
		delta       int64
	}{
		"anew": {anew, 1, 20, 0},
		"half": {half, 10, 60, 60 << 16},
	} {
		t.Run(name, func(t *testing.T) {
			src := &memory{files: fstest.MapFS{"a.db": {Data: data}}, hint: pagedHint}
			var reads atomic.Int64
			bucket := newHooked(t, newBucket(t))
			bucket.Hook(func(_ context.Context, r repotest.Request) error {
				if r.Verb == repotest.VerbRead && strings.HasPrefix(r.Key, "pack/") {
					reads.Add(1)
				}
				return nil
			})
			e := openEngine(t, snapshot.Config{Bucket: bucket.Bucket, Sources: map[string]snapshot.Source{"kv": src}, Workers: 1})
			create(t, e, snapshot.CreateOptions{})
			src.files["a.db"] = &fstest.MapFile{Data: tt.next}
			reads.Store(0)
			s := create(t, e, snapshot.CreateOptions{})
			if n := reads.Load(); n < tt.least || n > tt.most || s.Stats.BytesDelta < tt.delta {
				t.Errorf("%d requests, %+v", n, s.Stats)
			}
			wantFile(t, e, s.ID, "kv/a.db", tt.next)
		})
	}
}
