package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A repository that is open for years makes sessions all the time, and must not grow by each.
func TestSessionsAreForgotten(t *testing.T) {
	var e endedSessions
	var ids []sessionID
	for range 3*maxEndedSessions + 7 {
		id := newSessionID()
		ids = append(ids, id)
		e.add(id)
		e.add(id)
	}
	for i, id := range ids {
		if got, want := e.has(id), i >= len(ids)-maxEndedSessions; got != want {
			t.Fatalf("session %d of %d: known %v, want %v", i, len(ids), got, want)
		}
	}
	if len(e.known) != maxEndedSessions {
		t.Errorf("%d are kept", len(e.known))
	}
}

// What PutRemote takes Remote gives back.
func TestRemoteIsGivenBack(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	for name, change := range map[string]func(*Remote){
		"too large together":  func(m *Remote) { m.Snapshot.Description = strings.Repeat("d", maxManifestSize-300) },
		"location is no text": func(m *Remote) { m.Location = "S3:\xff" },
		"location is long":    func(m *Remote) { m.Location = "S3:" + strings.Repeat("l", maxManifestSize) },
		"fits":                func(m *Remote) { m.Snapshot.Description = strings.Repeat("d", maxManifestSize-2000) },
		"time beyond years":   func(m *Remote) { m.Snapshot.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"content cannot be":   func(m *Remote) { m.Snapshot.Table = Content{Depth: 99} },
	} {
		remote := Remote{Location: "S3:backups/app", Snapshot: &Manifest{ID: strings.ReplaceAll(name, " ", "-"), Created: testTime}}
		change(&remote)
		err := r.PutRemote(t.Context(), remote)
		if err != nil {
			wantErr(t, name, err, ErrInvalid)
			continue
		}
		got, err := r.Remote(t.Context(), remote.Snapshot.ID)
		if err != nil || got.Location != remote.Location || got.Snapshot.Description != remote.Snapshot.Description {
			t.Errorf("%s: it was taken, and now: %v", name, err)
		}
	}
}

// A snapshot that a session has made after it was given up does not count, and a collection deletes it. The ID may be
// used again meanwhile: then what stands there counts.
func TestCollectLeavesAnIDThatIsUsedAgain(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	s := mustSession(t, r)
	m, err := stageFiles(ctx, s, "late", map[string][]byte{"old": noiseData(1, 9000)}, fixedCutter(t, 512))
	if err != nil {
		t.Fatal(err)
	}
	quick := CollectOptions{LeaseTimeout: time.Millisecond, MaxWait: time.Minute}
	mustSnapshot(t, r, "gone", map[string][]byte{"gone": noiseData(2, 9000)}, fixedCutter(t, 512))
	wantErr(t, "delete", r.DeleteManifest(ctx, "gone"), nil)
	if result, err := r.Collect(ctx, quick); err != nil || len(result.GivenUp) != 1 {
		t.Fatalf("%+v, %v", result, err)
	}
	wantErr(t, "commit", s.Commit(ctx, m), ErrGivenUp)
	files := map[string][]byte{"new": noiseData(3, 9000)}
	again := openTestRepo(t, d.bucket(t), Options{})
	cut := fixedCutter(t, 512)
	var seen atomic.Bool
	d.before.set(func(_ context.Context, o op) error {
		// The collection has looked at the manifests.
		if o.kind == "list" && o.key == packPrefix && seen.CompareAndSwap(false, true) {
			if err := again.DeleteManifest(ctx, "late"); err != nil {
				t.Error(err)
			}
			if err := takeSnapshot(ctx, again, "late", files, cut); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	if _, err := r.Collect(ctx, quick); err != nil && !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	if !seen.Load() {
		t.Fatal("the collection never came to the packs")
	}
	wantSnapshot(t, again, "late", files)
	wantSound(t, again)
}

// Small things are no cheaper to keep than the notes about them.
func TestCacheCountsItsOwnRoom(t *testing.T) {
	c := newChunkCache(1 << 20)
	for n := range 1 << 16 {
		c.put(identify(t, newRepository(store{}, Options{}), fmt.Append(nil, n)), []byte{1})
	}
	if n := len(c.byID); n > 1<<20/100 {
		t.Errorf("%d chunks of a byte are in a cache of a MiB", n)
	}
}

// A listing that its context has cut short does not pass for a whole one.
func TestListingsSayThatTheyWereCutShort(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	var ids []string
	for n := range 9 {
		id := fmt.Sprint("s", n)
		ids = append(ids, id)
		mustSnapshot(t, r, id, map[string][]byte{"f": noiseData(uint64(n), 500)}, fixedCutter(t, 512))
		wantErr(t, "register", r.PutRemote(t.Context(), Remote{Location: "S3:b", Snapshot: &Manifest{ID: "remote-" + id, Created: testTime}}), nil)
	}
	// Of a session that this Repository did not see, so that it has to ask which of them count.
	r = openTestRepo(t, r.store.bucket, Options{})
	given := func(yield func(string, error) bool) {
		for _, id := range ids {
			if !yield(id, nil) {
				return
			}
		}
	}
	for name, list := range map[string]func(ctx context.Context, each func(error)){
		"Manifests":        func(ctx context.Context, each func(error)) { eachOf(r.Manifests(ctx), each) },
		"ManifestsReverse": func(ctx context.Context, each func(error)) { eachOf(r.ManifestsReverse(ctx), each) },
		"ManifestsOf":      func(ctx context.Context, each func(error)) { eachOf(r.ManifestsOf(ctx, given), each) },
		"Remotes":          func(ctx context.Context, each func(error)) { eachOf(r.Remotes(ctx), each) },
	} {
		for after := 1; after <= len(ids); after++ {
			cause := errors.New("the operator pressed stop")
			ctx, cancel := context.WithCancelCause(t.Context())
			listed, failed := 0, 0
			list(ctx, func(err error) {
				if err != nil {
					if failed++; !errors.Is(err, cause) && !errors.Is(err, context.Canceled) {
						t.Errorf("%s, cancelled after %d: %v", name, after, err)
					}
					return
				}
				if listed++; listed == after {
					cancel(cause)
				}
			})
			cancel(nil)
			if listed != after || failed > 1 || failed == 0 && listed < len(ids) {
				t.Errorf("%s, cancelled after %d: %d were listed, with %d errors", name, after, listed, failed)
			}
		}
	}
}

func eachOf[T any](seq iter.Seq2[T, error], each func(error)) {
	for _, err := range seq {
		each(err)
	}
}
