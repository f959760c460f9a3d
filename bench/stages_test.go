package bench

import (
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/holdstill/holdstill/bench/rows"
	"github.com/holdstill/holdstill/chunk"
)

// stageSize is how much each stage works on: more than the caches next to a core
// hold, so that memory is part of the figure, as it is in a snapshot.
const stageSize = 16 << 20

// stageChunk is the chunk size of the stages that get their chunks ready cut, in
// bytes. It is the average of the default cutter.
const stageChunk = chunk.DefaultGearAvg

// eachKind runs the benchmark for every kind of file.
func eachKind(b *testing.B, run func(b *testing.B, data []byte)) {
	for _, kind := range rows.Kinds() {
		b.Run(kind.Name, func(b *testing.B) {
			data := make([]byte, stageSize)
			kind.Fill(data, 1)
			run(b, data)
		})
	}
}

// measure runs one sub-benchmark over data, once a loop.
func measure(b *testing.B, name string, data []byte, once func() error) {
	b.Run(name, func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if err := once(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCut(b *testing.B) {
	eachKind(b, func(b *testing.B, data []byte) {
		for _, c := range []struct {
			name   string
			params chunk.GearParams
		}{
			{"gear-64K", chunk.GearParams{Min: 16 << 10, Avg: 64 << 10, Max: 256 << 10}},
			{"gear-256K", chunk.GearParams{}},
		} {
			gear, err := chunk.NewGear(c.params, nil)
			if err != nil {
				b.Fatal(err)
			}
			measure(b, c.name, data, func() error {
				for p := data; len(p) > 0; {
					p = p[gear.Next(p, true):]
				}
				return nil
			})
		}
	})
}

func BenchmarkIdentify(b *testing.B) {
	eachKind(b, func(b *testing.B, data []byte) {
		id, err := chunk.NewIdentifier(nil)
		if err != nil {
			b.Fatal(err)
		}
		keyed, err := chunk.NewIdentifier(data[:chunk.KeySize])
		if err != nil {
			b.Fatal(err)
		}
		chunks := slices.Collect(slices.Chunk(data, stageChunk))
		measure(b, "holdstill", data, func() error {
			for _, p := range chunks {
				id.Identify(p)
			}
			return nil
		})
		measure(b, "holdstill-keyed", data, func() error {
			for _, p := range chunks {
				keyed.Identify(p)
			}
			return nil
		})
		measure(b, "blake3", data, func() error {
			for _, p := range chunks {
				blake3.Sum256(p)
			}
			return nil
		})
	})
}

var policies = []chunk.Policy{chunk.Balanced, chunk.Fast, chunk.Small}

func BenchmarkEncode(b *testing.B) {
	eachKind(b, func(b *testing.B, data []byte) {
		chunks := slices.Collect(slices.Chunk(data, stageChunk))
		dst := make([]byte, 0, chunk.EncodeRoom(stageChunk))
		for _, policy := range policies {
			enc, err := chunk.NewEncoder(chunk.EncoderOptions{Policy: policy})
			if err != nil {
				b.Fatal(err)
			}
			defer enc.Close()
			stored := 0
			encodeAll := func() error {
				stored = 0
				for _, p := range chunks {
					out, _, err := enc.Encode(dst, p)
					if err != nil {
						return err
					}
					stored += len(out)
				}
				return nil
			}
			measureRatio(b, policy.String(), data, &stored, encodeAll)
		}
		plain, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
		if err != nil {
			b.Fatal(err)
		}
		defer plain.Close()
		stored := 0
		measureRatio(b, "zstd-fastest", data, &stored, func() error {
			stored = 0
			for _, p := range chunks {
				stored += len(plain.EncodeAll(p, dst))
			}
			return nil
		})
	})
}

// measureRatio is measure with the share of data that is stored, as "ratio".
func measureRatio(b *testing.B, name string, data []byte, stored *int, once func() error) {
	b.Run(name, func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if err := once(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(*stored)/float64(len(data)), "ratio")
	})
}

func BenchmarkDecode(b *testing.B) {
	eachKind(b, func(b *testing.B, data []byte) {
		chunks := slices.Collect(slices.Chunk(data, stageChunk))
		dst := make([]byte, 0, stageChunk)
		dec, err := chunk.NewDecoder()
		if err != nil {
			b.Fatal(err)
		}
		defer dec.Close()
		for _, policy := range policies {
			codecs, stored := encodeChunks(b, policy, chunks)
			measure(b, policy.String(), data, func() error {
				for i, s := range stored {
					if _, err := dec.Decode(dst, codecs[i], s, len(chunks[i])); err != nil {
						return err
					}
				}
				return nil
			})
		}
		plain, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
		if err != nil {
			b.Fatal(err)
		}
		defer plain.Close()
		peer, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			b.Fatal(err)
		}
		defer peer.Close()
		var frames [][]byte
		for _, p := range chunks {
			frames = append(frames, plain.EncodeAll(p, nil))
		}
		measure(b, "zstd-fastest", data, func() error {
			for _, f := range frames {
				if _, err := peer.DecodeAll(f, dst); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func encodeChunks(tb testing.TB, policy chunk.Policy, chunks [][]byte) (codecs []chunk.Codec, stored [][]byte) {
	tb.Helper()
	enc, err := chunk.NewEncoder(chunk.EncoderOptions{Policy: policy})
	if err != nil {
		tb.Fatal(err)
	}
	defer enc.Close()
	for _, p := range chunks {
		out, codec, err := enc.Encode(nil, p)
		if err != nil {
			tb.Fatal(err)
		}
		codecs, stored = append(codecs, codec), append(stored, out)
	}
	return codecs, stored
}

// The stages together must give back what went in, for every kind of file: what
// the benchmarks measure is the real work.
func TestStages(t *testing.T) {
	gear, err := chunk.NewGear(chunk.GearParams{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := chunk.NewIdentifier(nil)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := chunk.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	for _, kind := range rows.Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			data := make([]byte, 3<<20+17)
			kind.Fill(data, 8)
			var chunks [][]byte
			for p := data; len(p) > 0; {
				n := gear.Next(p, true)
				chunks, p = append(chunks, p[:n]), p[n:]
			}
			for _, policy := range policies {
				codecs, stored := encodeChunks(t, policy, chunks)
				for i, s := range stored {
					got, err := dec.Decode(nil, codecs[i], s, len(chunks[i]))
					if err != nil {
						t.Fatalf("%v: chunk %d: %v", policy, i, err)
					}
					if err := id.Verify(chunk.ID(blake3.Sum256(chunks[i])), got); err != nil {
						t.Fatalf("%v: chunk %d: %v", policy, i, err)
					}
				}
			}
		})
	}
}
