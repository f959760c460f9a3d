package snapshot_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// history is a Source that keeps a journal of what it did to its files, and so can tell
// what changed since any position.
type history struct {
	memory
	step    int
	journal map[string][]change
}

type change struct {
	step int
	snapshot.Range
}

func newHistory(epoch string) *history {
	h := &history{memory: memory{files: fstest.MapFS{}, epoch: epoch}, journal: make(map[string][]change)}
	h.changed = func(name, since string) ([]snapshot.Range, bool) {
		var from int
		if _, err := fmt.Sscan(since, &from); err != nil {
			return nil, false
		}
		var out []snapshot.Range
		for _, c := range h.journal[name] {
			if c.step > from {
				out = append(out, c.Range)
			}
		}
		return out, true
	}
	h.position = "0"
	return h
}

func (h *history) advance() {
	h.step++
	h.position = fmt.Sprint(h.step)
}

// set gives a file new bytes and notes where they differ from the old ones, up to the
// shorter end.
func (h *history) set(name string, data []byte, ranges ...snapshot.Range) {
	for _, r := range ranges {
		h.journal[name] = append(h.journal[name], change{h.step, r})
	}
	h.files[name] = &fstest.MapFile{Data: data, Mode: 0o600}
}

// mutate changes a file at random places and may let it grow or shrink.
func (h *history) mutate(r *rand.Rand, name string) {
	data := bytes.Clone(h.files[name].Data)
	var ranges []snapshot.Range
	for range r.IntN(6) {
		if len(data) == 0 {
			break
		}
		at := r.IntN(len(data))
		n := min(len(data)-at, 1+r.IntN(1<<r.IntN(18)))
		for i := range n {
			data[at+i] = byte(r.Uint32())
		}
		ranges = append(ranges, snapshot.Range{Offset: int64(at), Length: int64(n)})
	}
	switch r.IntN(6) {
	case 0:
		data = append(data, pages(r.Uint64()>>40, r.IntN(300_000))...)
	case 1:
		old := len(data)
		data = data[:r.IntN(len(data)+1)]
		if r.IntN(2) == 0 {
			// Grown again: what lies beyond the shortest length has changed.
			ranges = append(ranges, snapshot.Range{Offset: int64(len(data)), Length: int64(old)})
			data = append(data, noise(r.Uint64(), r.IntN(2*old+1))...)
		}
	}
	h.set(name, data, ranges...)
}

func changedHint(name string) snapshot.Hint {
	switch {
	case strings.HasSuffix(name, ".sst"):
		return snapshot.Hint{Class: snapshot.Immutable}
	default:
		return pagedHint(name)
	}
}

// Whatever changes, and whichever snapshot it is compared with: true hints give
// snapshots that hold the files byte for byte.
func TestChangedRangesProperty(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 11))
			h := newHistory("one")
			h.hint = changedHint
			names := []string{"a.db", "b.txt", "c.sst", "d.log"}
			for i, name := range names {
				h.set(name, pages(uint64(i), r.IntN(1_500_000)))
			}
			bucket := newBucket(t)
			config := snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": h}, VerifyShare: []float64{-1, 0.1, 1}[seed%3]}
			e := openEngine(t, config)
			var ids []string
			want := make(map[string]fstest.MapFS)
			for n := range 7 {
				h.plain = r.IntN(5) == 0
				opts := snapshot.CreateOptions{Label: fmt.Sprint("n", n), Verify: r.IntN(4) == 0}
				if len(ids) > 0 && r.IntN(3) == 0 {
					opts.Parent = ids[r.IntN(len(ids))]
				}
				s := create(t, e, opts)
				ids = append(ids, s.ID)
				want[s.ID] = fstest.MapFS{}
				for name, f := range h.files {
					want[s.ID][name] = f
				}
				h.advance()
				for _, name := range names {
					if r.IntN(4) > 0 {
						h.mutate(r, name)
					}
				}
			}
			for _, id := range ids {
				for name, f := range want[id] {
					wantFile(t, e, id, "kv/"+name, f.Data)
				}
			}
			wantSound(t, e)
		})
	}
}

