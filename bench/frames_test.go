package bench

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/holdstill/holdstill/bench/rows"
)

// BenchmarkSharedFrames shows what it would bring, and cost, to put neighbouring chunks
// of a page file into one frame: chunks of 64 KiB each for itself, as the repository
// stores them, and several to a frame. All cores encode at once, each its own file; the
// sizes take turns. For each size of frame it reports
//
//	enc-MB/s  plain bytes encoded per second of processor time, over all cores
//	ratio     stored by plain
//	read-µs   to decode the frame that one chunk of 64 KiB is in
//	read-KiB  what is fetched for that
//
// Run with GOMAXPROCS=1 as well; the first size of -cpu has no effect on benchmarks with
// b.Loop.
func BenchmarkSharedFrames(b *testing.B) {
	workers := runtime.GOMAXPROCS(0)
	files := make([][]byte, workers)
	for i := range files {
		files[i] = make([]byte, stageSize)
		rows.Pages(files[i], uint64(i+1))
	}
	sizes := []int{64 << 10, 128 << 10, 256 << 10, 1 << 20}
	rates, reads := make([][]float64, len(sizes)), make([][]float64, len(sizes))
	stored := make([]int, len(sizes))
	encoders := make([]*zstd.Encoder, workers)
	for i := range encoders {
		var err error
		// As chunk.Encoder under Balanced sets it up.
		encoders[i], err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true), zstd.WithSingleSegment(true), zstd.WithWindowSize(1<<20))
		if err != nil {
			b.Fatal(err)
		}
		defer encoders[i].Close()
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		b.Fatal(err)
	}
	defer decoder.Close()
	b.SetBytes(int64(workers * len(sizes) * stageSize))
	for n := 0; b.Loop(); n++ {
		for i := range sizes {
			i := (i + n) % len(sizes)
			frames, rate := encodeFrames(encoders, files, sizes[i])
			rates[i] = append(rates[i], rate)
			stored[i] = 0
			for _, f := range frames {
				stored[i] += len(f)
			}
			took := threadTime(func() { err = decodeFrames(decoder, frames, sizes[i]) })
			if err != nil {
				b.Fatal(err)
			}
			reads[i] = append(reads[i], took.Seconds()/float64(len(frames)))
		}
	}
	for i, size := range sizes {
		slices.Sort(rates[i])
		slices.Sort(reads[i])
		name := fmt.Sprintf("%dK-", size>>10)
		b.ReportMetric(rates[i][len(rates[i])/2]/1e6, name+"enc-MB/s")
		b.ReportMetric(float64(stored[i])/stageSize, name+"ratio")
		b.ReportMetric(reads[i][len(reads[i])/2]*1e6, name+"read-µs")
		b.ReportMetric(float64(stored[i])/float64(stageSize/size)/1024, name+"read-KiB")
	}
	b.ReportMetric(0, "ns/op") // of all together: says nothing
}

// encodeFrames encodes every file with an encoder of its own, all at once. It returns the
// frames of the first file and the bytes per second of all.
func encodeFrames(encoders []*zstd.Encoder, files [][]byte, size int) (frames [][]byte, rate float64) {
	var group sync.WaitGroup
	rates := make([]float64, len(files))
	for w, file := range files {
		group.Go(func() {
			room := make([]byte, 0, len(file)+len(file)/16)
			ends := make([]int, 0, len(file)/size+1)
			took := threadTime(func() {
				for p := range slices.Chunk(file, size) {
					room = encoders[w].EncodeAll(p, room)
					ends = append(ends, len(room))
				}
			})
			rates[w] = float64(len(file)) / max(took, time.Nanosecond).Seconds()
			if w == 0 {
				start := 0
				for _, end := range ends {
					frames, start = append(frames, room[start:end]), end
				}
			}
		})
	}
	group.Wait()
	for _, r := range rates {
		rate += r
	}
	return frames, rate
}

func decodeFrames(decoder *zstd.Decoder, frames [][]byte, size int) error {
	room := make([]byte, 0, size)
	for _, f := range frames {
		plain, err := decoder.DecodeAll(f, room)
		if err != nil {
			return err
		}
		if len(plain) != size {
			return fmt.Errorf("a frame of %d bytes came back as %d", size, len(plain))
		}
	}
	return nil
}
