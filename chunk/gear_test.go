package chunk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"
)

func TestNewGearParams(t *testing.T) {
	for _, tt := range []struct {
		in, want GearParams
		bad      string // the field a *ParamError must name
	}{
		{in: GearParams{}, want: GearParams{Min: 64 << 10, Avg: 256 << 10, Max: 1 << 20}},
		{in: GearParams{Avg: 64 << 10}, want: GearParams{Min: 16 << 10, Avg: 64 << 10, Max: 256 << 10}},
		{in: GearParams{Min: 100_000}, want: GearParams{Min: 100_000, Avg: 256 << 10, Max: 1 << 20}},
		{in: GearParams{Max: 5_000_001}, want: GearParams{Min: 64 << 10, Avg: 256 << 10, Max: 5_000_001}},
		{in: GearParams{Avg: MinGearAvg}, want: GearParams{Min: 256, Avg: 1024, Max: 4096}},
		{in: GearParams{Avg: MaxGearAvg}, want: GearParams{Min: 1 << 20, Avg: 4 << 20, Max: MaxSize}},
		{in: GearParams{Avg: 512}, bad: "GearParams.Avg"},
		{in: GearParams{Avg: 8 << 20}, bad: "GearParams.Avg"},
		{in: GearParams{Avg: 100_000}, bad: "GearParams.Avg"},
		{in: GearParams{Avg: math.MinInt}, bad: "GearParams.Avg"},
		{in: GearParams{Min: 255, Avg: 1024}, bad: "GearParams.Min"},
		{in: GearParams{Min: 513, Avg: 1024}, bad: "GearParams.Min"},
		{in: GearParams{Min: -1}, bad: "GearParams.Min"},
		{in: GearParams{Max: 512<<10 - 1}, bad: "GearParams.Max"},
		{in: GearParams{Max: MaxSize + 1}, bad: "GearParams.Max"},
		{in: GearParams{Max: -1}, bad: "GearParams.Max"},
	} {
		g, err := NewGear(tt.in, nil)
		if tt.bad != "" {
			var pe *ParamError
			if !errors.As(err, &pe) || pe.Param != tt.bad {
				t.Errorf("%+v: error %v, want a *ParamError for %s", tt.in, err, tt.bad)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", tt.in, err)
			continue
		}
		if diff := cmp.Diff(tt.want, g.Params()); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.in, diff)
		}
		if g.Max() != tt.want.Max {
			t.Errorf("Max() = %d, want %d", g.Max(), tt.want.Max)
		}
	}
	for _, n := range []int{0, 1, MinSecretSize - 1} {
		var pe *ParamError
		if _, err := NewGear(GearParams{}, make([]byte, n)); !errors.As(err, &pe) || pe.Value != n {
			t.Errorf("secret of %d bytes: error %v, want a *ParamError", n, err)
		}
	}
}

func TestGearFeedingInvariance(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	mixed := append(rows(300_000, 1), make([]byte, 100_000)...)
	mixed = append(mixed, randomBytes(300_001, 1)...)
	fixed, err := NewFixed(4096)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Cutter{
		mustGear(t, GearParams{}, nil),
		mustGear(t, GearParams{Avg: 8 << 10}, nil),
		mustGear(t, GearParams{Min: 256, Avg: 1024, Max: 2049}, randomBytes(32, 7)),
		fixed,
	} {
		want := cuts(c, mixed)
		for range 20 {
			if diff := cmp.Diff(want, fedCuts(t, c, mixed, rng)); diff != "" {
				t.Fatalf("Max %d: cuts depend on the reads (-whole +in steps):\n%s", c.Max(), diff)
			}
		}
	}
}

// TestGearAgainstPlainLoop compares the unrolled scan with the definition, one byte at a time.
func TestGearAgainstPlainLoop(t *testing.T) {
	plain := func(g *Gear, p []byte) int {
		for i := g.params.Min; i < min(len(p), g.params.Max); i++ {
			h := uint64(0)
			for _, b := range p[max(0, i+1-gearWindow-(i+1-g.params.Min)) : i+1] {
				h = h<<1 + g.table[b]
			}
			mask := g.strict
			if i >= g.turn {
				mask = g.loose
			}
			if h&mask == 0 {
				return i + 1
			}
		}
		return min(len(p), g.params.Max)
	}
	rng := rand.New(rand.NewPCG(11, 12))
	data := append(rows(60_000, 4), randomBytes(60_000, 4)...)
	for range 60 {
		g := mustGear(t, GearParams{Min: 256 + rng.IntN(257), Avg: 1024, Max: 2048 + rng.IntN(1000)}, randomBytes(16, byte(rng.Uint32())))
		p := data[rng.IntN(len(data)-5000):]
		p = p[:rng.IntN(5000)]
		for len(p) > 0 {
			got, want := g.Next(p, true), plain(g, p)
			if got != want {
				t.Fatalf("params %+v, %d bytes: Next = %d, byte by byte %d", g.params, len(p), got, want)
			}
			p = p[got:]
		}
	}
}

