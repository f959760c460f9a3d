package chunk

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func mustEncoder(t testing.TB, policy Policy) *Encoder {
	t.Helper()
	e, err := NewEncoder(EncoderOptions{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func mustDecoder(t testing.TB) *Decoder {
	t.Helper()
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func TestNumbersAndNames(t *testing.T) {
	for _, tt := range []struct {
		got  fmt.Stringer
		n    int
		text string
	}{
		{Raw, 0, "raw"}, {S2, 1, "s2"}, {Zstd, 2, "zstd"}, {Delta, 3, "delta"}, {Codec(4), 4, "codec(4)"}, {Codec(255), 255, "codec(255)"},
		{Balanced, 0, "balanced"}, {Fast, 1, "fast"}, {Small, 2, "small"}, {Policy(3), 3, "policy(3)"},
	} {
		var n int
		switch v := tt.got.(type) {
		case Codec:
			n = int(v)
		case Policy:
			n = int(v)
		}
		if n != tt.n || tt.got.String() != tt.text {
			t.Errorf("%T %d is %q, want %d %q", tt.got, n, tt.got, tt.n, tt.text)
		}
	}
	var pe *ParamError
	if _, err := NewEncoder(EncoderOptions{Policy: 3}); !errors.As(err, &pe) || pe.Value != 3 {
		t.Errorf("policy 3: error %v, want a *ParamError", err)
	}
}

func TestEncodeRoundTrip(t *testing.T) {
	halfRandom := append(randomBytes(100_000, 1), rows(100_000, 1)...)
	twice := append(randomBytes(200_000, 2), randomBytes(200_000, 2)...)
	page := func(used int) []byte { return append(rows(used, 3), make([]byte, 65536-used)...) }
	for _, tt := range []struct {
		name  string
		plain []byte
		raw   bool // no policy should find anything to save
	}{
		{"one byte", []byte{7}, true},
		{"three bytes", []byte("abc"), true},
		{"32 equal bytes", bytes.Repeat([]byte{9}, 32), false},
		{"1,023 bytes of rows", rows(1023, 1), false},
		{"1,024 bytes of rows", rows(1024, 1), false},
		{"1,025 bytes of rows", rows(1025, 1), false},
		{"a page a tenth full", page(6500), false},
		{"a full page", page(65536), false},
		{"one block of zstd", rows(128<<10, 1), false},
		{"one block and a byte", rows(128<<10+1, 1), false},
		{"default average", rows(256<<10, 1), false},
		{"zeros", make([]byte, 1<<20), false},
		{"random", randomBytes(256<<10, 1), true},
		{"random of odd length", randomBytes(99_991, 1), true},
		{"half random", halfRandom, false},
		{"random twice", twice, false},
		{"as long as the window", rows(1<<20, 4), false},
		{"longer than the window", rows(1<<20+1, 4), false},
		{"random of the largest size", randomBytes(MaxSize, 4), true},
		{"rows of the largest size", rows(MaxSize, 4), false},
	} {
		for _, policy := range []Policy{Balanced, Fast, Small} {
			t.Run(tt.name+"/"+policy.String(), func(t *testing.T) {
				e, d := mustEncoder(t, policy), mustDecoder(t)
				before := bytes.Clone(tt.plain)
				head := []byte("what stands in front")
				out, codec, err := e.Encode(bytes.Clone(head), tt.plain)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(before, tt.plain) {
					t.Error("Encode changed its input")
				}
				if !bytes.HasPrefix(out, head) {
					t.Fatal("Encode changed what stood in dst")
				}
				stored := out[len(head):]
				switch {
				case codec == Raw && !bytes.Equal(stored, tt.plain):
					t.Error("raw form is not the plain bytes")
				case codec != Raw && len(stored)*32 > len(tt.plain)*31:
					t.Errorf("%v keeps %d of %d bytes: not worth it", codec, len(stored), len(tt.plain))
				}
				// Fast has no need to find a repeat this far away.
				if raw := codec == Raw; raw != tt.raw && !(tt.name == "random twice" && policy == Fast) {
					t.Errorf("%d bytes became %d of %v", len(tt.plain), len(stored), codec)
				}
				again, codec2, err := e.Encode(nil, tt.plain)
				if err != nil || codec2 != codec || !bytes.Equal(again, stored) {
					t.Errorf("encoded again: %d bytes of %v, error %v; first %d of %v", len(again), codec2, err, len(stored), codec)
				}
				back, err := d.Decode(bytes.Clone(head), codec, stored, len(tt.plain))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.HasPrefix(back, head) || !bytes.Equal(back[len(head):], tt.plain) {
					t.Error("decoded bytes differ")
				}
			})
		}
	}
}

func TestEncodeErrors(t *testing.T) {
	for _, policy := range []Policy{Balanced, Fast, Small} {
		e := mustEncoder(t, policy)
		dst := []byte("kept")
		for _, tt := range []struct {
			plain []byte
			want  error
		}{{nil, ErrEmpty}, {[]byte{}, ErrEmpty}, {make([]byte, MaxSize+1), ErrTooLarge}} {
			if out, _, err := e.Encode(dst, tt.plain); !errors.Is(err, tt.want) || string(out) != "kept" {
				t.Errorf("%v: %d bytes: %q, error %v; want %v", policy, len(tt.plain), out, err, tt.want)
			}
		}
		e.Close()
		e.Close()
		if out, _, err := e.Encode(dst, []byte("x")); !errors.Is(err, ErrClosed) || string(out) != "kept" {
			t.Errorf("%v after Close: %q, error %v", policy, out, err)
		}
	}
}

func FuzzEncodeRoundTrip(f *testing.F) {
	f.Add([]byte("a"), []byte("front"))
	f.Add(rows(3000, 1), []byte{})
	f.Add(randomBytes(3000, 1), randomBytes(5, 2))
	f.Add(make([]byte, 5000), []byte(nil))
	d := mustDecoder(f)
	encoders := []*Encoder{mustEncoder(f, Balanced), mustEncoder(f, Fast), mustEncoder(f, Small)}
	f.Fuzz(func(t *testing.T, plain, head []byte) {
		for _, e := range encoders {
			out, codec, err := e.Encode(bytes.Clone(head), plain)
			if len(plain) == 0 {
				if !errors.Is(err, ErrEmpty) {
					t.Fatalf("nothing to encode: %v", err)
				}
				continue
			}
			if err != nil || !bytes.HasPrefix(out, head) {
				t.Fatalf("Encode: %v", err)
			}
			stored := out[len(head):]
			if len(stored) > len(plain) || (codec == Raw) != (len(stored) == len(plain)) {
				t.Fatalf("%d bytes became %d of %v", len(plain), len(stored), codec)
			}
			back, err := d.Decode(bytes.Clone(head), codec, stored, len(plain))
			if err != nil || !bytes.Equal(back[len(head):], plain) || !bytes.HasPrefix(back, head) {
				t.Fatalf("%v: Decode: %v", codec, err)
			}
		}
	})
}
