package bench

import (
	"encoding/binary"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdstill/holdstill/bench/latency"
	"github.com/holdstill/holdstill/snapshot"
)

// wakers are goroutines that a timer of the kernel wakes through the network poller, as
// requests from the network wake those of a server. Each then works for some
// microseconds. How late they run is what a server would be late by.
type wakers struct {
	stop  chan struct{}
	group sync.WaitGroup
	mu    sync.Mutex
	late  latency.Histogram
}

func startWakers(tb testing.TB, count int, every time.Duration) *wakers {
	w := &wakers{stop: make(chan struct{})}
	for i := range count {
		fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
		if err != nil {
			tb.Fatal(err)
		}
		file := os.NewFile(uintptr(fd), "timerfd")
		offset := every * time.Duration(i+1) / time.Duration(count)
		first := time.Now().Add(offset)
		spec := unix.ItimerSpec{Interval: unix.NsecToTimespec(int64(every)), Value: unix.NsecToTimespec(int64(offset))}
		if err := unix.TimerfdSettime(fd, 0, &spec, nil); err != nil {
			tb.Fatal(err)
		}
		w.group.Go(func() { w.run(tb, file, first, every) })
	}
	return w
}

func (w *wakers) run(tb testing.TB, file *os.File, due time.Time, every time.Duration) {
	defer file.Close()
	var own latency.Histogram
	var expired [8]byte
	for {
		select {
		case <-w.stop:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.late.Add(&own)
			return
		default:
		}
		if _, err := file.Read(expired[:]); err != nil {
			tb.Error(err)
			return
		}
		for range binary.NativeEndian.Uint64(expired[:]) {
			own.Record(time.Since(due))
			work(5 * time.Microsecond)
			due = due.Add(every)
		}
	}
}

func (w *wakers) end() *latency.Histogram {
	close(w.stop)
	w.group.Wait()
	return &w.late
}

// BenchmarkWake takes first snapshots of a corpus while four goroutines are woken 1,000
// times a second each, and reports how late they run: at the median, at the 99th
// percentile, and at worst, in microseconds; and the same of as long a time without
// snapshots, in turn, as "idle". MB/s is that of the snapshots.
func BenchmarkWake(b *testing.B) {
	c := newCorpus(b, b.TempDir(), *corpusMiB<<20)
	var during, idle latency.Histogram
	b.SetBytes(c.size)
	var last string
	for b.Loop() {
		e := openEngine(b, repository(b, &last), c)
		w := startWakers(b, 4, time.Millisecond)
		start := time.Now()
		create(b, e, snapshot.CreateOptions{})
		took := time.Since(start)
		during.Add(w.end())
		b.StopTimer()
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
		w = startWakers(b, 4, time.Millisecond)
		time.Sleep(took)
		idle.Add(w.end())
		b.StartTimer()
	}
	for name, h := range map[string]*latency.Histogram{"": &during, "idle-": &idle} {
		b.ReportMetric(float64(h.Percentile(50))/1e3, name+"p50-µs")
		b.ReportMetric(float64(h.Percentile(99))/1e3, name+"p99-µs")
		b.ReportMetric(float64(h.Max())/1e3, name+"max-µs")
	}
}
