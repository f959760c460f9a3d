package repo

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var errStopPressed = errors.New("the operator pressed stop")

// cancelCall is a call that talks to the bucket. grace is how long it may go on after its context
// has ended, and succeed; with done it may succeed in any case, since what is left to do is only tidying up.
type cancelCall struct {
	call  func(ctx context.Context, r *Repository) error
	grace time.Duration
	done  bool
}

// drain goes through a listing to its first error.
func drain[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

// ofSnapshot calls f with the manifest of a snapshot.
func ofSnapshot(ctx context.Context, r *Repository, f func(m *Manifest) error) error {
	m, err := r.Manifest(ctx, "s1")
	if err != nil {
		return err
	}
	return f(m)
}

func cancelCalls(t *testing.T) map[string]cancelCall {
	sessionEnd := commitGrace + 2*abortGrace
	inSession := func(work func(ctx context.Context, s *Session) error) func(context.Context, *Repository) error {
		return func(ctx context.Context, r *Repository) error {
			s, err := r.NewSession(ctx)
			if err != nil {
				return err
			}
			m, err := stageFiles(ctx, s, "new", smallFiles(9), fixedCutter(t, 512))
			if err == nil {
				err = work(ctx, s)
			}
			if err == nil {
				err = s.Commit(ctx, m)
			}
			if err != nil {
				return errors.Join(err, ignoreLate(s.Abort(ctx)))
			}
			return nil
		}
	}
	return map[string]cancelCall{
		"Manifests": {func(ctx context.Context, r *Repository) error { return drain(r.Manifests(ctx)) }, 0, false},
		"Reverse":   {func(ctx context.Context, r *Repository) error { return drain(r.ManifestsReverse(ctx)) }, 0, false},
		"IDs":       {func(ctx context.Context, r *Repository) error { return drain(r.IDs(ctx)) }, 0, false},
		"Remotes":   {func(ctx context.Context, r *Repository) error { return drain(r.Remotes(ctx)) }, 0, false},
		"Attachment": {func(ctx context.Context, r *Repository) error {
			_, err := r.ReadAttachment(ctx, "s1", "log")
			return err
		}, 0, false},
		"Attach": {func(ctx context.Context, r *Repository) error {
			return r.PutAttachment(ctx, "s1", "log", []byte("new"))
		}, 0, true},
		"Delete": {func(ctx context.Context, r *Repository) error { return r.DeleteManifest(ctx, "s1") }, 0, true},
		"Check": {func(ctx context.Context, r *Repository) error {
			_, err := r.Check(ctx, CheckOptions{ReadData: true})
			return err
		}, 0, false},
		"Rebuild": {func(ctx context.Context, r *Repository) error {
			_, err := r.RebuildIndex(ctx, RebuildOptions{ReadData: true})
			return err
		}, sessionEnd, false},
		"Collect": {func(ctx context.Context, r *Repository) error { _, err := r.Collect(ctx, CollectOptions{}); return err }, sessionEnd, false},
		"Files": {func(ctx context.Context, r *Repository) error {
			return ofSnapshot(ctx, r, func(m *Manifest) error { return drain(r.Files(ctx, m)) })
		}, 0, false},
		"Uses": {func(ctx context.Context, r *Repository) error {
			return ofSnapshot(ctx, r, func(m *Manifest) error { return drain(r.Uses(ctx, m)) })
		}, 0, false},
		"ReadChunks": {func(ctx context.Context, r *Repository) error {
			return ofSnapshot(ctx, r, func(m *Manifest) error {
				var wants []Ref
				for u, err := range r.Uses(ctx, m) {
					if err != nil {
						return err
					}
					if !u.Meta {
						wants = append(wants, Ref{ID: u.ID})
					}
				}
				_, err := r.ReadChunks(ctx, wants, ReadChunksOptions{}, func(_ int, _ []byte, err error) error { return err })
				return err
			})
		}, 0, false},
		"ReadAt":  {func(ctx context.Context, r *Repository) error { _, err := readSnapshot(ctx, r, "s1"); return err }, 0, false},
		"Session": {inSession(func(context.Context, *Session) error { return nil }), sessionEnd, false},
		"Checkpoint": {inSession(func(ctx context.Context, s *Session) error {
			return errors.Join(s.Sync(ctx), s.Checkpoint(ctx), s.Refresh(ctx))
		}), sessionEnd, false},
		"Verify": {inSession(func(ctx context.Context, s *Session) error {
			return errors.Join(s.Sync(ctx), s.VerifyPacks(ctx, true))
		}), sessionEnd, false},
		"Reserve": {inSession(func(ctx context.Context, s *Session) error {
			return errors.Join(s.Reserve(ctx, "new"), s.PutAttachment(ctx, "new", "log", []byte("of it")))
		}), sessionEnd, false},
		"Validate": {func(ctx context.Context, r *Repository) error {
			return Validate(ctx, r.store.bucket, ValidateOptions{Writers: 2, Rounds: 1, LargeSize: 1 << 20})
		}, 2 * abortGrace, false},
	}
}

// ignoreLate drops what a session could not clean up any more.
func ignoreLate(err error) error {
	if errors.Is(err, errStopPressed) {
		return nil
	}
	return err
}

// Whatever a call waits for when its context ends, it ends soon, says why, and leaves no goroutine.
func TestEveryCallEndsWithItsContext(t *testing.T) {
	base := newTestDriver()
	seed := newTestRepo(t, base, Options{})
	for _, id := range []string{"s0", "s1"} {
		mustSnapshot(t, seed, id, smallFiles(uint64(id[1])), fixedCutter(t, 512))
		attach(t, seed, id, "log", "of "+id)
	}
	mustSnapshot(t, seed, "gone", smallFiles(77), fixedCutter(t, 512))
	wantErr(t, "delete", seed.DeleteManifest(t.Context(), "gone"), nil)
	for name, c := range cancelCalls(t) {
		t.Run(name, func(t *testing.T) {
			total := runUntil(t, base, c, -1, false)
			if total == 0 {
				t.Fatal("it asks the bucket nothing")
			}
			for n := 0; n < total; n += 1 + total/40 {
				runUntil(t, base, c, n, false)
				runUntil(t, base, c, n, true)
			}
		})
	}
}

// runUntil makes a call whose context ends during its request number stop, which is not answered, nor
// are those after it if the bucket is dead. It returns the number of requests.
func runUntil(t *testing.T, base *testDriver, c cancelCall, stop int, dead bool) (requests int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := base.copy()
		r := openTestRepo(t, d.bucket(t), Options{PackSize: 1 << 20})
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		var asked []op
		d.before.set(func(ctx context.Context, o op) error {
			d.mu.Lock()
			n := len(asked)
			asked = append(asked, o)
			d.mu.Unlock()
			if stop < 0 || n < stop || n > stop && !dead {
				return nil
			}
			cancel(errStopPressed)
			<-ctx.Done()
			return ctx.Err()
		})
		start := time.Now()
		err := c.call(ctx, r)
		took := time.Since(start)
		d.mu.Lock()
		requests = len(asked)
		var last op
		if 0 <= stop && stop < requests {
			last = asked[stop]
		}
		d.mu.Unlock()
		// How many requests it takes depends a little on what runs at the same time: it may be done
		// before the one at which it was to be stopped.
		if stop < 0 || requests <= stop {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		if took > c.grace {
			t.Errorf("stopped in request %d, %v, dead %v: it went on for %v", stop, last, dead, took)
		}
		if err == nil && c.grace == 0 && !c.done || err != nil && !errors.Is(err, errStopPressed) {
			t.Errorf("stopped in request %d, %v, dead %v: %v", stop, last, dead, err)
		}
		d.before.set(nil)
		// Whatever was left half done, all that is listed is whole.
		again := openTestRepo(t, d.bucket(t), Options{})
		ids := listIDs(t, again)
		for _, id := range []string{"s0", "s1"} {
			if !slices.Contains(ids, id) && id == "s0" {
				t.Errorf("%s is gone", id)
			}
		}
		for _, id := range ids {
			files, err := readSnapshot(t.Context(), again, id)
			if err != nil || !bytes.Equal(files["db/CURRENT"], []byte("MANIFEST-000004\n")) {
				t.Errorf("stopped in request %d, %v, dead %v: %s: %v", stop, last, dead, id, err)
			}
		}
	})
	return requests
}