// Only what changed is read, and the chunks are those that reading all would give.
func TestChangedRangesSaveReading(t *testing.T) {
	const size = 40<<20 + 12_345 // two segments
	data := pages(3, size)
	for name, tt := range map[string]struct {
		file   string
		change func(h *history, data []byte)
		read   int64
	}{
		"nothing":        {"a.db", func(h *history, data []byte) {}, 0},
		"a page":         {"a.db", func(h *history, data []byte) { touch(h, "a.db", data, 5<<20+77, 100) }, 64 << 10},
		"two chunks":     {"a.db", func(h *history, data []byte) { touch(h, "a.db", data, 3<<16-2, 4) }, 2 << 16},
		"the last chunk": {"a.db", func(h *history, data []byte) { touch(h, "a.db", data, size-1, 1) }, size % (64 << 10)},
		"grown":          {"a.db", func(h *history, data []byte) { h.set("a.db", append(data, 'x')) }, size%(64<<10) + 1},
		"shrunk":         {"a.db", func(h *history, data []byte) { h.set("a.db", data[:size-12_345-5]) }, 64<<10 - 5},
		"shrunk by much": {"a.db", func(h *history, data []byte) { h.set("a.db", data[:32<<20]) }, 0},
		"a table":        {"c.sst", func(h *history, data []byte) { touch(h, "c.sst", data, 7<<20, 1) }, 1 << 20},
		"text grown":     {"b.txt", func(h *history, data []byte) { h.set("b.txt", append(data, data[:100_000]...)) }, 3 << 20},
		"text":           {"b.txt", func(h *history, data []byte) { touch(h, "b.txt", data, 7<<20, 3000) }, 6 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory("one")
			h.hint = changedHint
			h.set(tt.file, data)
			e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": h}, VerifyShare: -1})
			create(t, e, snapshot.CreateOptions{})
			h.advance()
			tt.change(h, bytes.Clone(data))
			s := create(t, e, snapshot.CreateOptions{})
			if s.Stats.BytesRead > tt.read || s.Stats.BytesVerified != 0 || tt.file != "b.txt" && s.Stats.BytesRead < tt.read {
				t.Errorf("read %d bytes where %d are enough, verified %d", s.Stats.BytesRead, tt.read, s.Stats.BytesVerified)
			}
			wantFile(t, e, s.ID, "kv/"+tt.file, h.files[tt.file].Data)
			// Reading everything finds all chunks there already.
			again := create(t, e, snapshot.CreateOptions{NoParent: true})
			if again.Stats.BytesNew != 0 {
				t.Errorf("the chunks differ from those of a snapshot that read everything: %+v", again.Stats)
			}
			verified := create(t, e, snapshot.CreateOptions{Verify: true})
			if size := int64(len(h.files[tt.file].Data)); verified.Stats.BytesRead+verified.Stats.BytesVerified != size || verified.Stats.BytesVerified == 0 {
				t.Errorf("Verify did not read all of %d bytes: %+v", size, verified.Stats)
			}
			wantSound(t, e)
		})
	}
}

func touch(h *history, name string, data []byte, at, n int) {
	for i := range n {
		data[at+i] ^= 0x55
	}
	h.set(name, data, snapshot.Range{Offset: int64(at), Length: int64(n)})
}

