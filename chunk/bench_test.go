package chunk

import (
	"fmt"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"
)

// benchData are what every benchmark here runs over.
func benchData(size int) map[string][]byte {
	return map[string][]byte{"rows": rows(size, 1), "random": randomBytes(size, 1)}
}

// pieces splits data as the default chunk size would.
func pieces(data []byte) (out [][]byte) {
	for len(data) > 0 {
		n := min(len(data), DefaultGearAvg)
		out, data = append(out, data[:n]), data[n:]
	}
	return out
}

func BenchmarkCut(b *testing.B) {
	for name, data := range benchData(16 << 20) {
		for _, avg := range []int{64 << 10, DefaultGearAvg} {
			gear, err := NewGear(GearParams{Avg: avg}, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/avg=%dKiB", name, avg>>10), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				chunks := 0
				for b.Loop() {
					chunks = 0
					for p := data; len(p) > 0; chunks++ {
						p = p[gear.Next(p, true):]
					}
				}
				b.ReportMetric(float64(len(data)/chunks), "B/chunk")
			})
		}
	}
}

func BenchmarkIdentify(b *testing.B) {
	keyed, err := NewIdentifier(randomBytes(KeySize, 9))
	if err != nil {
		b.Fatal(err)
	}
	chunks := pieces(rows(8<<20, 1))
	run := func(name string, identify func(p []byte) ID) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(8 << 20)
			b.ReportAllocs()
			for b.Loop() {
				for _, p := range chunks {
					identify(p)
				}
			}
		})
	}
	run("plain", Identify)
	run("keyed", keyed.Identify)
	run("peer=zeebo", func(p []byte) ID {
		h := blake3.New()
		h.Write(p)
		var id ID
		h.Sum(id[:0])
		return id
	})
}

func BenchmarkEncode(b *testing.B) {
	for name, data := range benchData(8 << 20) {
		chunks := pieces(data)
		run := func(who string, encode func(dst, p []byte) []byte) {
			b.Run(name+"/"+who, func(b *testing.B) {
				dst := make([]byte, 0, EncodeRoom(DefaultGearAvg))
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				stored := 0
				for b.Loop() {
					stored = 0
					for _, p := range chunks {
						stored += len(encode(dst, p))
					}
				}
				b.ReportMetric(float64(stored)/float64(len(data)), "stored/raw")
			})
		}
		for _, policy := range []Policy{Balanced, Fast, Small} {
			enc, err := NewEncoder(EncoderOptions{Policy: policy})
			if err != nil {
				b.Fatal(err)
			}
			run(policy.String(), func(dst, p []byte) []byte {
				out, _, err := enc.Encode(dst, p)
				if err != nil {
					b.Fatal(err)
				}
				return out
			})
			enc.Close()
		}
		peer, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			b.Fatal(err)
		}
		run("peer=zstd-fastest", func(dst, p []byte) []byte { return peer.EncodeAll(p, dst) })
		peer.Close()
	}
}

func BenchmarkDecode(b *testing.B) {
	chunks := pieces(rows(8<<20, 1))
	for _, policy := range []Policy{Balanced, Fast, Small} {
		enc, err := NewEncoder(EncoderOptions{Policy: policy})
		if err != nil {
			b.Fatal(err)
		}
		stored, codecs := make([][]byte, len(chunks)), make([]Codec, len(chunks))
		for i, p := range chunks {
			if stored[i], codecs[i], err = enc.Encode(nil, p); err != nil {
				b.Fatal(err)
			}
		}
		enc.Close()
		run := func(who string, decode func(dst []byte, i int) error) {
			b.Run(who, func(b *testing.B) {
				dst := make([]byte, 0, DefaultGearAvg+64)
				b.SetBytes(8 << 20)
				b.ReportAllocs()
				for b.Loop() {
					for i := range chunks {
						if err := decode(dst, i); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
		dec, err := NewDecoder()
		if err != nil {
			b.Fatal(err)
		}
		run(policy.String(), func(dst []byte, i int) error {
			_, err := dec.Decode(dst, codecs[i], stored[i], len(chunks[i]))
			return err
		})
		dec.Close()
		if policy == Balanced {
			peer, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
			if err != nil {
				b.Fatal(err)
			}
			run("peer=zstd", func(dst []byte, i int) error {
				_, err := peer.DecodeAll(stored[i], dst)
				return err
			})
			peer.Close()
		}
	}
}
