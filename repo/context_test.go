package repo

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Uploads outlive the context of the call that began them: only the session's ends
// them.
func TestUploadsOutliveTheCallThatBeganThem(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	release := make(chan struct{})
	d.before.set(func(ctx context.Context, o op) error {
		if !strings.HasPrefix(o.key, packPrefix) {
			return nil
		}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	s := mustSession(t, r)
	call, cancel := context.WithCancel(t.Context())
	m, err := stageFiles(call, s, "s", smallFiles(1), r.Gear())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	close(release)
	if err := s.Commit(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	wantSnapshot(t, r, "s", smallFiles(1))
}

// A bucket that never answers: every call ends soon after its context.
func TestDeadBucket(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20, Uploads: 1})
	before := d.keys("")
	stuck := make(chan struct{}, 100)
	s := mustSession(t, r)
	d.before.set(func(ctx context.Context, o op) error {
		if o.kind != "create" {
			return nil
		}
		// The lease may be renewed as well, at any time.
		if strings.HasPrefix(o.key, packPrefix) {
			stuck <- struct{}{}
		}
		<-ctx.Done()
		return ctx.Err()
	})
	w := mustWriter(t, s)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the operator pressed stop")
	go func() {
		<-stuck
		cancel(cause)
	}()
	// The first pack hangs; the second waits for its slot until the context ends.
	var err error
	for n := 0; err == nil && n < 100; n++ {
		_, _, err = w.Add(ctx, noiseData(uint64(n), 200_000))
	}
	if !errors.Is(err, cause) {
		t.Fatalf("Add: %v", err)
	}
	if err := s.Sync(ctx); !errors.Is(err, cause) {
		t.Errorf("Sync: %v", err)
	}
	if err := s.Commit(ctx, &Manifest{ID: "s"}); !errors.Is(err, cause) {
		t.Errorf("Commit: %v", err)
	}
	if after := d.keys(""); !slices.Equal(after, before) {
		t.Errorf("left behind %q", after)
	}
}

// While one call hangs on the bucket, another's context still counts.
func TestIndexLockHonoursContext(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	hangs, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.before.set(func(ctx context.Context, o op) error {
		if o.kind == "list" {
			once.Do(func() { close(hangs) })
			<-release
		}
		return nil
	})
	done := make(chan error)
	go func() {
		s, err := r.NewSession(t.Context())
		if err == nil {
			err = s.Abort(t.Context())
		}
		done <- err
	}()
	<-hangs
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.NewSession(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("NewSession: %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Abort comes while others add, flush and commit: they end with an error or were
// first, and nothing is left that nobody names.
func TestAbortBesideWriters(t *testing.T) {
	for round := range 12 {
		d := newTestDriver()
		r := newTestRepo(t, d, Options{PackSize: 1 << 20, Uploads: 1})
		before := d.keys("")
		s := mustSession(t, r)
		var group sync.WaitGroup
		for n := range 3 {
			group.Go(func() {
				w, err := s.NewWriter()
				if err != nil {
					t.Error(err)
					return
				}
				defer w.Close()
				for i := 0; err == nil && i < 200; i++ {
					_, _, err = w.Add(t.Context(), noiseData(uint64(n*1000+i), 100_000))
				}
				if err == nil {
					err = w.Flush(t.Context())
				}
				if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		committed := make(chan error, 1)
		if round%3 == 0 {
			// It fails, since the writers hold chunks, or comes too late: never a hole.
			go func() { committed <- s.Commit(t.Context(), &Manifest{ID: "s"}) }()
		} else {
			committed <- ErrClosed
		}
		for s.BytesNew() < int64(round)*200_000 && s.state() == nil {
			runtime.Gosched()
		}
		if err := s.Abort(t.Context()); err != nil {
			t.Error(err)
		}
		group.Wait()
		if err := <-committed; err == nil {
			wantSound(t, r)
		} else if after := d.keys(""); !slices.Equal(after, before) {
			t.Errorf("left behind %q (commit: %v)", after, err)
		}
	}
}

// settleGoroutines waits until no more goroutines run than before. The bound is there to end a
// test that has found one that stays.
func settleGoroutines(t *testing.T, before int) {
	t.Helper()
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= before {
			return
		}
	}
	buf := make([]byte, 1<<16)
	t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20})
	for n := range 5 {
		s := mustSession(t, r)
		m, err := stageFiles(t.Context(), s, fmt.Sprintf("s%d", n), smallFiles(uint64(n)), r.Gear())
		if err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 {
			err = s.Commit(t.Context(), m)
		} else {
			err = s.Abort(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	wantSound(t, r)
	for range r.IDs(t.Context()) {
		break
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	settleGoroutines(t, before)
}
