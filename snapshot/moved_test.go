package snapshot_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/fstest"

	"github.com/holdstill/holdstill/snapshot"
)

// rewrite changes lines of a text: some get other words of another length, some go, some
// are new.
func rewrite(p []byte, seed uint64, percent int) []byte {
	r := rand.New(rand.NewPCG(seed, 17))
	var out []byte
	for line := range bytes.Lines(p) {
		switch n := r.IntN(300); {
		case n < percent:
			out = fmt.Appendf(out, `{"id":%d,"state":"rewritten %d times"}`+"\n", r.IntN(1e9), r.IntN(1e6))
		case n < 2*percent:
		case n < 3*percent:
			out = append(append(out, line...), fmt.Sprintf(`{"new":%d}`+"\n", r.Uint64())...)
		default:
			out = append(out, line...)
		}
	}
	return out
}

// A file that is cut by its content costs what changed in it, also where everything
// moved, and each snapshot of it holds its bytes.
func TestMovedTextIsStoredAsDifferences(t *testing.T) {
	data := text(31, 36<<20) // two segments
	src := &memory{files: fstest.MapFS{}}
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": src}})
	all := make(map[string][]byte)
	var first int64
	for n, next := range []func([]byte) []byte{
		func(p []byte) []byte { return p },
		func(p []byte) []byte { return rewrite(p, 1, 3) },
		func(p []byte) []byte { return rewrite(p, 2, 3) },
		func(p []byte) []byte { return append(text(40, 700_001), p...) }, // all of it moves
		func(p []byte) []byte { return append(bytes.Clone(p[:9<<20]), p[12<<20:]...) },
		func(p []byte) []byte { return rewrite(p, 3, 3) },
	} {
		data = next(data)
		src.files["export.json"] = &fstest.MapFile{Data: data}
		s := create(t, e, snapshot.CreateOptions{Label: fmt.Sprint("n", n)})
		all[s.ID] = data
		if n == 0 {
			first = s.Stats.BytesStored
		} else if s.Stats.BytesStored > first/4 {
			t.Errorf("step %d stored %d bytes, after %d for the first: %+v", n, s.Stats.BytesStored, first, s.Stats)
		}
	}
	for id, want := range all {
		wantFile(t, e, id, "kv/export.json", want)
	}
	wantSound(t, e)
}

// Nothing about the old file can make the new one wrong.
func TestMovedTextOddCases(t *testing.T) {
	data := text(32, 3<<20)
	for name, tt := range map[string]struct{ old, next []byte }{
		"from empty":         {nil, data},
		"to empty":           {data, nil},
		"tiny":               {[]byte("a"), []byte("b")},
		"much longer":        {data[:100_000], data},
		"much shorter":       {data, rewrite(data[2<<20:], 1, 5)},
		"to noise":           {data, noise(3, len(data))},
		"from noise":         {noise(3, len(data)), data},
		"back to front":      {data, append(bytes.Clone(data[1<<20:]), data[:1<<20]...)},
		"repeated":           {bytes.Repeat(data[:300_000], 5), bytes.Repeat(data[:300_001], 5)},
		"one byte in front":  {data, append([]byte("x"), data...)},
		"one byte less":      {data, data[1:]},
		"every line changed": {data, rewrite(data, 4, 100)},
	} {
		t.Run(name, func(t *testing.T) {
			src := &memory{files: fstest.MapFS{"a": {Data: tt.old}}}
			e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": src}})
			first := create(t, e, snapshot.CreateOptions{})
			src.files = fstest.MapFS{"a": {Data: tt.next}}
			second := create(t, e, snapshot.CreateOptions{})
			wantFile(t, e, first.ID, "kv/a", tt.old)
			wantFile(t, e, second.ID, "kv/a", tt.next)
			wantSound(t, e)
		})
	}
}
