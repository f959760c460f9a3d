package main

import (
	"time"

	"github.com/holdstill/holdstill/bench/latency"
)

// latencies are the times of whole writes, and the longest wait of one at the
// gate. It belongs to one goroutine.
type latencies struct {
	latency.Histogram
	stall time.Duration
}

func (l *latencies) record(d, stall time.Duration) {
	l.Record(d)
	l.stall = max(l.stall, stall)
}

func merge(all []latencies) *latencies {
	var sum latencies
	for i := range all {
		sum.Add(&all[i].Histogram)
		sum.stall = max(sum.stall, all[i].stall)
	}
	return &sum
}
