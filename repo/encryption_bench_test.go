package repo

import (
	"fmt"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// BenchmarkSeal is what sealing adds to the encoding of a chunk, and BenchmarkOpenFrame to its
// decoding.
func BenchmarkSeal(b *testing.B) {
	k := newKeyring(newSecrets(), "r", [32]byte{})
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		plain := rowData(1, size)
		id := chunk.Identify(plain)
		for _, sealed := range []bool{false, true} {
			b.Run(fmt.Sprintf("size=%d/encode/sealed=%t", size, sealed), func(b *testing.B) {
				encoder, err := chunk.NewEncoder(chunk.EncoderOptions{})
				if err != nil {
					b.Fatal(err)
				}
				defer encoder.Close()
				p := packBuilder{}
				if sealed {
					p.keys = k
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					p.reset()
					p.reserve(chunk.EncodeRoom(size), 4<<20)
					start := p.begin()
					buf, codec, err := encoder.Encode(p.buf, plain)
					if err != nil {
						b.Fatal(err)
					}
					p.buf = buf
					p.add(id, start, size, codec)
				}
			})
		}
		b.Run(fmt.Sprintf("size=%d/seal", size), func(b *testing.B) {
			var context frameContext
			context.set(&id, uint32(size), chunk.Raw)
			buf := append(make([]byte, frameNonceSize, size+frameOverhead), plain...)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				k.sealFrame(buf, 0, &id, &context)
			}
		})
	}
}

func BenchmarkOpenFrame(b *testing.B) {
	k := newKeyring(newSecrets(), "r", [32]byte{})
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			plain := noiseData(1, size)
			id := chunk.Identify(plain)
			var context frameContext
			context.set(&id, uint32(size), chunk.Raw)
			sealed := k.sealFrame(append(make([]byte, frameNonceSize, size+frameOverhead), plain...), 0, &id, &context)
			room := make([]byte, 0, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.openFrame(room, sealed, &id, &context); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
