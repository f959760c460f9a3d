package repo

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rival is one of several sessions that are to make snapshots, with something attached.
type rival struct {
	*Session
	t *testing.T
	m *Manifest
}

func newRival(t *testing.T, r *Repository, id, data string) *rival {
	t.Helper()
	s, err := r.NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := &rival{Session: s, t: t}
	wantErr(t, "reserve", s.Reserve(t.Context(), id), nil)
	v.attach(id, "log", data+", before")
	v.attach(id, "log", data)
	if v.m, err = stageFiles(t.Context(), s, id, smallFiles(1), fixedCutter(t, 512)); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *rival) attach(id, name, data string) {
	v.t.Helper()
	wantErr(v.t, "attach", v.PutAttachment(v.t.Context(), id, name, []byte(data)), nil)
}

func (v *rival) commit(want error) {
	v.t.Helper()
	wantErr(v.t, "commit", v.Commit(v.t.Context(), v.m), want)
}

func (v *rival) abort() {
	v.t.Helper()
	wantErr(v.t, "abort", v.Abort(v.t.Context()), nil)
}

// Two sessions are to make the same snapshot, as where it is uploaded from two places. Whichever makes it, what it
// has attached is there, and nothing of the other.
func TestSessionsOfOneSnapshot(t *testing.T) {
	stories := map[string]struct {
		play func(a, b *rival)
		want string
	}{
		"the first":                        {func(a, b *rival) { a.commit(nil); b.commit(ErrExists); b.abort() }, "of a"},
		"the second":                       {func(a, b *rival) { b.commit(nil); a.commit(ErrExists); a.abort() }, "of b"},
		"the first, the other gives up":    {func(a, b *rival) { b.abort(); a.commit(nil) }, "of a"},
		"the second, the other gives up":   {func(a, b *rival) { a.abort(); b.commit(nil) }, "of b"},
		"the first, the other suspended":   {func(a, b *rival) { wantErr(b.t, "suspend", b.Suspend(b.t.Context()), nil); a.commit(nil) }, "of a"},
		"the other gives up after a while": {func(a, b *rival) { a.commit(nil); b.abort() }, "of a"},
	}
	for name, story := range stories {
		for _, collected := range []bool{false, true} {
			d := newTestDriver()
			r := newTestRepo(t, d, Options{})
			a := newRival(t, r, "s", "of a")
			b := newRival(t, openTestRepo(t, r.store.bucket, Options{}), "s", "of b")
			if collected {
				if _, err := r.Collect(t.Context(), CollectOptions{MaxWait: 1}); err != nil {
					t.Fatal(err)
				}
			}
			story.play(a, b)
			for _, when := range []string{"afterwards", "after a collection"} {
				if diff := cmp.Diff(map[string]string{"log": story.want}, attached(t, r, "s")); diff != "" {
					t.Errorf("%s, %s: %s", name, when, diff)
				}
				if _, err := r.Collect(t.Context(), CollectOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if keys := attachmentObjects(d); len(keys) != 1 {
				t.Errorf("%s: left %q", name, keys)
			}
		}
	}
}

// What an earlier attempt has left under an ID does not become part of the snapshot.
func TestReserveClears(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	a := newRival(t, r, "s", "of a")
	a.attach("s", "other", "of a")
	d.vanish(a.Session)
	b := newRival(t, r, "s", "of b")
	b.commit(nil)
	if diff := cmp.Diff(map[string]string{"log": "of b"}, attached(t, r, "s")); diff != "" {
		t.Error(diff)
	}
}

// A session whose ID was taken, and that makes its snapshot under another one, leaves nothing with the one that has
// the first.
func TestAttachmentsOfAnotherID(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	a := newRival(t, r, "s", "of a")
	mustSnapshot(t, r, "s", smallFiles(2), fixedCutter(t, 512))
	a.commit(ErrExists)
	a.m.ID = "t"
	a.attach("t", "log", "of t")
	a.commit(nil)
	if got := attached(t, r, "s"); len(got) != 0 {
		t.Errorf("the other's snapshot has got %v", got)
	}
	if diff := cmp.Diff(map[string]string{"log": "of t"}, attached(t, r, "t")); diff != "" {
		t.Error(diff)
	}
}

// An ID that is used again as soon as it is free: the deletion takes nothing of the new snapshot.
func TestDeleteWhileTheIDIsUsedAgain(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	newRival(t, r, "s", "of a").commit(nil)
	var again atomic.Bool
	d.after.set(func(_ context.Context, o op) error {
		if o.kind == "delete" && o.key == snapshotPrefix+"s" && again.CompareAndSwap(false, true) {
			newRival(t, r, "s", "of b").commit(nil)
		}
		return nil
	})
	wantErr(t, "delete", r.DeleteManifest(t.Context(), "s"), nil)
	if diff := cmp.Diff(map[string]string{"log": "of b"}, attached(t, r, "s")); diff != "" {
		t.Error(diff)
	}
	wantErr(t, "delete", r.DeleteManifest(t.Context(), "s"), nil)
	if keys := attachmentObjects(d); len(keys) != 0 {
		t.Errorf("left %q", keys)
	}
}
