package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// giveUp collects as another process would while the copies into a bucket stand still.
func giveUp(ctx context.Context, t testing.TB, bucket *blob.Bucket, underWay bool) {
	e, err := snapshot.Open(ctx, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"other": mapSource{fstest.MapFS{"f": {Data: noisy(77, 3000)}}}}})
	if err != nil {
		t.Error(err)
		return
	}
	defer e.Close()
	// Without garbage nobody is waited for.
	s, err := e.Create(ctx, snapshot.CreateOptions{})
	if err == nil {
		err = e.Delete(ctx, s.ID)
	}
	if err != nil {
		t.Error(err)
		return
	}
	result, err := e.Collect(ctx, repo.CollectOptions{MinDead: 1, LeaseTimeout: time.Nanosecond, MaxWait: time.Minute})
	if err != nil || len(result.GivenUp) == 0 && underWay {
		t.Errorf("the session was not given up: %+v, %v", result, err)
	}
}

// A copy whose session was given up, as on a machine that was suspended, goes on in another.
func TestCopyOnceMore(t *testing.T) {
	data := noisy(1, 5<<20)
	files := fstest.MapFS{"a": {Data: data}, "b": {Data: rows(2, 300_000)}}
	for name, test := range map[string]struct {
		opts transfer.Options
		// key and at say before which request the collection comes.
		key   string
		at    int32
		times int32
		fails bool
	}{
		"at once":                   {key: "pack/", at: 0, times: 1},
		"halfway":                   {key: "pack/", at: 3, times: 1},
		"with checkpoints":          {opts: transfer.Options{CheckpointBytes: 1 << 20}, key: "pack/", at: 3, times: 1},
		"with the last index":       {key: "index/", at: 0, times: 1},
		"discarding":                {opts: transfer.Options{Discard: true}, key: "pack/", at: 3, times: 1},
		"twice":                     {key: "pack/", at: 0, times: 100, fails: true},
		"as it writes the manifest": {key: "snapshot/", at: 0, times: 1, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			src, _ := open(t, files)
			s := create(t, src, "x")
			if err := src.Attach(t.Context(), s.ID, "note", strings.NewReader("kept with it")); err != nil {
				t.Fatal(err)
			}
			hooked, bucket := newHooked(t)
			var log bytes.Buffer
			dst := openBucket(t, hooked.Bucket, repo.Options{PackSize: 1 << 20, Retry: oneTry, Uploads: 1})
			var seen, done atomic.Int32
			hooked.Hook(func(ctx context.Context, r repotest.Request) error {
				if r.Verb == repotest.VerbCreate && strings.HasPrefix(r.Key, test.key) && seen.Add(1) > test.at && done.Add(1) <= test.times {
					giveUp(context.WithoutCancel(ctx), t, bucket, done.Load() == 1)
				}
				return nil
			})
			opts := test.opts
			opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
			opts.Progress = func(p transfer.Progress) {
				if p.BytesDone > p.BytesTotal || p.FilesDone > p.FilesTotal {
					t.Errorf("more is done than there is: %+v", p)
				}
			}
			result, err := transfer.Copy(t.Context(), dst, src.Repository(), s.ID, opts)
			hooked.Hook(nil)
			if !strings.Contains(log.String(), s.ID) {
				t.Errorf("nothing of it in the log: %q", log.String())
			}
			again := openBucket(t, bucket, repo.Options{Retry: oneTry})
			if test.fails {
				if !errors.Is(err, repo.ErrGivenUp) {
					t.Fatalf("error %v", err)
				}
				if _, err := again.Manifest(t.Context(), s.ID); !errors.Is(err, repo.ErrNotFound) {
					t.Errorf("it is there: %v", err)
				}
				giveUp(t.Context(), t, bucket, false)
				if result, err = transfer.Copy(t.Context(), again, src.Repository(), s.ID, test.opts); err != nil {
					t.Fatal(err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if result.Snapshot.ID != s.ID || result.BytesSent > s.Stats.BytesStored+200_000 {
				t.Errorf("%s: %d bytes sent of %d", result.Snapshot.ID, result.BytesSent, s.Stats.BytesStored)
			}
			wantWhole(t, openBucket(t, bucket, repo.Options{}), s.ID)
			if note, err := again.ReadAttachment(t.Context(), s.ID, "note"); err != nil || string(note) != "kept with it" {
				t.Errorf("attachment %q, %v", note, err)
			}
		})
	}
}
