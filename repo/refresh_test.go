package repo

import (
	"context"
	"errors"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// What another session has kept by a checkpoint is known after a refresh, and a collection
// that the other one's end would let delete it waits for who relies on it.
func TestRefresh(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	other := mustSession(t, openTestRepo(t, d.bucket(t), Options{}))
	s := mustSession(t, r)
	defer s.Abort(t.Context())
	data := noiseData(1, 5000)
	id := addNoise(t, other, 1, 5000)
	if err := errors.Join(other.Sync(t.Context()), s.Refresh(t.Context())); err != nil {
		t.Fatal(err)
	}
	if s.Has(id) {
		t.Fatal("a chunk is known that no index names")
	}
	if err := errors.Join(other.Checkpoint(t.Context()), s.Refresh(t.Context())); err != nil {
		t.Fatal(err)
	}
	if !s.Has(id) || !s.HasFull(id) {
		t.Fatal("a chunk is not known that another session has kept")
	}
	if err := other.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Nobody needs it now, but for the session that goes on.
	result, err := r.Collect(t.Context(), CollectOptions{MaxWait: 1})
	if err != nil || result.PacksDeleted > 0 || result.PacksPending == 0 {
		t.Fatalf("collected %+v, error %v", result, err)
	}
	w := mustWriter(t, s)
	if _, fresh, err := w.Add(t.Context(), data); err != nil || fresh {
		t.Fatalf("stored again: %v, error %v", fresh, err)
	}
	m, err := stageFiles(t.Context(), s, "x", map[string][]byte{"f": data}, fixedCutter(t, chunk.MaxSize))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	mustCollect(t, r, CollectOptions{})
	wantSnapshot(t, r, "x", map[string][]byte{"f": data})
	wantSound(t, r)
	if err := s.Refresh(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// What a collection has condemned before a session began stays absent for it, however often it
// looks; and so does what a session wrote that is being given up.
func TestRefreshTrustsNothingThatGoes(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	holder := mustSession(t, r)
	defer holder.Abort(t.Context())
	first := mustSession(t, r)
	id := addNoise(t, first, 1, 5000)
	if err := errors.Join(first.Sync(t.Context()), first.Checkpoint(t.Context()), first.Abort(t.Context())); err != nil {
		t.Fatal(err)
	}
	if result, err := r.Collect(t.Context(), CollectOptions{MaxWait: 1}); err != nil || result.PacksPending != 1 {
		t.Fatalf("collected %+v, error %v", result, err)
	}
	s := mustSession(t, openTestRepo(t, d.bucket(t), Options{}))
	defer s.Abort(t.Context())
	for range 2 {
		if s.Has(id) {
			t.Fatal("a condemned chunk is relied on")
		}
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	dying := mustSession(t, r)
	late := addNoise(t, dying, 2, 5000)
	if err := errors.Join(dying.Sync(t.Context()), dying.Checkpoint(t.Context()), s.Refresh(t.Context())); err != nil {
		t.Fatal(err)
	}
	if !s.Has(late) {
		t.Fatal("a chunk that was kept is not known")
	}
	if err := r.createDocument(t.Context(), closingKey(dying.lease.id), leaseDocument{dying.lease.id.String()}); err != nil {
		t.Fatal(err)
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if begun := mustSession(t, r); s.Has(late) || begun.Has(late) {
		t.Error("a chunk is relied on whose session is being given up")
	} else if err := begun.Abort(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Refresh(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}