// Hints that are not bound to the parent are not used, and a wrong one is caught.
func TestChangedRangesThatDoNotHold(t *testing.T) {
	data := pages(4, 900_000)
	for name, tt := range map[string]struct {
		spoil    func(h *history)
		opts     snapshot.CreateOptions
		promised bool // the wrong hint is believed, and so must be caught
	}{
		"another epoch":    {func(h *history) { h.epoch = "two" }, snapshot.CreateOptions{}, false},
		"no epoch":         {func(h *history) { h.epoch = "" }, snapshot.CreateOptions{}, false},
		"unknown position": {func(h *history) { h.changed = func(string, string) ([]snapshot.Range, bool) { return nil, false } }, snapshot.CreateOptions{}, false},
		"no parent":        {func(*history) {}, snapshot.CreateOptions{NoParent: true}, false},
		"another page size": {func(h *history) {
			h.hint = func(string) snapshot.Hint { return snapshot.Hint{Class: snapshot.Paged, PageSize: 8192} }
		}, snapshot.CreateOptions{}, false},
		"another class": {func(h *history) { h.hint = nil }, snapshot.CreateOptions{}, false},
		"front to back": {func(h *history) { h.plain = true }, snapshot.CreateOptions{}, true},
		"verified":      {func(*history) {}, snapshot.CreateOptions{Verify: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory("one")
			h.hint = pagedHint
			h.set("a.db", data)
			e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": h}, VerifyShare: -1})
			first := create(t, e, snapshot.CreateOptions{})
			h.advance()
			// Two changes, of which the journal tells one.
			next := bytes.Clone(data)
			next[300_000]++
			touch(h, "a.db", next, 10, 10)
			tt.spoil(h)
			s, err := e.Create(t.Context(), tt.opts)
			if !tt.promised {
				if err != nil {
					t.Fatal(err)
				}
				wantFile(t, e, s.ID, "kv/a.db", next)
				wantSound(t, e)
				return
			}
			var broken *snapshot.BrokenPromiseError
			if !errors.As(err, &broken) || !errors.Is(err, snapshot.ErrBrokenPromise) || broken.Path != "kv/a.db" || broken.Parent != first.ID || broken.Offset != 300_000>>16<<16 {
				t.Fatalf("%v", err)
			}
			wantOnly(t, e, first.ID)
			wantSound(t, e)
		})
	}
}

func wantOnly(t testing.TB, e *snapshot.Engine, id string) {
	t.Helper()
	for s, err := range e.List(t.Context(), snapshot.Filter{}) {
		if err != nil || s.ID != id {
			t.Fatalf("listed: %v, %v", s, err)
		}
	}
}

// A share of what is called unchanged is read: after enough snapshots a lie is found.
func TestChangedRangesAreVerifiedByShare(t *testing.T) {
	h := newHistory("one")
	h.hint = pagedHint
	data := pages(4, 4<<20)
	h.set("a.db", data)
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": h}, VerifyShare: 0.5})
	create(t, e, snapshot.CreateOptions{})
	next := noise(1, len(data)) // nothing of which is told
	touch(h, "a.db", next, 0, 1)
	h.advance()
	h.set("a.db", next, snapshot.Range{Offset: 0, Length: 10})
	// 63 chunks at one in two each: not to find one has a chance of 2^-63.
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{}); !errors.Is(err, snapshot.ErrBrokenPromise) {
		t.Fatal(err)
	}
	// True ones pass, and cost about the share.
	h.set("a.db", update(data, 5, 1), snapshot.Range{Offset: 0, Length: int64(len(data)) / 2})
	copy(h.files["a.db"].Data[len(data)/2:], data[len(data)/2:])
	s := create(t, e, snapshot.CreateOptions{})
	if v := s.Stats.BytesVerified; v == 0 || v >= 2<<20 || s.Stats.BytesRead < 2<<20 {
		t.Errorf("%+v", s.Stats)
	}
	wantFile(t, e, s.ID, "kv/a.db", h.files["a.db"].Data)
}