func TestGearBoundsAndMean(t *testing.T) {
	for _, params := range []GearParams{{}, {Avg: 64 << 10}, {Avg: 16 << 10, Min: 8 << 10}, {Avg: 4 << 10, Max: 8 << 10}} {
		for seed, secret := range [][]byte{nil, randomBytes(32, 1), randomBytes(32, 2)} {
			g := mustGear(t, params, secret)
			p := g.Params()
			data := randomBytes(256*p.Avg, byte(seed))
			lens := cuts(g, data)
			for i, n := range lens {
				if n > p.Max || (n < p.Min && i != len(lens)-1) {
					t.Fatalf("%+v: chunk %d of %d has %d bytes", p, i, len(lens), n)
				}
			}
			// With 256 chunks the mean strays by about 3 % of Avg. The limit leaves six times that.
			if mean := len(data) / len(lens); mean < p.Avg*4/5 || mean > p.Avg*6/5 {
				t.Errorf("%+v: mean of %d bytes over %d chunks, want Avg to within a fifth", p, mean, len(lens))
			}
		}
	}
}

// TestGearRunsAreCutAtMax covers every run of one repeated byte, under many secrets: a hash that cannot tell a run from
// a cut would make the smallest chunks out of the padding that databases are full of.
func TestGearRunsAreCutAtMax(t *testing.T) {
	params := GearParams{Min: 256, Avg: 1024, Max: 3000}
	secrets := [][]byte{nil}
	for i := range byte(20) {
		secrets = append(secrets, randomBytes(32, i))
	}
	for _, secret := range secrets {
		g := mustGear(t, params, secret)
		for b := range 256 {
			run := bytes.Repeat([]byte{byte(b)}, 3*params.Max+100)
			if diff := cmp.Diff([]int{3000, 3000, 3000, 100}, cuts(g, run)); diff != "" {
				t.Fatalf("run of byte %d, secret %x (-want +got):\n%s", b, secret, diff)
			}
		}
	}
	zeros := make([]byte, 3<<20)
	if diff := cmp.Diff([]int{1 << 20, 1 << 20, 1 << 20}, cuts(mustGear(t, GearParams{}, nil), zeros)); diff != "" {
		t.Errorf("zeros with the defaults (-want +got):\n%s", diff)
	}
}

// shared returns the share of b's chunks, by count and by bytes, that a has too.
func shared(c Cutter, a, b []byte) (count, size float64) {
	have := map[ID]bool{}
	for _, n := range cuts(c, a) {
		have[Identify(a[:n])] = true
		a = a[n:]
	}
	total, kept, keptSize := 0, 0, 0
	whole := len(b)
	for _, n := range cuts(c, b) {
		total++
		if have[Identify(b[:n])] {
			kept++
			keptSize += n
		}
		b = b[n:]
	}
	return float64(kept) / float64(total), float64(keptSize) / float64(whole)
}

func TestGearFindsItsCutsAgain(t *testing.T) {
	data := rows(64<<20, 9)
	g := mustGear(t, GearParams{}, nil)
	middle := len(data) / 2
	for _, tt := range []struct {
		name   string
		edited []byte
	}{
		{"one byte inserted at the front", append([]byte{'x'}, data...)},
		{"first byte deleted", data[1:]},
		{"a row inserted in the middle", append(append(bytes.Clone(data[:middle]), rows(300, 2)...), data[middle:]...)},
	} {
		if count, size := shared(g, data, tt.edited); count < 0.99 || size < 0.99 {
			t.Errorf("%s: %.4f of the chunks and %.4f of the bytes are shared", tt.name, count, size)
		}
	}
}

