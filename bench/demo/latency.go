package main

import (
	"math/bits"
	"time"
)

// latencies is a histogram with 16 steps for each power of two, so that a
// percentile is at most 6.25 % too high. It belongs to one goroutine.
type latencies struct {
	counts  [64 * 16]int64
	count   int64
	longest time.Duration // of a whole write
	stall   time.Duration // the longest wait at the gate
}

func (l *latencies) record(d, stall time.Duration) {
	l.counts[bucket(d)]++
	l.count++
	l.longest = max(l.longest, d)
	l.stall = max(l.stall, stall)
}

func (l *latencies) add(o *latencies) {
	for i, c := range o.counts {
		l.counts[i] += c
	}
	l.count += o.count
	l.longest = max(l.longest, o.longest)
	l.stall = max(l.stall, o.stall)
}

// percentile returns a time that at least p percent of the writes did not exceed,
// or 0 if there were no writes.
func (l *latencies) percentile(p float64) time.Duration {
	rank := int64(p / 100 * float64(l.count))
	var seen int64
	for i, c := range l.counts {
		if seen += c; c > 0 && seen >= rank {
			return min(upper(i), l.longest)
		}
	}
	return 0
}

// bucket and upper are the index for a time, and the longest time of an index.
func bucket(d time.Duration) int {
	x := uint64(max(d, 0))
	if x < 16 {
		return int(x)
	}
	shift := bits.Len64(x) - 5
	return (shift+1)<<4 | int(x>>shift&15)
}

func upper(i int) time.Duration {
	if i < 16 {
		return time.Duration(i)
	}
	shift := i>>4 - 1
	return time.Duration((uint64(i&15|16)+1)<<shift - 1)
}

func merge(all []latencies) latencies {
	var sum latencies
	for i := range all {
		sum.add(&all[i])
	}
	return sum
}
