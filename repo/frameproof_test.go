package repo

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// storedRefs returns the chunks of the only file of a snapshot.
func storedRefs(t testing.TB, r *Repository, id string) (refs []Ref) {
	t.Helper()
	m, err := r.Manifest(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for u, err := range r.Uses(t.Context(), m) {
		if err != nil {
			t.Fatal(err)
		}
		if !u.Meta {
			refs = append(refs, Ref{ID: u.ID, Span: u.Size})
		}
	}
	return refs
}

// readFrames reads chunks with FramesOnly, and returns what came of each, and how many were decoded.
func readFrames(t testing.TB, r *Repository, refs []Ref) (got []StoredChunk, errs []error, decoded int, stats ReadStats) {
	t.Helper()
	got, errs = make([]StoredChunk, len(refs)), make([]error, len(refs))
	var mu sync.Mutex
	stats, err := r.ReadStored(t.Context(), refs, ReadStoredOptions{FramesOnly: true}, func(i int, c *StoredChunk, err error) error {
		mu.Lock()
		defer mu.Unlock()
		if i < 0 || got[i].Size > 0 || errs[i] != nil {
			t.Errorf("chunk %d was handed out, or once more", i)
			return nil
		}
		if errs[i] = err; err != nil {
			return nil
		}
		got[i] = StoredChunk{ID: c.ID, Codec: c.Codec, Stored: bytes.Clone(c.Stored), Plain: bytes.Clone(c.Plain), Size: c.Size}
		if c.Plain != nil {
			decoded++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got, errs, decoded, stats
}

// Chunks that are stored in full and as differences come as they are stored, are not
// decoded, and each pack costs one request more.
func TestFramesOnly(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20})
	cut := fixedCutter(t, 16<<10)
	data := slices.Concat(rowData(1, 1<<20), noiseData(2, 2<<20))
	next := bytes.Clone(data)
	for at := 1000; at < len(next); at += 128 << 10 {
		copy(next[at:], "a changed row")
	}
	mustSnapshot(t, r, "old", map[string][]byte{"f": data}, cut)
	if n := mustDeltaSnapshot(t, r, "new", map[string][]byte{"f": next}, "old", cut); n == 0 {
		t.Fatal("nothing is stored as a difference")
	}
	for id, want := range map[string][]byte{"old": data, "new": next} {
		fresh := openTestRepo(t, d.bucket(t), Options{})
		refs := storedRefs(t, fresh, id)
		if _, err := fresh.ReadStored(t.Context(), refs, ReadStoredOptions{}, func(_ int, c *StoredChunk, err error) error {
			if err == nil && (c.Plain == nil || c.Size != len(c.Plain)) {
				t.Errorf("%s: a chunk of %d bytes comes with %d", id, c.Size, len(c.Plain))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		d.take()
		got, errs, decoded, stats := readFrames(t, fresh, refs)
		if n, size := packReads(d.take()); int64(n) != stats.Requests || size != stats.Bytes {
			t.Errorf("%s: counted %+v, asked for %d bytes in %d requests", id, stats, size, n)
		}
		for i, c := range got {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			_, codec, size, err := fresh.ReadEncoded(t.Context(), c.ID, nil)
			if err != nil || c.ID != refs[i].ID || c.Size != size || c.Codec != codec || len(c.Stored) == 0 {
				t.Fatalf("%s: chunk %d came as %s, %d bytes under %v, not %d under %v: %v", id, i, c.ID, c.Size, c.Codec, size, codec, err)
			}
			at := i * 16 << 10
			out, err := fresh.decodeStored(t, c)
			if err != nil || !bytes.Equal(out, want[at:at+size]) {
				t.Fatalf("%s: chunk %d does not decode to what it is: %v", id, i, err)
			}
		}
		// A few differences, and a pack that is not full, are too little for a footer.
		if limit := len(refs) / 4; decoded > limit && !encryptedVariant() || decoded > 0 && encryptedVariant() {
			t.Errorf("%s: %d of %d chunks were decoded", id, decoded, len(refs))
		}
	}
}

// decodeStored decodes a chunk that was read with FramesOnly.
func (r *Repository) decodeStored(t testing.TB, c StoredChunk) ([]byte, error) {
	rd, err := r.takeReader()
	if err != nil {
		return nil, err
	}
	defer r.readers.Put(rd)
	return r.decodeFrame(t.Context(), rd, nil, c.ID, location{plain: uint32(c.Size), codec: c.Codec}, c.Stored, nil)
}

// What has happened to a frame is found, and told with its place. A footer that is damaged takes
// no chunk with it: then they are decoded.
func TestFramesOnlyFindsDamage(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	mustSnapshot(t, r, "a", map[string][]byte{"f": noiseData(5, 1<<20)}, fixedCutter(t, 16<<10))
	refs := storedRefs(t, r, "a")
	set, err := r.currentIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hurt := set.locate(&refs[7].ID)[0]
	whole := d.copy()

	d.damage(hurt)
	_, errs, _, _ := readFrames(t, openTestRepo(t, d.bucket(t), Options{}), refs)
	for i, err := range errs {
		var ce *ChunkError
		switch {
		case i != 7 && err != nil:
			t.Errorf("chunk %d: %v", i, err)
		case i == 7 && (!errors.As(err, &ce) || ce.Pack != packKey(hurt.pack) || ce.Offset != int64(hurt.offset) || !errors.Is(err, ErrCorrupt)):
			t.Errorf("the damaged chunk: %v", err)
		}
	}
	if encryptedVariant() {
		return // no footer is read
	}
	key := packKey(hurt.pack)
	for name, change := range map[string]func(pack []byte) []byte{
		"a record":    func(p []byte) []byte { p[len(p)-packTrailerSize-9] ^= 1; return p },
		"the trailer": func(p []byte) []byte { p[len(p)-1] ^= 1; return p },
		"its length":  func(p []byte) []byte { p[len(p)-packTrailerSize+1] ^= 8; return p },
		"cut short":   func(p []byte) []byte { return p[:len(p)-3] },
	} {
		d := whole.copy()
		d.put(key, change(bytes.Clone(d.get(key))))
		var log bytes.Buffer
		fresh := openTestRepo(t, d.bucket(t), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		_, errs, decoded, _ := readFrames(t, fresh, refs)
		if err := errors.Join(errs...); err != nil || decoded != len(refs) {
			t.Errorf("%s: %d of %d chunks were decoded, error %v", name, decoded, len(refs), err)
		}
		if n := strings.Count(log.String(), key); n == 0 {
			t.Errorf("%s: nothing in the log: %q", name, log.String())
		}
	}
}

// Only the frame that was written for a chunk, at its place, needs no decoding.
func TestFrameProof(t *testing.T) {
	frame := noiseData(1, 300)
	var b packBuilder
	b.reset()
	for i := range 3 {
		at := b.begin()
		b.buf = append(b.buf, frame[100*i:100*i+100]...)
		b.add(chunk.ID{byte(i)}, at, 200, chunk.Zstd)
	}
	e := b.entries[1]
	right := planned{id: e.id, offset: e.offset, stored: e.stored, plain: e.plain, codec: e.codec}
	for name, tt := range map[string]struct {
		proof  *frameProof
		change func(*planned)
		frame  []byte
		want   bool
	}{
		"right":               {proof: &frameProof{entries: b.entries}, frame: frame[100:200], want: true},
		"another frame":       {proof: &frameProof{entries: b.entries}, frame: frame[200:]},
		"another chunk":       {proof: &frameProof{entries: b.entries}, change: func(it *planned) { it.id[3]++ }, frame: frame[100:200]},
		"another length":      {proof: &frameProof{entries: b.entries}, change: func(it *planned) { it.plain++ }, frame: frame[100:200]},
		"another codec":       {proof: &frameProof{entries: b.entries}, change: func(it *planned) { it.codec = chunk.Delta }, frame: frame[100:200]},
		"between two":         {proof: &frameProof{entries: b.entries}, change: func(it *planned) { it.offset++ }, frame: frame[100:200]},
		"behind the last":     {proof: &frameProof{entries: b.entries}, change: func(it *planned) { it.offset += 1000 }, frame: frame[100:200]},
		"too few bytes":       {proof: &frameProof{entries: b.entries}, change: func(it *planned) { it.stored-- }, frame: frame[100:199]},
		"no footer":           {proof: &frameProof{}, frame: frame[100:200]},
		"content is checked":  {frame: frame[100:200]},
		"opened with its key": {proof: &frameProof{sealed: true}, frame: frame[100:200], want: true},
	} {
		it := right
		if tt.change != nil {
			tt.change(&it)
		}
		if got := tt.proof.covers(&it, tt.frame); got != tt.want {
			t.Errorf("%s: covers is %v", name, got)
		}
	}
}
