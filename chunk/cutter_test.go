package chunk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mustGear returns a Gear or ends the test.
func mustGear(t testing.TB, params GearParams, secret []byte) *Gear {
	t.Helper()
	g, err := NewGear(params, secret)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// cuts returns the lengths of all chunks of data, with everything in one slice.
func cuts(c Cutter, data []byte) (out []int) {
	for len(data) > 0 {
		n := c.Next(data, true)
		out, data = append(out, n), data[n:]
	}
	return out
}

// fedCuts returns the same as read in steps of random size.
func fedCuts(t testing.TB, c Cutter, data []byte, rng *rand.Rand) (out []int) {
	t.Helper()
	have := 0 // bytes of data that were read
	for len(data) > 0 {
		last := have == len(data)
		n := c.Next(data[:have:have], last)
		switch {
		case n == 0 && last:
			t.Fatalf("Next returned 0 at the end with %d bytes left", have)
		case n == 0 && have >= c.Max():
			t.Fatalf("Next returned 0 for %d bytes, Max is %d", have, c.Max())
		case n < 0 || n > have || n > c.Max():
			t.Fatalf("Next returned %d of %d bytes, Max is %d", n, have, c.Max())
		case n == 0:
			have += 1 + rng.IntN(min(len(data)-have, 1+rng.IntN(2*c.Max())))
		default:
			out, data, have = append(out, n), data[n:], have-n
		}
	}
	return out
}

func TestFixed(t *testing.T) {
	for _, size := range []int{-1, 0, MinFixedSize - 1, MaxSize + 1} {
		var pe *ParamError
		if _, err := NewFixed(size); !errors.As(err, &pe) || pe.Value != size {
			t.Errorf("NewFixed(%d): error %v, want a *ParamError", size, err)
		}
	}
	for _, size := range []int{MinFixedSize, 4096, 5000, MaxSize} {
		f, err := NewFixed(size)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, size+1)
		for _, tt := range []struct {
			n    int
			last bool
			want int
		}{
			{0, false, 0}, {0, true, 0}, {1, false, 0}, {1, true, 1}, {size - 1, false, 0}, {size - 1, true, size - 1},
			{size, false, size}, {size, true, size}, {size + 1, false, size}, {size + 1, true, size},
		} {
			if got := f.Next(p[:tt.n], tt.last); got != tt.want {
				t.Errorf("Fixed %d: Next(%d bytes, %v) = %d, want %d", size, tt.n, tt.last, got, tt.want)
			}
		}
		if f.Max() != size {
			t.Errorf("Max() = %d, want %d", f.Max(), size)
		}
	}
	var zero Fixed
	if zero.Max() != MaxSize || zero.Next(make([]byte, 100), true) != 100 {
		t.Errorf("zero Fixed: Max %d", zero.Max())
	}
}

func FuzzGear(f *testing.F) {
	f.Add([]byte("seed"), uint16(0), uint64(1))
	f.Add(rows(20_000, 1), uint16(700), uint64(2))
	f.Add(randomBytes(9000, 1), uint16(3000), uint64(3))
	f.Add(make([]byte, 10_000), uint16(1), uint64(4))
	public := mustGear(f, GearParams{Min: 256, Avg: 1024, Max: 2500}, nil)
	keyed := mustGear(f, GearParams{Min: 300, Avg: 2048, Max: 4096}, randomBytes(32, 1))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		for _, g := range []*Gear{public, keyed} {
			whole := cuts(g, data)
			if diff := cmp.Diff(whole, fedCuts(t, g, data, rng)); diff != "" {
				t.Fatalf("cuts depend on the reads:\n%s", diff)
			}
			// What follows a chunk does not move its end.
			if len(whole) > 1 {
				n := whole[0]
				other := append(bytes.Clone(data[:n]), rows(int(cut), seed)...)
				if got := g.Next(other, false); got != n {
					t.Fatalf("first chunk of %d bytes is %d with other bytes behind it", n, got)
				}
			}
		}
	})
}
