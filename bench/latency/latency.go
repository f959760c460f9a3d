// Package latency counts how long things took.
//
// Start with the zero [Histogram] and [Histogram.Record]. Give each goroutine one
// of its own, put them together with [Histogram.Add], and ask for
// [Histogram.Percentile].
package latency

import (
	"math"
	"math/bits"
	"time"
)

// Each power of two has 2^subBits buckets. Times below 2^(subBits+1) ns have
// buckets of their own.
const (
	subBits = 6
	subs    = 1 << subBits
)

// A Histogram counts durations with 64 buckets for each power of two, so that a
// percentile is at most 1.6 % too high. The zero Histogram is empty and ready. It
// takes 32 KiB, never allocates, and belongs to one goroutine at a time.
type Histogram struct {
	counts [(64 - subBits) * subs]int64
	count  int64
	max    time.Duration
}

// Record counts one duration. A negative one is counted as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(d)]++
	h.count++
	h.max = max(h.max, d)
}

// Add counts all that o has counted.
func (h *Histogram) Add(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.count += o.count
	h.max = max(h.max, o.max)
}

// Count is how many durations were recorded.
func (h *Histogram) Count() int64 { return h.count }

// Max is the longest of them, exactly, or 0 if there were none.
func (h *Histogram) Max() time.Duration { return h.max }

// Percentile returns a time that at least p percent of the durations did not
// exceed, or 0 if there were none. p is taken as 0 below 0 and as 100 above 100.
func (h *Histogram) Percentile(p float64) time.Duration {
	rank := int64(math.Ceil(min(max(p, 0), 100) / 100 * float64(h.count)))
	var seen int64
	for i, c := range h.counts {
		if seen += c; c > 0 && seen >= rank {
			return min(upper(i), h.max)
		}
	}
	return 0
}

// bucket and upper are the index for a time, and the longest time of an index.
func bucket(d time.Duration) int {
	x := uint64(d)
	if x < subs {
		return int(x)
	}
	shift := bits.Len64(x) - subBits - 1
	return (shift+1)<<subBits | int(x>>shift&(subs-1))
}

func upper(i int) time.Duration {
	if i < subs {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	return time.Duration((uint64(i&(subs-1)|subs)+1)<<shift - 1)
}
