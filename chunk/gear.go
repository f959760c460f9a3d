package chunk

import (
	"encoding/binary"
	"math/bits"

	"github.com/zeebo/blake3"
)

// Bounds and defaults of GearParams, in bytes.
const (
	MinGearMin = 256     // smallest Min
	MinGearAvg = 1 << 10 // smallest Avg
	MaxGearAvg = 4 << 20 // largest Avg

	DefaultGearMin = 64 << 10
	DefaultGearAvg = 256 << 10
	DefaultGearMax = 1 << 20
)

// GearParams are the sizes a Gear cuts by, in bytes. The zero value means 64 KiB, 256 KiB and 1 MiB. A field that
// is zero beside others that are not is derived: Avg is the default, Min a quarter of Avg, Max four times Avg, at most MaxSize.
type GearParams struct {
	Min int // no chunk but the last of a stream is shorter; 256 to Avg/2
	Avg int // what the mean comes near to on data without structure; a power of two from 1 KiB to 4 MiB
	Max int // no chunk is longer; 2*Avg to MaxSize
}

// resolve fills in defaults and validates.
func (g GearParams) resolve() (GearParams, error) {
	if g.Avg == 0 {
		g.Avg = DefaultGearAvg
	}
	if g.Avg < MinGearAvg || g.Avg > MaxGearAvg || bits.OnesCount(uint(g.Avg)) != 1 {
		return g, &ParamError{Param: "GearParams.Avg", Value: g.Avg, Reason: "want a power of two from 1 KiB to 4 MiB"}
	}
	if g.Min == 0 {
		g.Min = g.Avg / 4
	}
	if g.Min < MinGearMin || g.Min > g.Avg/2 {
		return g, &ParamError{Param: "GearParams.Min", Value: g.Min, Reason: "want 256 bytes to half of Avg"}
	}
	if g.Max == 0 {
		g.Max = min(4*g.Avg, MaxSize)
	}
	if g.Max < 2*g.Avg || g.Max > MaxSize {
		return g, &ParamError{Param: "GearParams.Max", Value: g.Max, Reason: "want twice Avg to 8 MiB"}
	}
	return g, nil
}

// Gear cuts by content: after an insertion or a deletion the cuts fall at the same bytes again. It is immutable and safe
// for concurrent use. Make one with NewGear.
//
// It is FastCDC (Xia et al., USENIX ATC 2016 and IEEE TPDS 2020) with the Gear rolling hash and normalised chunking at
// level 2: a mask with two bits more than log2(Avg) up to a turning point, one with two bits less after it.
// Three details are its own. The hash is warmed up on the bytes before Min, so that whether a place is a cut depends on the
// last gearWindow bytes and its distance from the chunk's start alone. The turning point is Avg less an eighth, which
// puts the mean on data without structure near Avg. And the table is such that a run of one repeated byte is
// never a cut: zero-filled data is cut at Max.
type Gear struct {
	params GearParams
	strict uint64 // mask before the turning point; a superset of loose
	loose  uint64 // mask after it
	turn   int    // where loose takes over, bytes from the chunk's start
	table  [256]uint64
}

// The hash shifts left by one for each byte, so it forgets a byte after 64 others.
const gearWindow = 64

// gearContext is the BLAKE3 derive-key context of table and masks. It is part of the format: another string gives other cuts.
const gearContext = "holdstill 2026-01-01 gear table and masks v1"

// MinSecretSize is the shortest secret NewGear accepts, in bytes.
const MinSecretSize = 16

// NewGear returns a Gear for params; the zero value gives the defaults. With a nil secret the table is fixed and public.
// Else table and masks are derived from the secret, of at least MinSecretSize bytes, so that the lengths of chunks tell
// less about what is in them; the same data must then always be cut with the same secret. The secret is not kept.
// A parameter out of its range or a shorter secret is a *ParamError.
func NewGear(params GearParams, secret []byte) (*Gear, error) {
	params, err := params.resolve()
	if err != nil {
		return nil, err
	}
	if secret != nil && len(secret) < MinSecretSize {
		return nil, &ParamError{Param: "secret length", Value: len(secret), Reason: "want at least 16 bytes, or nil for the public table"}
	}
	g := &Gear{params: params, turn: params.Avg - params.Avg/8}
	g.derive(secret)
	return g, nil
}

