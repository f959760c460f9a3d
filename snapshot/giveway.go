package snapshot

import (
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// A giveWay lets the server's goroutines run between two steps of a worker, which
// shares the processors with them.
//
// runtime.Gosched alone is not enough. A goroutine that waits for the network, as
// those of a server do, is runnable only once a processor has asked the kernel whose
// data came, and a processor asks only when it has nothing else to run. With a worker
// on every processor that is never: the runtime's monitor does so for them, every
// 10 ms. So a worker now and then leaves its processor with nothing to run: it writes
// to a pipe, and waits for a goroutine that itself waits in the poller for the pipe.
// The processor asks, and learns of all the others as well.
type giveWay struct {
	turns *turns

	// The fields below are nil where that is not needed, or not possible.
	in, out *os.File
	woken   chan struct{} // receives once for each byte; closed with the goroutine's end
}

// askEvery is the least time between two askings of all workers together. Each takes
// some microseconds.
const askEvery = 100 * time.Microsecond

// turns says whose turn it is to ask. All workers of a snapshot share one.
type turns struct {
	start time.Time
	last  atomic.Int64 // nanoseconds after start
}

// take reports whether it is the caller's turn.
func (t *turns) take() bool {
	now, last := int64(time.Since(t.start)), t.last.Load()
	return now-last >= int64(askEvery) && t.last.CompareAndSwap(last, now)
}

// newGiveWay returns one for a worker of so many. Fewer workers than processors leave
// one idle, which waits for the network anyway.
func newGiveWay(workers int, turns *turns) *giveWay {
	g := &giveWay{turns: turns}
	if workers < runtime.GOMAXPROCS(0) || runtime.GOOS == "windows" {
		return g // pipes do not wait in the poller on Windows
	}
	in, out, err := os.Pipe()
	if err != nil {
		return g // out of descriptors, most likely: the snapshot matters more
	}
	g.in, g.out, g.woken = in, out, make(chan struct{})
	go g.watch()
	return g
}

// watch waits in the poller until the pipe is closed.
func (g *giveWay) watch() {
	defer close(g.woken)
	var b [1]byte
	for {
		if _, err := g.in.Read(b[:]); err != nil {
			return
		}
		g.woken <- struct{}{}
	}
}

// yield lets others run.
func (g *giveWay) yield() {
	if g.out != nil && g.turns.take() {
		if _, err := g.out.Write([]byte{0}); err == nil {
			<-g.woken
		}
	}
	// Whoever the kernel had data for stands in the queue now.
	runtime.Gosched()
}

// close ends the goroutine.
func (g *giveWay) close() {
	if g.out == nil {
		return
	}
	_ = g.out.Close() // nothing was written that anybody needs
	for range g.woken {
	}
	_ = g.in.Close()
}
