package lock

import (
	"iter"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Durations fall into buckets of which eight cover each power of two, so that
// a bucket is at most an eighth wider than where it begins. Nanoseconds below
// 16 have buckets of their own; the last bucket takes all from 2^45 ns, or 9.8
// hours, on.
const (
	subBits     = 3
	lastPower   = 45
	bucketCount = (lastPower-subBits+1)<<subBits + 1
)

// bucketOf returns the number of the bucket for d.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 1<<subBits {
		return int(v)
	}
	power := bits.Len64(v) - 1
	if power >= lastPower {
		return bucketCount - 1
	}
	sub := int(v>>(power-subBits)) & (1<<subBits - 1)
	return (power-subBits+1)<<subBits + sub
}

// bucketEnd returns the longest duration that belongs to bucket i.
func bucketEnd(i int) time.Duration {
	switch {
	case i < 1<<subBits:
		return time.Duration(i)
	case i >= bucketCount-1:
		return math.MaxInt64
	}
	shift := i>>subBits - 1
	return time.Duration(1<<subBits+i&(1<<subBits-1)+1)<<shift - 1
}

// A histogram counts durations. Any number of goroutines may add to it while
// others read it.
type histogram struct {
	counts [bucketCount]atomic.Int64
	sum    atomic.Int64
	max    atomic.Int64
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.sum.Add(int64(d))
	for {
		m := h.max.Load()
		if int64(d) <= m || h.max.CompareAndSwap(m, int64(d)) {
			break
		}
	}
	h.counts[bucketOf(d)].Add(1)
}

// read returns what was counted. Durations that are added meanwhile may be
// in one of the figures and not in another.
func (h *histogram) read() Histogram {
	var r Histogram
	for i := range h.counts {
		r.counts[i] = h.counts[i].Load()
		r.Count += r.counts[i]
	}
	r.Sum = time.Duration(h.sum.Load())
	r.Max = time.Duration(h.max.Load())
	return r
}

// A Histogram says how many durations of which length there were. It is a copy
// that does not change. Its resolution is an eighth of a duration or better.
type Histogram struct {
	// Count is the number of durations.
	Count int64
	// Sum is all of them added up.
	Sum time.Duration
	// Max is the longest one, exactly.
	Max time.Duration

	counts [bucketCount]int64
}

// Quantile returns a duration that the given share of all durations does not
// exceed: 0.5 for the median, 0.99 for all but one in a hundred. It is the
// upper end of a bucket, so at most an eighth too long, and never longer than
// Max. q is taken as 0 when it is less or not a number, and as 1 when it is
// more. Without any durations Quantile returns 0.
func (h Histogram) Quantile(q float64) time.Duration {
	if h.Count == 0 {
		return 0
	}
	rank := int64(1)
	if q > 0 {
		rank = max(rank, int64(math.Ceil(min(q, 1)*float64(h.Count))))
	}
	for i, n := range h.counts {
		if rank -= n; rank <= 0 {
			return min(bucketEnd(i), h.Max)
		}
	}
	return h.Max
}

// Mean returns the average, or 0 without any durations.
func (h Histogram) Mean() time.Duration {
	if h.Count == 0 {
		return 0
	}
	return h.Sum / time.Duration(h.Count)
}

// Buckets lists the buckets that are not empty, the shortest durations first:
// the longest duration that falls into the bucket, and how many are in it. The
// end of the last bucket of all is the longest duration there is.
func (h Histogram) Buckets() iter.Seq2[time.Duration, int64] {
	return func(yield func(time.Duration, int64) bool) {
		for i, n := range h.counts {
			if n != 0 && !yield(bucketEnd(i), n) {
				return
			}
		}
	}
}
