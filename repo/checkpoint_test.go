package repo

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdstill/holdstill/chunk"
)

// addNoise adds a chunk that does not compress, as the session's next pack.
func addNoise(t testing.TB, s *Session, seed uint64, n int) chunk.ID {
	t.Helper()
	w := mustWriter(t, s)
	defer w.Close()
	id, fresh, err := w.Add(t.Context(), noiseData(seed, n))
	if err != nil || !fresh {
		t.Fatalf("fresh %v, error %v", fresh, err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return id
}

// wantHas opens the repository anew, as another process would, and looks for chunks.
func wantHas(t testing.TB, d *testDriver, want bool, ids ...chunk.ID) {
	t.Helper()
	r := openTestRepo(t, d.bucket(t), Options{})
	s := mustSession(t, r)
	defer s.Abort(t.Context())
	for _, id := range ids {
		if got := s.Has(id); got != want {
			t.Errorf("another session has chunk %s: %v, want %v", id, got, want)
		}
		if want {
			if _, err := r.ReadChunk(t.Context(), id, nil); err != nil {
				t.Error(err)
			}
		}
	}
	report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil || !report.OK() {
		t.Errorf("check: %+v, error %v", report, err)
	}
}

func TestCheckpointOutlivesAbort(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	s := mustSession(t, r)
	if err := s.Checkpoint(t.Context()); err != nil || len(d.keys(indexPrefix)) > 0 {
		t.Fatalf("a checkpoint of nothing wrote %v, error %v", d.keys(indexPrefix), err)
	}
	first := addNoise(t, s, 1, 5000)
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantHas(t, d, true, first)
	second := addNoise(t, s, 2, 5000)
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	wantHas(t, d, true, first)
	wantHas(t, d, false, second)
	if packs := d.keys(packPrefix); len(packs) != 1 {
		t.Errorf("packs left: %v", packs)
	}
}

func TestSuspendKeepsWhatIsDurable(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	s := mustSession(t, r)
	first := addNoise(t, s, 1, 5000)
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The next pack gets stuck until its context ends.
	d.before.set(func(ctx context.Context, o op) error {
		if o.kind == "create" && strings.HasPrefix(o.key, packPrefix) {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	second := addNoise(t, s, 2, 5000)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // not to hang for ever
	defer cancel()
	if err := s.Suspend(ctx); err != nil {
		t.Fatal(err)
	}
	disarm(d)
	if err := s.Commit(t.Context(), &Manifest{ID: "x"}); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after suspend: %v", err)
	}
	if err := errors.Join(s.Suspend(t.Context()), s.Abort(t.Context())); err != nil {
		t.Error(err)
	}
	wantHas(t, d, true, first)
	wantHas(t, d, false, second)
	if packs := d.keys(packPrefix); len(packs) != 1 {
		t.Errorf("packs left: %v", packs)
	}
}

// A session whose upload failed keeps what got through before.
func TestSuspendAfterFailure(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	s := mustSession(t, r)
	first := addNoise(t, s, 1, 5000)
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.before.set(func(_ context.Context, o op) error {
		if o.kind == "create" && strings.HasPrefix(o.key, packPrefix) {
			return pathError(o, syscall.ENOSPC)
		}
		return nil
	})
	second := addNoise(t, s, 2, 5000)
	if err := s.Sync(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := s.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantHas(t, d, true, first)
	wantHas(t, d, false, second)
}

// A checkpoint whose write fails is made again by the commit, and the packs stay, since
// an index may name them.
func TestCheckpointFails(t *testing.T) {
	for _, after := range []bool{false, true} {
		d := newTestDriver()
		r := newTestRepo(t, d, Options{})
		s := mustSession(t, r)
		files := smallFiles(3)
		m, err := stageFiles(t.Context(), s, "x", files, fixedCutter(t, 512))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		fail := func(_ context.Context, o op) error {
			if o.kind == "create" && strings.HasPrefix(o.key, indexPrefix) {
				return pathError(o, syscall.EIO)
			}
			return nil
		}
		if after {
			d.after.set(fail)
		} else {
			d.before.set(fail)
		}
		if err := s.Checkpoint(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		disarm(d)
		if err := s.Commit(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		wantSnapshot(t, openTestRepo(t, d.bucket(t), Options{}), "x", files)
	}
}

// An index must not name a difference whose base may never get there.
func TestCheckpointLeavesDifferencesWithoutBases(t *testing.T) {
	source := newTestDriver()
	from := newTestRepo(t, source, Options{})
	plain := rowData(7, 60_000)
	other := append([]byte("changed"), plain[7:]...)
	s := mustSession(t, from)
	base := addPlain(t, s, plain)
	mustCommitEmpty(t, s, "base")
	s = mustSession(t, from)
	w, err := s.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	id, _, delta, err := w.AddDelta(t.Context(), other, base)
	if err != nil || !delta {
		t.Fatalf("delta %v, error %v", delta, err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Close()
	mustCommitEmpty(t, s, "delta")

	d := newTestDriver()
	to := newTwinIn(t, d, from)
	out := mustSession(t, to)
	var writers [2]*Writer
	for i, chunkID := range []chunk.ID{base, id} {
		if writers[i], err = out.NewWriter(); err != nil {
			t.Fatal(err)
		}
		stored, codec, size, err := from.ReadEncoded(t.Context(), chunkID, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := writers[i].AddEncoded(t.Context(), chunkID, codec, stored, size); err != nil {
			t.Fatal(err)
		}
	}
	// The difference is durable, its base is not.
	for i, want := range []bool{false, true} {
		if err := writers[1-i].Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := out.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := out.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantHas(t, d, want, id)
	}
	if err := out.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantHas(t, d, true, base, id)
}

func addPlain(t testing.TB, s *Session, plain []byte) chunk.ID {
	t.Helper()
	w := mustWriter(t, s)
	defer w.Close()
	id, _, err := w.Add(t.Context(), plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return id
}

// mustCommitEmpty commits a snapshot without files, for the sake of the chunks.
func mustCommitEmpty(t testing.TB, s *Session, id string) {
	t.Helper()
	if err := s.Commit(t.Context(), &Manifest{ID: id, Created: testTime, Consistency: ConsistencySource}); err != nil {
		t.Fatal(err)
	}
}
