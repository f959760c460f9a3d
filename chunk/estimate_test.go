package chunk

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"
)

func TestIncompressible(t *testing.T) {
	e := mustEncoder(t, Balanced)
	random := randomBytes(1<<20, 3)
	with := func(at int, p []byte) []byte { return slices.Replace(slices.Clone(random), at, at+len(p), p...) }
	skewed := slices.Clone(random)
	for i, b := range skewed {
		skewed[i] = b % 215 // 7.73 bits a byte
	}
	tests := []struct {
		name string
		p    []byte
		want bool
	}{
		{"random", random, true},
		{"random, 64 KiB", random[:64<<10], true},
		{"random, the least that is sampled", random[:sampleMin], true},
		{"random, an odd size", random[:99_991], true},
		{"too short to be sampled", random[:sampleMin-1], false},
		{"nothing", nil, false},
		{"one byte", random[:1], false},
		{"zeros", make([]byte, 64<<10), false},
		{"ones", bytes.Repeat([]byte{255}, 64<<10), false},
		{"rows", rows(1<<20, 1), false},
		{"base 64", []byte(base64.StdEncoding.EncodeToString(random))[:1<<20], false},
		{"slightly skewed", skewed, false},
		{"a thirty-second of it is zeros", with(500_000, make([]byte, 32<<10)), false},
		{"a sixteenth of it are rows", with(100_000, rows(64<<10, 1)), false},
		{"rows at the end", with(1<<19, rows(1<<19, 1)), false},
		{"a stretch comes twice", with(700_001, random[10_000:10_000+3*repeatSpan]), false},
		{"all of it comes twice", slices.Concat(random[:512<<10], random[:512<<10]), false},
		{"all 256 bytes in turn", bytes.Repeat(upTo256(), 4<<10), false},
	}
	for _, tt := range tests {
		if got := e.incompressible(tt.p); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func upTo256() (p []byte) {
	for i := range 256 {
		p = append(p, byte(i))
	}
	return p
}

// Counts are added up without an overflow where an int has 32 bits.
func TestUniform(t *testing.T) {
	const n = sampleWindows * sampleWindow
	for most, want := range map[uint32]bool{n / 256: true, n / 2: false, n * 3 / 4: false, n: false} { // of the most frequent byte
		var counts [256]uint32
		rest := n - most
		for i := range uint32(255) {
			counts[i] = rest / 255
			if i < rest%255 {
				counts[i]++
			}
		}
		counts[255] = most
		if got := uniform(&counts, n); got != want {
			t.Errorf("%d of %d bytes are the same: %v, want %v", most, n, got, want)
		}
	}
}

// Of many chunks of random bytes nearly none is given to the codec.
func TestIncompressibleIsSure(t *testing.T) {
	e := mustEncoder(t, Balanced)
	found := 0
	const chunks = 255
	for seed := range chunks {
		if e.incompressible(randomBytes(64<<10, byte(seed))) {
			found++
		}
	}
	if found < chunks*99/100 {
		t.Errorf("%d of %d random chunks looked random", found, chunks)
	}
}

// TestNothingIsLostByEstimates mixes rows into random bytes and compares with what the codec alone makes of them.
func TestNothingIsLostByEstimates(t *testing.T) {
	e := mustEncoder(t, Balanced)
	for _, size := range []int{sampleMin, 64 << 10, 256 << 10, 1 << 20} {
		for _, percent := range []int{0, 1, 3, 5, 7, 10, 50} {
			t.Run(fmt.Sprintf("%d KiB, %d %% rows", size>>10, percent), func(t *testing.T) {
				plain := append(rows(size*percent/100, 1), randomBytes(size-size*percent/100, 1)...)
				stored, codec, err := e.Encode(nil, plain)
				if err != nil {
					t.Fatal(err)
				}
				alone := len(e.zstd.EncodeAll(plain, nil))
				if codec == Raw && alone < size-size/16 {
					t.Errorf("stored in %d bytes as %v, and the codec needs %d", len(stored), codec, alone)
				}
			})
		}
	}
}

func BenchmarkIncompressible(b *testing.B) {
	e := mustEncoder(b, Balanced)
	for name, data := range map[string][]byte{"rows": rows(64<<10, 1), "random": randomBytes(64<<10, 1), "zeros": make([]byte, 64<<10)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				e.incompressible(data)
			}
		})
	}
}