func TestGearSecretMovesTheCuts(t *testing.T) {
	data := rows(4<<20, 1)
	params := GearParams{Avg: 16 << 10}
	gears := []*Gear{mustGear(t, params, nil), mustGear(t, params, randomBytes(32, 1)), mustGear(t, params, randomBytes(32, 2))}
	// The shortest secret, and the same one made longer by zero bytes, are other secrets.
	short := randomBytes(MinSecretSize, 3)
	gears = append(gears, mustGear(t, params, short), mustGear(t, params, append(bytes.Clone(short), 0)))
	for i, a := range gears {
		for j, b := range gears[:i] {
			ends := map[int]bool{}
			at := 0
			for _, n := range cuts(a, data) {
				at += n
				ends[at] = true
			}
			same, total := 0, 0
			at = 0
			for _, n := range cuts(b, data) {
				at += n
				total++
				if ends[at] {
					same++
				}
			}
			if same > 1+total/20 { // the end of the data is always shared
				t.Errorf("gears %d and %d share %d of %d cuts", i, j, same, total)
			}
			if a.strict == b.strict || a.table == b.table {
				t.Errorf("gears %d and %d share masks or table", i, j)
			}
		}
	}
	again := mustGear(t, params, randomBytes(32, 1))
	if diff := cmp.Diff(cuts(gears[1], data), cuts(again, data)); diff != "" {
		t.Errorf("the same secret gives other cuts (-first +second):\n%s", diff)
	}
}

func TestGearKeepsNoReferenceToTheSecret(t *testing.T) {
	secret := randomBytes(32, 1)
	g := mustGear(t, GearParams{Avg: 4096}, secret)
	data := rows(200_000, 1)
	before := cuts(g, data)
	clear(secret)
	if diff := cmp.Diff(before, cuts(g, data)); diff != "" {
		t.Errorf("cuts changed when the caller cleared the secret:\n%s", diff)
	}
}

// TestGearGolden pins the table, the masks and the cuts. They are part of the format: if this fails, repositories
// written before would store everything again.
func TestGearGolden(t *testing.T) {
	for _, tt := range []struct {
		name          string
		params        GearParams
		secret        []byte
		table         string // BLAKE3 of the table's words, little-endian
		strict, loose uint64
		rows, stream  []int // the first lengths
	}{
		{
			name:   "public",
			table:  "3d7282345e64f6e0d622cfb909c09071d12f67e1c90de7413e7aef361ddae18b",
			strict: 0x327410b4b3540000, loose: 0x323410b0b2500000,
			rows:   []int{311827, 214427, 283908, 142254, 191657},
			stream: []int{285843, 244909, 277615, 276380, 267094},
		},
		{
			name:   "keyed",
			params: GearParams{Avg: 64 << 10}, secret: []byte("0123456789abcdef0123456789abcdef"),
			table:  "56317fef583e8a1f27e8649d01ba18a4e4449d239bb2cb0f72b097df870fe31f",
			strict: 0x89c9581904990000, loose: 0x8949401900990000,
			rows:   []int{92122, 60529, 62649, 69152, 75430},
			stream: []int{68669, 18048, 63713, 51645, 63083},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := mustGear(t, tt.params, tt.secret)
			var words []byte
			for _, w := range g.table {
				words = binary.LittleEndian.AppendUint64(words, w)
			}
			if got := ID(blake3.Sum256(words)).String(); got != tt.table {
				t.Errorf("table digest %s, want %s", got, tt.table)
			}
			if g.strict != tt.strict || g.loose != tt.loose {
				t.Errorf("masks %#016x and %#016x, want %#016x and %#016x", g.strict, g.loose, tt.strict, tt.loose)
			}
			if diff := cmp.Diff(tt.rows, cuts(g, rows(2<<20, 42))[:5]); diff != "" {
				t.Errorf("cuts of rows (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.stream, cuts(g, vectorStream(2<<20))[:5]); diff != "" {
				t.Errorf("cuts of a BLAKE3 stream (-want +got):\n%s", diff)
			}
		})
	}
}

// vectorStream returns n bytes anybody can make again: the extended output of BLAKE3 for no input.
func vectorStream(n int) []byte {
	p := make([]byte, n)
	blake3.New().Digest().Read(p)
	return p
}

func TestGearShortInputs(t *testing.T) {
	g := mustGear(t, GearParams{Min: 256, Avg: 1024, Max: 2048}, nil)
	for _, n := range []int{0, 1, 63, 64, 255, 256} {
		p := rows(n, 1)
		if got := g.Next(p, false); got != 0 {
			t.Errorf("Next(%d bytes, more to come) = %d, want 0", n, got)
		}
		if got := g.Next(p, true); got != n {
			t.Errorf("Next(%d bytes, last) = %d, want all", n, got)
		}
	}
}
