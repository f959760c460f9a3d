package trove_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/trove"
	"github.com/holdstill/holdstill/transfer"
)

// hookedRecords is a fixture with a restore, and with records whose store can be made to fail.
func hookedRecords(t *testing.T) (*fixture, *repotest.HookedBucket) {
	t.Helper()
	dir := t.TempDir()
	inner := memblob.OpenBucket(nil)
	records := repotest.NewHooked(inner)
	t.Cleanup(func() { _ = errors.Join(records.Close(), inner.Close()) })
	return newFixture(t, func(o *trove.Options) {
		o.Records = records.Bucket
		o.Restore = func(_ context.Context, r trove.RestoreRequest) (snapshot.RestoreOptions, error) {
			return snapshot.RestoreOptions{To: filepath.Join(dir, r.Instance), Source: "db"}, nil
		}
	}), records
}

// makesRecord says whether a request makes the record of a restore.
func makesRecord(r repotest.Request) bool {
	return r.Verb == repotest.VerbCreate && strings.HasPrefix(r.Key, "restore/")
}

// The record that a restore begins with is slow to be kept, so that somebody asks for the instance before. What they
// are told stays so.
func TestRestoreEndsBeforeItsRecord(t *testing.T) {
	f, records := hookedRecords(t)
	id := f.completed("one", nil)
	keys, overtaken, release := make(chan string, 1), make(chan struct{}), make(chan struct{})
	var made atomic.Int64
	records.Hook(func(_ context.Context, r repotest.Request) error {
		if !makesRecord(r) {
			return nil
		}
		switch made.Add(1) {
		case 1:
			keys <- r.Key
			<-release
		case 2:
			close(overtaken)
		}
		return nil
	})
	var clients sync.WaitGroup
	clients.Go(func() { f.do("POST", "/v1.0/p1/instances", restoreBody(id)) })
	key := <-keys
	for s, err := range f.engine.Jobs(t.Context(), transfer.JobFilter{Kinds: []transfer.Kind{transfer.KindRestore}}) {
		if err != nil {
			t.Fatal(err)
		}
		job, err := f.engine.Job(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := job.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	instance := strings.TrimSuffix(strings.TrimPrefix(key, "restore/"), ".json")
	clients.Go(func() { f.do("GET", "/v1.0/p1/instances/"+instance, nil) })
	// Nothing tells that the second client waits for the first. Where it does not, it is done in a moment.
	select {
	case <-overtaken:
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	clients.Wait()
	if data, err := records.ReadAll(t.Context(), key); err != nil || !strings.Contains(string(data), `"status":"ACTIVE"`) {
		t.Errorf("%s, %v", data, err)
	}
}

// A restore ends while nobody asks for its instance: the record says so all the same, also where the handler is another
// one by then.
func TestEndOfRestoreIsKeptUnasked(t *testing.T) {
	for _, reopened := range []bool{false, true} {
		f, records := hookedRecords(t)
		id := f.completed("one", nil)
		release := make(chan struct{})
		restore := f.opts.Restore
		f.opts.Restore = func(ctx context.Context, r trove.RestoreRequest) (snapshot.RestoreOptions, error) {
			opts, err := restore(ctx, r)
			opts.Progress = func(snapshot.Progress) { <-release }
			return opts, err
		}
		f.open()
		made := f.must(http.StatusOK, "POST", "/v1.0/p1/instances", restoreBody(id)).body["instance"].(map[string]any)["id"].(string)
		if reopened {
			f.open()
		}
		close(release)
		for {
			data, err := records.ReadAll(t.Context(), "restore/"+made+".json")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(data), `"status":"ACTIVE"`) {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// The end of a restore cannot be kept when it is first asked for, and is later.
func TestEndOfRestoreIsKeptLater(t *testing.T) {
	f, records := hookedRecords(t)
	id := f.completed("one", nil)
	made := f.must(http.StatusOK, "POST", "/v1.0/p1/instances", restoreBody(id)).body["instance"].(map[string]any)["id"].(string)
	var refused atomic.Bool
	records.Hook(func(_ context.Context, r repotest.Request) error {
		if makesRecord(r) {
			refused.Store(true)
			return errors.New("the store takes nothing")
		}
		return nil
	})
	path := "/v1.0/p1/instances/" + made
	for !refused.Load() {
		f.do("GET", path, nil)
		time.Sleep(time.Millisecond)
	}
	f.must(http.StatusInternalServerError, "GET", path, nil).message(t, "instanceFault")
	records.Hook(nil)
	if got := f.must(http.StatusOK, "GET", path, nil).body["instance"].(map[string]any); got["status"] != "ACTIVE" {
		t.Errorf("%v", got)
	}
	if data, err := records.ReadAll(t.Context(), "restore/"+made+".json"); err != nil || !strings.Contains(string(data), `"status":"ACTIVE"`) {
		t.Errorf("%s, %v", data, err)
	}
}
