package chunk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// zstdFrame returns plain as zstd's own options would store it.
func zstdFrame(t testing.TB, plain []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(plain, nil)
}

// unhex reads hexadecimal digits with blanks between them.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDecodeRefuses(t *testing.T) {
	plain := rows(200_000, 5)
	size := len(plain)
	good := zstdFrame(t, plain, zstd.WithEncoderCRC(false))
	crc := zstdFrame(t, plain, zstd.WithEncoderCRC(true))
	block := s2.Encode(nil, plain)
	flip := func(p []byte, at int) []byte {
		p = bytes.Clone(p)
		p[at] ^= 0x10
		return p
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	small := rows(1000, 1)
	skippable := join(unhex(t, "50 2a 4d 18 04 00 00 00"), []byte("junk"))
	// A frame without its content size: magic, descriptor 0, a window of 1 MiB, then one last RLE block.
	noSize := func(n int) []byte {
		return binary.LittleEndian.AppendUint32(unhex(t, "28 b5 2f fd 00 50"), uint32(n<<3|1<<1|1)|'z'<<24)
	}
	// A frame that declares size bytes in one segment and holds an RLE block of n.
	rle := func(declared uint32, n int) []byte {
		p := binary.LittleEndian.AppendUint32(unhex(t, "28 b5 2f fd a0"), declared)
		return binary.LittleEndian.AppendUint32(p, uint32(n<<3|1<<1|1)|'z'<<24)
	}
	for _, tt := range []struct {
		name   string
		codec  Codec
		stored []byte
		size   int
		want   error
	}{
		{"raw short by one", Raw, plain[1:], size, ErrCorrupt},
		{"raw long by one", Raw, plain, size - 1, ErrCorrupt},
		{"raw empty", Raw, nil, 0, ErrEmpty},
		{"negative size", Zstd, good, -1, ErrEmpty},
		{"size above the limit", Zstd, good, MaxSize + 1, ErrTooLarge},
		{"huge size", S2, block, math.MaxInt, ErrTooLarge},
		{"unknown codec", 4, good, size, ErrUnknownCodec},
		{"delta without its base", Delta, good, size, ErrNeedsBase},
		{"last codec", 255, plain, size, ErrUnknownCodec},
		{"s2 empty", S2, nil, size, ErrCorrupt},
		{"s2 declares more", S2, block, size - 1, ErrCorrupt},
		{"s2 declares less", S2, block, size + 1, ErrCorrupt},
		{"s2 cut off", S2, block[:len(block)-1], size, ErrCorrupt},
		{"s2 with a byte behind", S2, join(block, []byte{0}), size, ErrCorrupt},
		{"s2 declares 4 GiB", S2, unhex(t, "ff ff ff ff 0f 00"), MaxSize, ErrCorrupt},
		{"s2 length never ends", S2, bytes.Repeat([]byte{0xff}, 20), 100, ErrCorrupt},
		{"s2 longer than plain", S2, s2.Encode(nil, randomBytes(1000, 1)), 1000, ErrCorrupt},
		{"zstd read as s2", S2, good, size, ErrCorrupt},
		{"s2 read as zstd", Zstd, block, size, ErrCorrupt},
		{"zstd empty", Zstd, nil, size, ErrCorrupt},
		{"zstd magic only", Zstd, good[:4], size, ErrCorrupt},
		{"zstd header only", Zstd, good[:9], size, ErrCorrupt},
		{"zstd cut off", Zstd, good[:len(good)-1], size, ErrCorrupt},
		{"zstd with a byte behind", Zstd, join(good, []byte{0}), size, ErrCorrupt},
		{"zstd declares more", Zstd, good, size - 1, ErrCorrupt},
		{"zstd declares less", Zstd, good, size + 1, ErrCorrupt},
		{"two frames", Zstd, join(zstdFrame(t, small), zstdFrame(t, small)), 2000, ErrCorrupt},
		{"two frames, size of the first", Zstd, join(zstdFrame(t, small), zstdFrame(t, small)), 1000, ErrCorrupt},
		{"skippable frame in front", Zstd, join(skippable, good), size, ErrCorrupt},
		{"skippable frame behind", Zstd, join(good, skippable), size, ErrCorrupt},
		{"only a skippable frame", Zstd, skippable, 100, ErrCorrupt},
		{"bad checksum", Zstd, flip(crc, len(crc)-1), size, ErrCorrupt},
		{"checksum cut off", Zstd, crc[:len(crc)-4], size, ErrCorrupt},
		{"wants a dictionary", Zstd, zstdFrame(t, plain, zstd.WithEncoderDictRaw(77, plain[:5000])), size, ErrCorrupt},
		{"no content size", Zstd, noSize(1000), 1000, ErrCorrupt},
		{"bomb: declares 1,000, holds 128 KiB", Zstd, rle(1000, 128<<10), 1000, ErrCorrupt},
		{"bomb: declares 2 GiB", Zstd, rle(1<<31, 128<<10), MaxSize, ErrCorrupt},
		{"declares 128 KiB, holds 1,000", Zstd, rle(128<<10, 1000), 128 << 10, ErrCorrupt},
		{"reserved block type", Zstd, unhex(t, "28 b5 2f fd 20 64 07 00 00"), 100, ErrCorrupt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := mustDecoder(t)
			dst := append(make([]byte, 0, 100), "kept"...)
			out, err := d.Decode(dst, tt.codec, tt.stored, tt.size)
			var de *DecodeError
			if !errors.As(err, &de) || !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want a *DecodeError that is %v", err, tt.want)
			}
			if errors.Is(err, ErrCorrupt) != (tt.want == ErrCorrupt) {
				t.Errorf("error %v is ErrCorrupt: %v", err, errors.Is(err, ErrCorrupt))
			}
			if de.Codec != tt.codec || de.StoredLen != len(tt.stored) || de.Want != tt.size || de.Err == nil {
				t.Errorf("error names %+v", de)
			}
			if string(out) != "kept" {
				t.Errorf("dst came back as %q", out)
			}
			// The Decoder must go on working after any failure.
			if back, err := d.Decode(nil, Zstd, good, size); err != nil || !bytes.Equal(back, plain) {
				t.Errorf("after the failure: %v", err)
			}
		})
	}
	// The harmless twins of some of the above.
	for _, tt := range []struct {
		name   string
		stored []byte
		want   []byte
	}{
		{"with a checksum", crc, plain},
		{"one repeated byte", rle(1000, 1000), bytes.Repeat([]byte("z"), 1000)},
		{"in a window of 8 MiB", zstdFrame(t, plain, zstd.WithWindowSize(8<<20), zstd.WithSingleSegment(false)), plain},
	} {
		if out, err := mustDecoder(t).Decode(nil, Zstd, tt.stored, len(tt.want)); err != nil || !bytes.Equal(out, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	d := mustDecoder(t)
	d.Close()
	d.Close()
	if _, err := d.Decode(nil, Raw, plain, size); !errors.Is(err, ErrClosed) || errors.Is(err, ErrCorrupt) {
		t.Errorf("after Close: %v", err)
	}
}

// TestDecodeFlippedBits flips every bit of small stored forms: the answer is an error, or exactly size bytes that only the
// identity can tell from the right ones.
func TestDecodeFlippedBits(t *testing.T) {
	plain := rows(700, 8)
	id := Identify(plain)
	h, err := NewIdentifier(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := mustDecoder(t)
	for _, policy := range []Policy{Balanced, Fast, Small} {
		stored, codec, err := mustEncoder(t, policy).Encode(nil, plain)
		if err != nil || codec == Raw {
			t.Fatal(codec, err)
		}
		same := 0
		for bit := range 8 * len(stored) {
			bad := bytes.Clone(stored)
			bad[bit/8] ^= 1 << (bit % 8)
			out, err := d.Decode(nil, codec, bad, len(plain))
			if err == nil && len(out) != len(plain) {
				t.Fatalf("%v, bit %d: %d bytes without an error", codec, bit, len(out))
			}
			if err == nil && h.Verify(id, out) == nil {
				same++ // some bits of an encoding carry nothing
			}
		}
		if same*50 > 8*len(stored) {
			t.Errorf("%v: %d of %d bits make no difference", codec, same, 8*len(stored))
		}
	}
}

// TestDecodeTouchesNoNeighbour decodes into the middle of a buffer with live bytes on both sides.
func TestDecodeTouchesNoNeighbour(t *testing.T) {
	plain := rows(150_001, 6)
	for _, policy := range []Policy{Balanced, Fast, Small} {
		stored, codec, err := mustEncoder(t, policy).Encode(nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		d := mustDecoder(t)
		buf := randomBytes(len(plain)+2000, 1)
		want := bytes.Clone(buf)
		copy(want[1000:], plain)
		out, err := d.Decode(buf[:1000], codec, stored, len(plain))
		if err != nil {
			t.Fatal(err)
		}
		if &out[0] != &buf[0] || len(out) != 1000+len(plain) {
			t.Errorf("%v: %d bytes, not decoded in place", policy, len(out))
		}
		if !bytes.Equal(buf, want) {
			t.Errorf("%v: bytes around the decoded ones changed", policy)
		}
		// The same of a damaged form.
		copy(want[1000:], buf[1000:1000+len(plain)])
		for at := 20; at < len(stored); at += 1501 {
			bad := bytes.Clone(stored)
			bad[at] ^= 0xff
			d.Decode(buf[:1000], codec, bad, len(plain))
			if !bytes.Equal(buf[:1000], want[:1000]) || !bytes.Equal(buf[1000+len(plain):], want[1000+len(plain):]) {
				t.Fatalf("%v: damage at byte %d spilled over the neighbours", policy, at)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	plain := rows(2000, 1)
	f.Add(uint8(Raw), plain, len(plain))
	f.Add(uint8(S2), s2.Encode(nil, plain), len(plain))
	f.Add(uint8(Zstd), zstdFrame(f, plain), len(plain))
	f.Add(uint8(Zstd), zstdFrame(f, plain, zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false)), len(plain))
	f.Add(uint8(9), []byte{}, -5)
	f.Add(uint8(Zstd), zstdFrame(f, make([]byte, 100_000)), MaxSize)
	d := mustDecoder(f)
	f.Fuzz(func(t *testing.T, codec uint8, stored []byte, size int) {
		const head, tail = "front", "behind"
		dst := []byte(head)
		room := 0
		if 0 < size && size <= 1<<16 { // with the room given, and live bytes behind it
			room = size
			dst = append(append(dst, make([]byte, room)...), tail...)[:len(head)]
		}
		out, err := d.Decode(dst, Codec(codec), stored, size)
		if string(out[:len(head)]) != head {
			t.Fatal("what stood in dst changed")
		}
		if room > 0 && string(dst[len(head)+room:len(head)+room+len(tail)]) != tail {
			t.Fatal("what stood behind the room changed")
		}
		var de *DecodeError
		switch {
		case err != nil && (!errors.As(err, &de) || len(out) != len(head)):
			t.Fatalf("error %v with %d bytes", err, len(out))
		case err == nil && (len(out) != len(head)+size || size < 1 || size > MaxSize || codec > 2):
			t.Fatalf("codec %d, size %d: %d bytes without an error", codec, size, len(out)-len(head))
		case err == nil && cap(out) > 2*(len(head)+size)+64:
			t.Fatalf("capacity of %d for %d bytes", cap(out), size)
		}
		if err != nil {
			return
		}
		// What decodes once decodes to the same again, whatever the Decoder did in between.
		again, err := d.Decode(nil, Codec(codec), stored, size)
		if err != nil || !bytes.Equal(again, out[len(head):]) {
			t.Fatalf("decoded again: %v", err)
		}
	})
}