// Params returns the sizes in force, with nothing left at zero. Given to NewGear they make the same cuts.
func (g *Gear) Params() GearParams { return g.params }

// Max implements Cutter: GearParams.Max.
func (g *Gear) Max() int { return g.params.Max }

// derive draws the masks and the table from BLAKE3's derive-key output for gearContext and the secret (nothing for
// nil), read as little-endian 64-bit words:
//
//  1. The bits 16 to 63 are shuffled (Fisher-Yates, from the last down; a word modulo what is left, redrawn
//     where the modulo would favour some). A mask of n bits is the first n of them. Bit k of the hash depends on k+1
//     bytes, so bits below 16 would look at too few.
//  2. 256 words are the table. After a run of gearWindow equal bytes b the hash is -table[b], so a word with the first
//     four mask bits of its negative all clear is redrawn: every mask has at least four bits, and a run never cuts.
func (g *Gear) derive(secret []byte) {
	h := blake3.NewDeriveKey(gearContext)
	h.Write(secret) // documented never to fail
	stream := h.Digest()
	next := func() uint64 {
		var w [8]byte
		stream.Read(w[:]) // documented to fill w and never to fail
		return binary.LittleEndian.Uint64(w[:])
	}

	var order [48]uint64
	for i := range order {
		order[i] = 1 << (16 + i)
	}
	for i := uint64(len(order)); i > 1; i-- {
		w := next()
		for w < -i%i { // 2^64 mod i: what remains is a multiple of i
			w = next()
		}
		order[i-1], order[w%i] = order[w%i], order[i-1]
	}
	mask := func(n int) (m uint64) {
		for _, bit := range order[:n] {
			m |= bit
		}
		return m
	}
	avgBits := bits.TrailingZeros(uint(g.params.Avg))
	g.strict, g.loose = mask(avgBits+2), mask(avgBits-2)

	run := mask(4)
	for i := range g.table {
		w := next()
		for -w&run == 0 {
			w = next()
		}
		g.table[i] = w
	}
}

// Next implements Cutter.
func (g *Gear) Next(p []byte, last bool) int {
	n := min(len(p), g.params.Max)
	if n > g.params.Min {
		h := uint64(0)
		for _, b := range p[g.params.Min-gearWindow : g.params.Min] {
			h = h<<1 + g.table[b]
		}
		start, turn := g.params.Min, min(n, g.turn)
		h, cut := g.scan(h, p[start:turn], g.strict)
		if cut == 0 {
			start = turn
			_, cut = g.scan(h, p[start:n], g.loose)
		}
		if cut > 0 {
			return start + cut
		}
	}
	if last || n == g.params.Max {
		return n
	}
	return 0
}

// scan goes on with the hash h over p and returns the length up to and with the first byte at which the hash has all
// bits of mask clear, or 0 and the hash after p.
//
// Two bytes a step: the second hash is computed from the one before both, which halves the chain of dependent
// operations that bounds the plain loop.
func (g *Gear) scan(h uint64, p []byte, mask uint64) (uint64, int) {
	t := &g.table
	i := 0
	for ; i+8 <= len(p); i += 8 {
		b := (*[8]byte)(p[i:])
		g0, g2, g4, g6 := t[b[0]], t[b[2]], t[b[4]], t[b[6]]
		h0 := h<<1 + g0
		h1 := h<<2 + (g0<<1 + t[b[1]])
		if h0&mask == 0 {
			return h0, i + 1
		}
		if h1&mask == 0 {
			return h1, i + 2
		}
		h2 := h1<<1 + g2
		h3 := h1<<2 + (g2<<1 + t[b[3]])
		if h2&mask == 0 {
			return h2, i + 3
		}
		if h3&mask == 0 {
			return h3, i + 4
		}
		h4 := h3<<1 + g4
		h5 := h3<<2 + (g4<<1 + t[b[5]])
		if h4&mask == 0 {
			return h4, i + 5
		}
		if h5&mask == 0 {
			return h5, i + 6
		}
		h6 := h5<<1 + g6
		h7 := h5<<2 + (g6<<1 + t[b[7]])
		if h6&mask == 0 {
			return h6, i + 7
		}
		if h7&mask == 0 {
			return h7, i + 8
		}
		h = h7
	}
	for ; i < len(p); i++ {
		if h = h<<1 + t[p[i]]; h&mask == 0 {
			return h, i + 1
		}
	}
	return h, 0
}
