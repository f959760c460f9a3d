//go:build !race

// Allocations are counted without the race detector only. It makes sync.Pool, in which zstd keeps its tables, drop what it
// holds at random, and makes slices.Grow allocate twice.

package chunk

import (
	"bytes"
	"runtime"
	"testing"
)

func TestSteadyStateAllocatesNothing(t *testing.T) {
	h, err := NewIdentifier(nil)
	if err != nil {
		t.Fatal(err)
	}
	keyed, err := NewIdentifier(randomBytes(KeySize, 1))
	if err != nil {
		t.Fatal(err)
	}
	for name, plain := range map[string][]byte{"rows": rows(256<<10, 1), "random": randomBytes(256<<10, 1), "short": rows(900, 1), "zeros": make([]byte, 1<<20)} {
		id, keyedID := h.Identify(plain), keyed.Identify(plain)
		check := func(what string, f func()) {
			t.Helper()
			f() // what is allocated once does not count
			if n := testing.AllocsPerRun(20, f); n != 0 {
				t.Errorf("%s, %s: %v allocations", name, what, n)
			}
		}
		check("Identify", func() { Identify(plain) })
		check("plain Verify", func() {
			if err := h.Verify(id, plain); err != nil {
				t.Fatal(err)
			}
		})
		check("keyed Verify", func() {
			if err := keyed.Verify(keyedID, plain); err != nil {
				t.Fatal(err)
			}
		})
		for _, policy := range []Policy{Balanced, Fast, Small} {
			e, d := mustEncoder(t, policy), mustDecoder(t)
			room := make([]byte, 0, EncodeRoom(len(plain)))
			check("Encode "+policy.String(), func() {
				if _, _, err := e.Encode(room, plain); err != nil {
					t.Fatal(err)
				}
			})
			pausing, err := NewEncoder(EncoderOptions{Policy: policy, Pause: func() {}})
			if err != nil {
				t.Fatal(err)
			}
			defer pausing.Close()
			withPauses := func() {
				if _, _, err := pausing.Encode(room, plain); err != nil {
					t.Fatal(err)
				}
			}
			withPauses()
			if n := testing.AllocsPerRun(20, withPauses); n > 1 { // the frame's header
				t.Errorf("%s, Encode with pauses %v: %v allocations", name, policy, n)
			}
			stored, codec, err := e.Encode(nil, plain)
			if err != nil {
				t.Fatal(err)
			}
			back := make([]byte, 0, len(plain))
			check("Decode "+policy.String(), func() {
				if _, err := d.Decode(back, codec, stored, len(plain)); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	data := rows(4<<20, 1)
	g := mustGear(t, GearParams{}, nil)
	var c Cutter = g
	if n := testing.AllocsPerRun(10, func() {
		for p := data; len(p) > 0; {
			p = p[c.Next(p, true):]
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestDecodeAllocatesNoMoreThanAsked gives hostile forms to a Decoder that has no room yet: what it allocates is bounded by
// the size asked for, never by what the form declares or holds.
func TestDecodeAllocatesNoMoreThanAsked(t *testing.T) {
	bomb := zstdFrame(t, make([]byte, 64<<20))
	for _, tt := range []struct {
		name   string
		codec  Codec
		stored []byte
		size   int
	}{
		{"64 MiB of zeros", Zstd, bomb, 1 << 20},
		{"64 MiB of zeros, asked for whole", Zstd, bomb, 64 << 20},
		{"zstd without a size", Zstd, append(unhex(t, "28 b5 2f fd 00 98"), bytes.Repeat(unhex(t, "02 00 10 00"), 500)...), 1 << 20},
		{"zstd of blocks beyond its size", Zstd, append(unhex(t, "28 b5 2f fd a0 00 00 02 00"), append(bytes.Repeat(unhex(t, "02 00 10 00"), 500), 1, 0, 0)...), 128 << 10},
		{"s2 declares 4 GiB", S2, unhex(t, "ff ff ff ff 0f 00"), 1 << 20},
		{"s2 declares right, holds nothing", S2, unhex(t, "80 80 40 00"), 1 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := mustDecoder(t)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := d.Decode(nil, tt.codec, tt.stored, tt.size)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatal("no error")
			}
			limit := uint64(min(tt.size, MaxSize) + 1<<20)
			if got := after.TotalAlloc - before.TotalAlloc; got > limit {
				t.Errorf("allocated %d bytes for a size of %d; error %v", got, tt.size, err)
			}
		})
	}
}
