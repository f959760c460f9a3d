package snapshot

import (
	"sync"
	"testing"
)

// A file of several segments that can only be read front to back is read by one worker. The
// others may come to their segments of it when that one has just finished it, or does so now:
// what they look at must stand still, as the race detector tells.
func TestFinishBesideWorkersThatHaveNothingToDo(t *testing.T) {
	session, _ := newChainSession(t, 0)
	w := &worker{creation: &creation{session: session, track: newTracker(nil)}}
	for range 50 {
		f := &sourceFile{chain: newChain(session, 0)}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.finish(t.Context(), f); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if complete, err := w.segment(t.Context(), segment{file: f, number: 1}); complete || err != nil {
				t.Errorf("complete %v, error %v", complete, err)
			}
		})
		wg.Wait()
	}
}
