package snapshot

import (
	"context"
	"testing"
	"time"

	"github.com/holdstill/holdstill/transfer"
)

// Whoever attaches something before StartCreate has returned may wait for a session already. When the job is
// aborted before its turn there will never be one, and the waiting must end all the same.
func TestWaitForASessionOfAJobThatNeverRuns(t *testing.T) {
	e := archiveEngine(t, nil)
	const id = "2026-01-02T03.04.05Z_mine"
	r, err := e.reserve(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	over, err := e.startJob(t.Context(), transfer.Task{Kind: transfer.KindCreate}, func(context.Context, *transfer.Reporter) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := over.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	waited := make(chan error)
	go func() {
		session, err := e.sessionAfter(ctx, id, nil, true)
		if session != nil {
			t.Error("there is a session")
		}
		waited <- err
	}()
	// Long enough for it to wait, as a rule: where it does not yet, there is nothing to wake.
	time.Sleep(20 * time.Millisecond)
	e.assign(r, over)
	if err := <-waited; err != nil {
		t.Error(err)
	}
}
