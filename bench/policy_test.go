package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/holdstill/holdstill/bench/rows"
	"github.com/holdstill/holdstill/chunk"
)

// A contender is one way to encode chunks, in a comparison in which all take turns.
type contender struct {
	name   string
	encode func(dst, plain []byte) ([]byte, error)

	rounds []time.Duration
	stored int
}

// compete lets all contenders encode the same chunks again and again, in turn, and
// reports for each the plain MB/s of its median round, in processor time of one core,
// and the share that it stores. A machine that drifts or is shared hits all alike.
func compete(b *testing.B, chunks [][]byte, contenders []*contender) {
	total := 0
	longest := 0
	for _, p := range chunks {
		total += len(p)
		longest = max(longest, len(p))
	}
	dst := make([]byte, 0, chunk.EncodeRoom(longest))
	b.SetBytes(int64(total * len(contenders)))
	n := 0
	for b.Loop() {
		for i := range contenders {
			c := contenders[(i+n)%len(contenders)]
			var err error
			took := threadTime(func() {
				c.stored = 0
				for _, p := range chunks {
					var out []byte
					if out, err = c.encode(dst, p); err != nil {
						return
					}
					c.stored += len(out)
				}
			})
			if err != nil {
				b.Fatal(err)
			}
			c.rounds = append(c.rounds, took)
		}
		n++
	}
	for _, c := range contenders {
		slices.Sort(c.rounds)
		b.ReportMetric(float64(total)/1e6/c.rounds[len(c.rounds)/2].Seconds(), c.name+"-MB/s")
		b.ReportMetric(float64(c.stored)/float64(total), c.name+"-ratio")
	}
	b.ReportMetric(0, "ns/op") // of all together: says nothing
}

// policyKinds are the kinds of file with the size of the chunks that an engine makes
// of them, in bytes.
var policyKinds = map[string]int{"json": 256 << 10, "pairs": 1 << 20, "pages": 64 << 10, "snappy-sst": 1 << 20, "random": 1 << 20, "zeros": 64 << 10}

// BenchmarkPolicy compares the policies with plain zstd at its fastest level on
// everything, for every kind of file: no kind may be slower under Balanced.
func BenchmarkPolicy(b *testing.B) {
	for _, kind := range rows.Kinds() {
		size, ok := policyKinds[kind.Name]
		if !ok {
			b.Fatalf("no size of chunks for files of kind %q", kind.Name)
		}
		b.Run(fmt.Sprintf("%s/chunk=%dKiB", kind.Name, size>>10), func(b *testing.B) {
			data := make([]byte, stageSize)
			kind.Fill(data, 1)
			plain, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
			if err != nil {
				b.Fatal(err)
			}
			defer plain.Close()
			contenders := []*contender{{name: "zstd-fastest", encode: func(dst, p []byte) ([]byte, error) { return plain.EncodeAll(p, dst), nil }}}
			for _, policy := range policies {
				enc, err := chunk.NewEncoder(chunk.EncoderOptions{Policy: policy})
				if err != nil {
					b.Fatal(err)
				}
				defer enc.Close()
				contenders = append(contenders, &contender{name: policy.String(), encode: func(dst, p []byte) ([]byte, error) {
					out, _, err := enc.Encode(dst, p)
					return out, err
				}})
			}
			compete(b, slices.Collect(slices.Chunk(data, size)), contenders)
		})
	}
}
