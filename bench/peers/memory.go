package main

import (
	"os"
	"sync/atomic"
	"time"
)

// sampleEvery is how often a process is looked at. It is stopped as soon as the
// kernel's own figure is sure to be right, so most processes are hardly looked at.
const sampleEvery = 2 * time.Millisecond

// A watch finds out the peak memory of a process.
//
// What the kernel reports at the end of a process is exact, but counts the memory of
// this program as well, which the process had in common with it until it became
// another program. A process that stays below that is sampled: the peak that the
// kernel knows of a running process begins with the new program, and only grows.
type watch struct {
	floor   int64
	stop    chan struct{}
	stopped chan struct{}
	// peak belongs to the goroutine until stopped is closed.
	peak    int64
	samples atomic.Int64
}

// minSamples is how often a process must have been seen for its peak to be believed.
const minSamples = 3

// watchPeak begins to watch a process that was just started.
func watchPeak(pid int) *watch {
	w := &watch{floor: peakNow(os.Getpid()), stop: make(chan struct{}), stopped: make(chan struct{})}
	go w.sample(pid)
	return w
}

func (w *watch) sample(pid int) {
	defer close(w.stopped)
	ticks := time.NewTicker(sampleEvery)
	defer ticks.Stop()
	for w.peak <= w.floor {
		if now := peakNow(pid); now > 0 {
			w.peak = max(w.peak, now)
			w.samples.Add(1)
		}
		select {
		case <-w.stop:
			return
		case <-ticks.C:
		}
	}
}

// end returns the peak of the process, which has ended, in bytes. It is a bound if
// the process was too small and too short to be seen.
func (w *watch) end(state *os.ProcessState) (peak int64, atMost bool) {
	close(w.stop)
	<-w.stopped
	reported := peakOf(state)
	switch {
	case reported > w.floor:
		return reported, false
	case w.samples.Load() >= minSamples:
		return w.peak, false
	}
	return reported, reported > 0
}
