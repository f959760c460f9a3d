package chunk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// pages returns n bytes of pages of 4 KiB, filled with rows to four fifths and zeros behind, and the offsets of the rows.
func pages(n int, seed uint64) (p []byte, rowsAt []int) {
	const page = 4096
	for at := 0; len(p) < n; at++ {
		used := rows(page*4/5, seed+uint64(at))
		for i := 0; i < len(used); i++ {
			if i == 0 || used[i-1] == '\n' {
				rowsAt = append(rowsAt, len(p)+i)
			}
		}
		p = append(append(p, used...), make([]byte, page-len(used))...)
	}
	return p[:n], rowsAt
}

// edit changes a share of the rows of pages in place, as an update of some columns does.
func edit(p []byte, rowsAt []int, share float64, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 3))
	p = bytes.Clone(p)
	for _, at := range rowsAt {
		if rng.Float64() >= share || at+120 > len(p) {
			continue
		}
		for i := at + 60; i < at+84; i++ {
			p[i] = 'a' + byte(rng.IntN(26))
		}
	}
	return p
}

func TestDeltaRoundTrip(t *testing.T) {
	page, rowsAt := pages(64<<10, 1)
	inserted := append(bytes.Clone(page[:9000]), append([]byte("a row more, in the middle of a page"), page[9000:]...)...)
	large, largeRows := pages(1<<20, 2)
	for _, tt := range []struct {
		name        string
		plain, base []byte
		most        int // bytes, at most
	}{
		{"one byte changed", edit(page, rowsAt[5:6], 1, 1), page, 150},
		{"1 % of rows", edit(page, rowsAt, .01, 1), page, 1000},
		{"20 % of rows", edit(page, rowsAt, .2, 1), page, 8000},
		{"the same", page, page, 100},
		{"shifted by an insertion", inserted, page, 300},
		{"longer than the base", append(bytes.Clone(page), rows(3000, 9)...), page, 2500},
		{"shorter than the base", page[:5000], page, 100},
		{"a base of one byte", rows(3000, 2), []byte{1}, 2900},
		{"a page of a mebibyte", edit(large, largeRows, .01, 1), large, 20_000},
		{"random, changed at one place", append(randomBytes(30_000, 1), append([]byte("here"), randomBytes(30_000, 2)...)...), append(randomBytes(30_000, 1), randomBytes(30_001, 2)...), 200},
		{"a base of zeros", page, make([]byte, len(page)), 40_000},
		{"three blocks", edit(large, largeRows, .2, 4)[:300_000], large[:290_000], 40_000},
	} {
		for _, policy := range []Policy{Balanced, Fast, Small} {
			t.Run(fmt.Sprint(tt.name, "/", policy), func(t *testing.T) {
				e, d := mustEncoder(t, policy), mustDecoder(t)
				baseID := Identify(tt.base)
				stored, ok, err := e.EncodeDelta([]byte("in front"), tt.plain, baseID, tt.base)
				if err != nil || !ok || string(stored[:8]) != "in front" {
					t.Fatal(ok, err)
				}
				stored = stored[8:]
				if len(stored) > tt.most || len(stored) >= len(tt.plain) {
					t.Errorf("%d bytes, want at most %d", len(stored), tt.most)
				}
				if got, ok := DeltaBase(stored); !ok || got != baseID {
					t.Errorf("base %v, want %v", got, baseID)
				}
				for range 2 { // the second time with what the first one left behind
					back, err := d.DecodeDelta([]byte("x"), stored, tt.base, len(tt.plain))
					if err != nil || string(back[1:]) != string(tt.plain) || back[0] != 'x' {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

// One Encoder and one Decoder go through many bases, with full chunks in between: nothing of one is left in the next.
func TestDeltaManyBases(t *testing.T) {
	e, d := mustEncoder(t, Balanced), mustDecoder(t)
	rng := rand.New(rand.NewPCG(5, 5))
	for n := range 60 {
		base, rowsAt := pages(1+rng.IntN(200_000), uint64(n))
		plain := edit(base, rowsAt, rng.Float64()/10, uint64(n))
		plain = plain[:1+rng.IntN(len(plain))]
		stored, ok, err := e.EncodeDelta(nil, plain, Identify(base), base)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if back, err := d.DecodeDelta(nil, stored, base, len(plain)); err != nil || !bytes.Equal(back, plain) {
				t.Fatalf("chunk %d of %d bytes: %v", n, len(plain), err)
			}
		}
		full, codec, err := e.Encode(nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := d.Decode(nil, codec, full, len(plain)); err != nil || !bytes.Equal(back, plain) {
			t.Fatalf("chunk %d of %d bytes in full: %v", n, len(plain), err)
		}
	}
}

func TestEncodeDeltaRefuses(t *testing.T) {
	e := mustEncoder(t, Fast)
	large := make([]byte, MaxSize+1)
	for _, tt := range []struct {
		plain, base []byte
		want        error
	}{
		{nil, []byte("x"), ErrEmpty}, {[]byte("x"), nil, ErrEmpty}, {large, []byte("x"), ErrTooLarge}, {[]byte("x"), large, ErrTooLarge},
	} {
		if out, ok, err := e.EncodeDelta([]byte("kept"), tt.plain, ID{}, tt.base); !errors.Is(err, tt.want) || ok || string(out) != "kept" {
			t.Errorf("%d and %d bytes: %q %v %v", len(tt.plain), len(tt.base), out, ok, err)
		}
	}
	for _, plain := range [][]byte{{7}, []byte("short"), randomBytes(70_000, 3)} {
		if out, ok, err := e.EncodeDelta([]byte("kept"), plain, ID{1}, rows(70_000, 1)); err != nil || ok || string(out) != "kept" {
			t.Errorf("%d bytes that have nothing of the base: %v %v, %d bytes", len(plain), ok, err, len(out))
		}
	}
	e.Close()
	if _, _, err := e.EncodeDelta(nil, []byte("x"), ID{}, []byte("y")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// sampleDelta is a chunk, its base, and the stored form of the one against the other.
func sampleDelta(t testing.TB) (plain, base, stored []byte) {
	t.Helper()
	base, rowsAt := pages(20_000, 3)
	plain = edit(base, rowsAt, .1, 3)
	stored, ok, err := mustEncoder(t, Balanced).EncodeDelta(nil, plain, Identify(base), base)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return plain, base, stored
}

func TestDecodeDeltaRefuses(t *testing.T) {
	plain, base, good := sampleDelta(t)
	size := len(plain)
	head := func(frame []byte) []byte { return append(bytes.Clone(good[:deltaHead]), frame...) }
	frame := good[deltaHead:]
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tt := range []struct {
		name         string
		stored, base []byte
		size         int
		want         error
	}{
		{"empty", nil, base, size, ErrCorrupt},
		{"an ID alone", good[:deltaHead], base, size, ErrCorrupt},
		{"part of an ID", good[:7], base, size, ErrCorrupt},
		{"without the ID", frame, base, size, ErrCorrupt},
		{"cut off", good[:len(good)-1], base, size, ErrCorrupt},
		{"a byte behind", join(good, []byte{0}), base, size, ErrCorrupt},
		{"two frames", join(good, frame), base, size, ErrCorrupt},
		{"a frame of nothing behind", join(good, zstdFrame(t, nil, zstd.WithZeroFrames(true))), base, size, ErrCorrupt},
		{"declares more", good, base, size - 1, ErrCorrupt},
		{"declares less", good, base, size + 1, ErrCorrupt},
		{"not shorter", good, base, len(good), ErrCorrupt},
		{"wants a dictionary by ID", head(zstdFrame(t, plain, zstd.WithEncoderDictRaw(77, base))), base, size, ErrCorrupt},
		{"a skippable frame", head(join(unhex(t, "50 2a 4d 18 04 00 00 00"), []byte("junk"))), base, size, ErrCorrupt},
		{"a base that is too short", good, base[:10], size, ErrCorrupt},
		{"bomb", head(unhex(t, "28 b5 2f fd a0 e8 03 00 00 03 00 10 7a")), base, 1000, ErrCorrupt},
		{"no base", good, nil, size, ErrEmpty},
		{"no size", good, base, 0, ErrEmpty},
		{"negative size", good, base, -1, ErrEmpty},
		{"size above the limit", good, base, MaxSize + 1, ErrTooLarge},
		{"base above the limit", good, make([]byte, MaxSize+1), size, ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := mustDecoder(t)
			out, err := d.DecodeDelta([]byte("kept"), tt.stored, tt.base, tt.size)
			var de *DecodeError
			if !errors.As(err, &de) || !errors.Is(err, tt.want) || errors.Is(err, ErrCorrupt) != (tt.want == ErrCorrupt) || string(out) != "kept" {
				t.Fatalf("error %v with %q, want a *DecodeError that is %v", err, out, tt.want)
			}
			if de.Codec != Delta || de.StoredLen != len(tt.stored) || de.Want != tt.size {
				t.Errorf("error names %+v", de)
			}
			if back, err := d.DecodeDelta(nil, good, base, size); err != nil || !bytes.Equal(back, plain) {
				t.Errorf("after the failure: %v", err)
			}
		})
	}
	d := mustDecoder(t)
	if _, err := d.DecodeDelta(nil, good, base, size); err != nil {
		t.Fatal(err)
	}
	// A frame that reaches behind its own start is damage to Decode, also after a base was there.
	if out, err := d.Decode(nil, Zstd, frame, size); err == nil && bytes.Equal(out, plain) {
		t.Error("Decode used the base of an earlier call")
	}
	d.Close()
	if _, err := d.DecodeDelta(nil, good, base, size); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func FuzzDecodeDelta(f *testing.F) {
	plain, base, stored := sampleDelta(f)
	f.Add(stored, base, len(plain))
	f.Add(stored, base[:100], len(plain))
	f.Add(stored[:deltaHead+9], base, len(plain))
	f.Add(append(bytes.Clone(stored[:deltaHead]), zstdFrame(f, make([]byte, 100_000))...), []byte{0}, 100_000)
	f.Add([]byte{}, []byte{}, -1)
	d := mustDecoder(f)
	f.Fuzz(func(t *testing.T, stored, base []byte, size int) {
		const head, tail = "front", "behind"
		dst := []byte(head)
		room := 0
		if 0 < size && size <= 1<<16 { // with the room given, and live bytes behind it
			room = size
			dst = append(append(dst, make([]byte, room)...), tail...)[:len(head)]
		}
		before := bytes.Clone(base)
		out, err := d.DecodeDelta(dst, stored, base, size)
		var de *DecodeError
		switch {
		case string(out[:len(head)]) != head || room > 0 && string(dst[len(head)+room:len(head)+room+len(tail)]) != tail:
			t.Fatal("bytes around the decoded ones changed")
		case !bytes.Equal(base, before):
			t.Fatal("the base changed")
		case err != nil && (!errors.As(err, &de) || len(out) != len(head)):
			t.Fatalf("error %v with %d bytes", err, len(out))
		case err == nil && (len(out) != len(head)+size || size < 1 || size > MaxSize || len(base) == 0):
			t.Fatalf("size %d: %d bytes without an error", size, len(out)-len(head))
		case err == nil && cap(out) > 2*(len(head)+size)+64:
			t.Fatalf("capacity of %d for %d bytes", cap(out), size)
		}
		if err != nil {
			return
		}
		again, err := d.DecodeDelta(nil, stored, base, size)
		if err != nil || !bytes.Equal(again, out[len(head):]) {
			t.Fatalf("decoded again: %v", err)
		}
	})
}

func BenchmarkEncodeDelta(b *testing.B) {
	base, rowsAt := pages(64<<10, 1)
	id := Identify(base)
	for _, percent := range []int{1, 5, 20} {
		plain := edit(base, rowsAt, float64(percent)/100, 7)
		b.Run(fmt.Sprintf("rows=%d%%", percent), func(b *testing.B) {
			e := mustEncoder(b, Balanced)
			dst := make([]byte, 0, deltaHead+EncodeRoom(len(plain)))
			full, _, err := e.Encode(dst, plain)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			stored := 0
			for b.Loop() {
				out, ok, err := e.EncodeDelta(dst, plain, id, base)
				if err != nil || !ok {
					b.Fatal(ok, err)
				}
				stored = len(out)
			}
			b.ReportMetric(float64(stored), "B-stored")
			b.ReportMetric(float64(len(full)), "B-in-full")
		})
	}
}

func BenchmarkDecodeDelta(b *testing.B) {
	base, rowsAt := pages(64<<10, 1)
	for _, percent := range []int{1, 5, 20} {
		plain := edit(base, rowsAt, float64(percent)/100, 7)
		b.Run(fmt.Sprintf("rows=%d%%", percent), func(b *testing.B) {
			stored, ok, err := mustEncoder(b, Balanced).EncodeDelta(nil, plain, Identify(base), base)
			if err != nil || !ok {
				b.Fatal(ok, err)
			}
			d := mustDecoder(b)
			dst := make([]byte, 0, len(plain))
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.DecodeDelta(dst, stored, base, len(plain)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