// Ranges that cannot be fail the snapshot; odd ones do not.
func TestOddRanges(t *testing.T) {
	data := pages(4, 300_000)
	next := bytes.Clone(data)
	touched := []int{0, 70_000, 200_000, 299_999}
	for _, at := range touched {
		next[at]++
	}
	for name, tt := range map[string]struct {
		ranges []snapshot.Range
		bad    bool
	}{
		"exact":             {[]snapshot.Range{{0, 1}, {70_000, 1}, {200_000, 1}, {299_999, 1}}, false},
		"disordered":        {[]snapshot.Range{{299_999, 1}, {0, 1}, {200_000, 1}, {70_000, 1}}, false},
		"overlapping":       {[]snapshot.Range{{69_000, 200_000}, {0, 70_000}, {0, 1}, {200_000, 100_000}}, false},
		"beyond the end":    {[]snapshot.Range{{0, 1 << 62}, {400_000, 7}, {1<<63 - 1, 1<<63 - 1}}, false},
		"empty among":       {[]snapshot.Range{{0, 1}, {5, 0}, {70_000, 1}, {200_000, 1}, {299_999, 1<<63 - 1}}, false},
		"negative offset":   {[]snapshot.Range{{-1, 300_001}}, true},
		"negative length":   {[]snapshot.Range{{0, 300_000}, {5, -1}}, true},
		"smallest possible": {[]snapshot.Range{{-1 << 63, -1 << 63}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			src := &memory{files: fstest.MapFS{"a.db": {Data: data}}, hint: pagedHint, epoch: "1"}
			e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": src}, VerifyShare: -1})
			first := create(t, e, snapshot.CreateOptions{})
			src.files["a.db"] = &fstest.MapFile{Data: next}
			src.changed = func(string, string) ([]snapshot.Range, bool) { return tt.ranges, true }
			s, err := e.Create(t.Context(), snapshot.CreateOptions{})
			var source *snapshot.SourceError
			if tt.bad {
				if !errors.As(err, &source) || source.Path != "a.db" {
					t.Fatal(err)
				}
				wantOnly(t, e, first.ID)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantFile(t, e, s.ID, "kv/a.db", next)
		})
	}
}

func logHint(identity string) func(string) snapshot.Hint {
	return func(string) snapshot.Hint {
		return snapshot.Hint{Class: snapshot.AppendOnly, Identity: identity}
	}
}

// Of a log that is known again only what was appended is read, and the ends of what the
// parent has.
func TestLogTails(t *testing.T) {
	const piece = 256 << 10
	data := text(7, 10*piece+1000)
	tail := text(8, 3*piece)
	for name, tt := range map[string]struct {
		next           []byte
		identity       string // now; it was "log 1"
		read, verified int64
		broken         bool
	}{
		"the same":               {data, "log 1", 0, 0, false},
		"a record more":          {append(bytes.Clone(data), tail[:100]...), "log 1", 1100, 2 * piece, false},
		"much more":              {append(bytes.Clone(data), tail...), "log 1", 1000 + 3*piece, 2 * piece, false},
		"another log":            {append(bytes.Clone(tail), data...), "log 2", 13*piece + 1000, 0, false},
		"unknown":                {append(bytes.Clone(data), tail...), "", 13*piece + 1000, 0, false},
		"shorter":                {data[:5*piece], "log 1", 5 * piece, 0, false},
		"emptied, written anew":  {append(bytes.Clone(tail), data...), "log 1", 0, 0, true},
		"the last piece changed": {append(append(bytes.Clone(data[:10*piece-1]), '#'), tail...), "log 1", 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			src := &memory{files: fstest.MapFS{"w.log": {Data: data}}, hint: logHint("log 1"), epoch: "1"}
			e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": src}, VerifyShare: -1})
			first := create(t, e, snapshot.CreateOptions{})
			src.files["w.log"] = &fstest.MapFile{Data: tt.next}
			src.hint = logHint(tt.identity)
			s, err := e.Create(t.Context(), snapshot.CreateOptions{})
			if tt.broken {
				if !errors.Is(err, snapshot.ErrBrokenPromise) {
					t.Fatal(err)
				}
				wantOnly(t, e, first.ID)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Stats.BytesRead != tt.read || s.Stats.BytesVerified != tt.verified {
				t.Errorf("read %d, verified %d; want %d and %d", s.Stats.BytesRead, s.Stats.BytesVerified, tt.read, tt.verified)
			}
			wantFile(t, e, s.ID, "kv/w.log", tt.next)
			s = create(t, e, snapshot.CreateOptions{Verify: true, NoParent: tt.identity == ""})
			if s.Stats.BytesRead+s.Stats.BytesVerified != int64(len(tt.next)) || s.Stats.BytesNew > 0 {
				t.Errorf("verified: %+v", s.Stats)
			}
			wantFile(t, e, s.ID, "kv/w.log", tt.next)
			wantSound(t, e)
		})
	}
}

// A piece in the middle of a log that is not what it was is found by Verify.
func TestVerifyReadsAllOfALog(t *testing.T) {
	data := text(7, 3<<20)
	src := &memory{files: fstest.MapFS{"w.log": {Data: data}}, hint: logHint("log 1"), epoch: "1"}
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": src}, VerifyShare: -1})
	first := create(t, e, snapshot.CreateOptions{})
	next := append(bytes.Clone(data), "more\n"...)
	next[1<<20]++
	src.files["w.log"] = &fstest.MapFile{Data: next}
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{Verify: true}); !errors.Is(err, snapshot.ErrBrokenPromise) {
		t.Fatal(err)
	}
	wantOnly(t, e, first.ID)
	s := create(t, e, snapshot.CreateOptions{NoParent: true})
	wantFile(t, e, s.ID, "kv/w.log", next)
}

