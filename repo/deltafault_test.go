package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// deltaFaultRepo has a snapshot "old", a snapshot "star" of differences to it, and
// returns the files of both and of one that is to be made of differences to the second.
func deltaFaultRepo(t *testing.T) (d *testDriver, old, star, next map[string][]byte) {
	t.Helper()
	d = newTestDriver()
	r := newTestRepo(t, d, Options{})
	data := rowData(4, 40*512)
	old = map[string][]byte{"db": data}
	star = map[string][]byte{"db": edited(edited(edited(data, 700), 5000), 9000)}
	next = map[string][]byte{"db": edited(edited(star["db"], 5030), 14000)}
	mustSnapshot(t, r, "old", old, fixedCutter(t, 512))
	mustDeltaSnapshot(t, r, "star", star, "old", fixedCutter(t, 512))
	return d, old, star, next
}

func tryDeltas(ctx context.Context, d *testDriver, t *testing.T, files map[string][]byte) (int64, error) {
	r, err := Open(ctx, d.bucket(t), variant(Options{}))
	if err != nil {
		return 0, err
	}
	s, err := r.NewSession(ctx)
	if err != nil {
		return 0, err
	}
	m, err := stageDeltas(ctx, r, s, "new", files, "star", fixedCutter(t, 512))
	if err != nil {
		return 0, errors.Join(err, s.Abort(ctx))
	}
	return s.BytesDelta(), s.Commit(ctx, m)
}

// Every request fails in turn while differences are stored: either the snapshot is whole,
// with less stored as differences where it was a base that could not be read, or it
// is not there and the caller learns why.
func TestEveryRequestOfDifferencesFails(t *testing.T) {
	base, old, star, next := deltaFaultRepo(t)
	survived := 0
	for _, onward := range []bool{false, true} {
		for at := 0; ; at++ {
			d := base.copy()
			f := faults{at: at, err: syscall.EIO, onward: onward}
			f.arm(d)
			stored, err := tryDeltas(t.Context(), d, t, next)
			disarm(d)
			if len(f.hit) == 0 {
				if err != nil || stored != 2*512 {
					t.Fatalf("without a fault: %d bytes as differences, error %v", stored, err)
				}
				break
			}
			what := fmt.Sprintf("request %d (%v), onward=%v", at, f.hit[0], onward)
			r := openTestRepo(t, d.bucket(t), Options{})
			wantSnapshot(t, r, "old", old)
			wantSnapshot(t, r, "star", star)
			wantSound(t, r)
			if err == nil {
				survived++
				wantSnapshot(t, r, "new", next)
				continue
			}
			if !errors.Is(err, syscall.EIO) {
				t.Fatalf("%s: %v", what, err)
			}
			if ids := listIDs(t, r); slices.Contains(ids, "new") {
				wantSnapshot(t, r, "new", next)
			}
		}
	}
	// Two bases, each behind a request for its delta or without one.
	if survived < 2 {
		t.Errorf("%d faults did no harm", survived)
	}
}

// The context ends at every request in turn while differences are stored.
func TestCancelAtEveryRequestOfDifferences(t *testing.T) {
	base, old, star, next := deltaFaultRepo(t)
	before := base.keys("")
	for at := 0; ; at++ {
		d := base.copy()
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var hit *op
		seen := 0
		d.before.set(func(_ context.Context, o op) error {
			mu.Lock()
			defer mu.Unlock()
			if seen == at {
				hit = &o
				cancel()
			}
			seen++
			return nil
		})
		_, err := tryDeltas(ctx, d, t, next)
		cancel()
		disarm(d)
		if hit == nil {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		what := fmt.Sprintf("cancelled at request %d (%v)", at, *hit)
		r := openTestRepo(t, d.bucket(t), Options{})
		wantSnapshot(t, r, "old", old)
		wantSnapshot(t, r, "star", star)
		wantSound(t, r)
		switch {
		case err == nil:
			wantSnapshot(t, r, "new", next)
		case !errors.Is(err, context.Canceled):
			t.Fatalf("%s: %v", what, err)
		default:
			if left := d.keys(""); !slices.Equal(left, before) {
				t.Fatalf("%s: left behind %q", what, left)
			}
		}
	}
}

// A read that fails, of a difference or of its base, is an error with its cause, never
// other bytes; the next one works.
func TestEveryReadOfDifferencesFails(t *testing.T) {
	d, _, star, _ := deltaFaultRepo(t)
	for at := 0; ; at++ {
		f := faults{at: at, err: syscall.EIO}
		r := openTestRepo(t, d.bucket(t), Options{})
		f.arm(d)
		_, err := readSnapshot(t.Context(), r, "star")
		disarm(d)
		if len(f.hit) == 0 {
			break
		}
		if !errors.Is(err, syscall.EIO) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrMissing) {
			t.Fatalf("request %d (%v): %v", at, f.hit[0], err)
		}
		wantSnapshot(t, r, "star", star)
	}
}
