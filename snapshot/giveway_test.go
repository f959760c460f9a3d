package snapshot

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// A goroutine that waits in the poller runs soon after its data came, although the
// only processor is never without work.
func TestGiveWayAsksThePoller(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("pipes do not wait in the poller here: there is nothing to see")
		return
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var seen atomic.Int64
	go func() {
		var b [1]byte
		for {
			if _, err := in.Read(b[:]); err != nil {
				return
			}
			seen.Add(1)
		}
	}()
	defer out.Close()
	g := newGiveWay(1, &turns{start: time.Now()})
	defer g.close()
	const rounds = 100
	late := 0
	for round := range int64(rounds) {
		time.Sleep(2 * askEvery) // the reader waits again, and the next turn is due
		if _, err := out.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		g.yield()
		// Once in a while the scheduler takes from another queue first.
		for range 3 {
			runtime.Gosched()
		}
		if seen.Load() == round+1 {
			continue
		}
		// The runtime's monitor may have taken the news of the poller and stand still with it,
		// or the collector have had the turn. It must not be the rule.
		late++
		for end := time.Now().Add(time.Minute); seen.Load() <= round; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("after %d bytes the reader has seen %d", round+1, seen.Load())
			}
		}
	}
	if late > rounds/2 {
		t.Errorf("in %d of %d rounds the reader had not run after a yield", late, rounds)
	}
}

func TestGiveWayTurns(t *testing.T) {
	turns := &turns{start: time.Now().Add(-time.Hour)}
	if !turns.take() {
		t.Error("the first turn was not given")
	}
	turns.last.Store(int64(2 * time.Hour)) // as if somebody had just taken it
	if turns.take() {
		t.Error("a turn was given within the interval")
	}
}

func TestGiveWayLeavesNothing(t *testing.T) {
	g := newGiveWay(runtime.GOMAXPROCS(0), &turns{start: time.Now()})
	for range 10 {
		g.yield()
	}
	g.close()
	if g.out != nil {
		if _, open := <-g.woken; open {
			t.Error("the goroutine is still there")
		}
		if _, err := g.in.Read(make([]byte, 1)); err == nil {
			t.Error("the pipe is still open")
		}
	}
	idle := newGiveWay(0, &turns{start: time.Now()})
	defer idle.close()
	if idle.out != nil {
		t.Error("a pipe was made although a processor is idle")
	}
	idle.yield()
}
