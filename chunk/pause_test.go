package chunk

import (
	"bytes"
	"fmt"
	"testing"
)

func TestPauses(t *testing.T) {
	for _, policy := range []Policy{Balanced, Fast, Small} {
		pauses := 0
		e, err := NewEncoder(EncoderOptions{Policy: policy, Pause: func() { pauses++ }})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		without, d := mustEncoder(t, policy), mustDecoder(t)
		for _, size := range []int{1, 1000, 64 << 10, zstdBlock, zstdBlock + 1, 3*zstdBlock - 1, 3 * zstdBlock, 1 << 20, 1<<20 + 1, MaxSize} {
			t.Run(fmt.Sprintf("%v/%d", policy, size), func(t *testing.T) {
				pauses = 0
				plain := rows(size, 5)
				head := []byte("what is there already")
				stored, codec, err := e.Encode(head, plain)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.HasPrefix(stored, head) {
					t.Fatal("what was there already is gone")
				}
				stored = stored[len(head):]
				if got, err := d.Decode(nil, codec, stored, size); err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("%d bytes did not come back: %v", size, err)
				}
				want := 0
				if policy != Fast && size > zstdBlock {
					want = (size + zstdBlock - 1) / zstdBlock
				}
				if pauses != want {
					t.Errorf("%d pauses, want %d", pauses, want)
				}
				alone, _, err := without.Encode(nil, plain)
				if err != nil {
					t.Fatal(err)
				}
				// A window size, and an empty block at the end.
				if more := len(stored) - len(alone); more > 8+len(alone)/500 {
					t.Errorf("%d bytes with pauses, %d without", len(stored), len(alone))
				}
			})
		}
	}
}

// A pausing Encoder stores what does not compress as it is, too, and is fit for use
// after that.
func TestPausesOfIncompressible(t *testing.T) {
	e, err := NewEncoder(EncoderOptions{Pause: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	d := mustDecoder(t)
	hardly := append(randomBytes(1<<20-9<<10, 1), rows(9<<10, 1)...) // too little for the estimate to see, or to gain from
	for range 2 {
		stored, codec, err := e.Encode(nil, hardly)
		if err != nil || codec != Raw || !bytes.Equal(stored, hardly) {
			t.Fatalf("%v, %d bytes, %v", codec, len(stored), err)
		}
		plain := rows(1<<20, 2)
		if stored, codec, err = e.Encode(nil, plain); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Decode(nil, codec, stored, len(plain)); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("rows did not come back: %v", err)
		}
	}
}