// A page file of which nothing changed and nothing is promised is read, and no chunk of
// it is encoded or stored.
func TestUnchangedPagesAreNotEncoded(t *testing.T) {
	data := pages(6, 3<<20+777)
	src := &memory{files: fstest.MapFS{"a.db": {Data: data}}, hint: pagedHint}
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": src}})
	create(t, e, snapshot.CreateOptions{})
	s := create(t, e, snapshot.CreateOptions{})
	// Every chunk that is encoded counts as new.
	if s.Stats.BytesRead != int64(len(data)) || s.Stats.BytesNew != 0 || s.Stats.BytesStored > 2000 {
		t.Errorf("%+v", s.Stats)
	}
}

// What of the parent is damaged is not taken over, but read.
func TestDamagedParentIsNotKept(t *testing.T) {
	data := pages(4, 3<<20)
	bucket := newBucket(t)
	h := newHistory("1")
	h.hint = pagedHint
	h.set("a.db", data)
	e := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": h}, VerifyShare: -1})
	create(t, e, snapshot.CreateOptions{})
	h.advance()
	touch(h, "a.db", bytes.Clone(data), 1<<20, 50)
	// The nodes of the content cannot be read: which chunks it had is not known.
	for _, key := range keys(t, bucket, "pack/") {
		pack, err := bucket.ReadAll(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if len(pack) < 20_000 {
			pack[40] ^= 1
			if err := bucket.WriteAll(t.Context(), key, pack, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	again := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": h}, VerifyShare: -1})
	s, err := again.Create(t.Context(), snapshot.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Stats.BytesRead != int64(len(data)) {
		t.Errorf("%+v", s.Stats)
	}
}

// In an encrypted repository chunks have other names; what is known of a file is
// verified, kept and stored as differences all the same.
func TestChangedRangesEncrypted(t *testing.T) {
	h := newHistory("one")
	h.hint = pagedHint
	data := pages(3, 3<<20)
	h.set("a.db", data)
	h.set("b.txt", text(4, 3<<20))
	key := repo.Passphrase([]byte("open sesame"), repo.PassphraseOptions{Argon2: repo.Argon2{Time: 1, Memory: 8 << 20, Threads: 1}})
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": h}, Key: key, VerifyShare: 0.5})
	create(t, e, snapshot.CreateOptions{})
	h.advance()
	touch(h, "a.db", bytes.Clone(data), 1<<20, 10)
	s := create(t, e, snapshot.CreateOptions{})
	if s.Stats.BytesRead != 64<<10 || s.Stats.BytesVerified == 0 || s.Stats.BytesDelta != 64<<10 {
		t.Errorf("%+v", s.Stats)
	}
	for name, f := range h.files {
		wantFile(t, e, s.ID, "kv/"+name, f.Data)
	}
	verified := create(t, e, snapshot.CreateOptions{Verify: true})
	if verified.Stats.BytesVerified != 6<<20 || verified.Stats.BytesRead != 0 {
		t.Errorf("%+v", verified.Stats)
	}
	wantSound(t, e)
}
