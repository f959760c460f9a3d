package trove_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/trove"
	"github.com/holdstill/holdstill/transfer"
)

// Close ends a restore from another region and waits until it has cleaned up.
func TestCloseEndsRemoteRestores(t *testing.T) {
	top := t.TempDir()
	there := filepath.ToSlash(filepath.Join(top, "there"))
	engine, err := snapshot.Open(t.Context(), snapshot.Config{
		Repository: "local:" + there, Sources: map[string]snapshot.Source{"db": &source{files: sampleFiles()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := engine.Create(t.Context(), snapshot.CreateOptions{Metadata: map[string]string{"trove.project_id": "p1"}})
	if err := errors.Join(err, engine.Close()); err != nil {
		t.Fatal(err)
	}
	stopping := make(chan struct{})
	f := newFixture(t, func(o *trove.Options) {
		o.Locations = repo.LocationConfig{"region2": {"type": "local"}}
		o.Restore = func(context.Context, trove.RestoreRequest) (snapshot.RestoreOptions, error) {
			return snapshot.RestoreOptions{
				To: filepath.Join(top, "live"), Source: "db", InPlace: true,
				Stop: func(ctx context.Context) error {
					close(stopping)
					<-ctx.Done()
					return context.Cause(ctx)
				},
			}, nil
		}
	})
	if err := errors.Join(os.Mkdir(filepath.Join(top, "live"), 0o700), os.WriteFile(filepath.Join(top, "live", "rows"), []byte("old"), 0o600)); err != nil {
		t.Fatal(err)
	}
	id := f.must(http.StatusAccepted, "POST", "/v1.0/p1/backups", map[string]any{"backup": map[string]any{"name": "near", "restore_from": map[string]any{
		"remote_location": "region2:" + there + "/" + snap.ID, "local_datastore_version_id": versionID,
	}}}).body["backup"].(map[string]any)["id"].(string)
	instance := f.must(http.StatusOK, "POST", "/v1.0/p1/instances", restoreBody(id)).body["instance"].(map[string]any)["id"].(string)
	<-stopping
	if err := f.handler.Close(); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(top, "live", "rows")); err != nil || string(data) != "old" {
		t.Errorf("%q, %v", data, err)
	}
	if data, err := f.records.ReadAll(t.Context(), "restore/"+instance+".json"); err != nil || !strings.Contains(string(data), `"status":"ERROR"`) {
		t.Errorf("%s, %v", data, err)
	}
	f.open()
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/instances/"+instance, nil).body["instance"].(map[string]any); got["status"] != "ERROR" {
		t.Errorf("%v", got)
	}
}

// A backup that has been running for days may be deleted: it is ended first.
func TestDeleteOfStuck(t *testing.T) {
	f := newFixture(t, nil)
	hold := make(chan struct{})
	defer close(hold)
	f.source.set(func(s *source) { s.hold = hold })
	id := f.create("stuck", nil)
	key := "backup/" + id + ".json"
	data, err := f.records.ReadAll(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var record map[string]any
	if err := json.Unmarshal(data, &record); err != nil {
		t.Fatal(err)
	}
	record["created"] = time.Now().Add(-73 * time.Hour).UTC()
	if data, err = json.Marshal(record); err != nil {
		t.Fatal(err)
	}
	if err := f.records.WriteAll(t.Context(), key, data, nil); err != nil {
		t.Fatal(err)
	}
	f.open()
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+id, nil)
	f.must(http.StatusNotFound, "GET", "/v1.0/p1/backups/"+id, nil)
	if n := len(ids(t, f.engine)); n != 0 {
		t.Errorf("%d snapshots", n)
	}
	for s, err := range f.engine.Jobs(t.Context(), transfer.JobFilter{}) {
		if err != nil || s.State != "CANCELLED" {
			t.Errorf("%+v, %v", s, err)
		}
	}
}

// Many callers at once.
func TestConcurrentCallers(t *testing.T) {
	f := newFixture(t, func(o *trove.Options) { o.Quota = -1 })
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			project := fmt.Sprintf("p%d", i%2)
			path := "/v1.0/" + project + "/backups"
			for n := range 5 {
				r := f.do("POST", path, map[string]any{"backup": map[string]any{"name": fmt.Sprintf("b%d-%d", i, n), "instance": instanceID, "incremental": 1}})
				if r.code != http.StatusAccepted {
					t.Errorf("%d %s", r.code, r.raw)
					return
				}
				id := r.body["backup"].(map[string]any)["id"].(string)
				for {
					r = f.do("GET", path+"/"+id, nil)
					if r.code == http.StatusNotFound {
						break // with its parent, by somebody else
					}
					got, ok := r.body["backup"].(map[string]any)
					if !ok {
						t.Errorf("%d %s", r.code, r.raw)
						return
					}
					if got["status"] != "NEW" && got["status"] != "BUILDING" {
						break
					}
					time.Sleep(time.Millisecond)
				}
				if n%2 == 0 {
					if r := f.do("DELETE", path+"/"+id, nil); r.code != http.StatusAccepted && r.code != http.StatusNotFound && r.code != http.StatusUnprocessableEntity {
						t.Errorf("%d %s", r.code, r.raw)
					}
				}
				if r := f.do("GET", path, nil); r.code != http.StatusOK {
					t.Errorf("%d %s", r.code, r.raw)
				}
			}
		})
	}
	wg.Wait()
	// The list, the snapshots and what a new handler reads are the same.
	count := func() (n int) {
		for _, project := range []string{"p0", "p1"} {
			for _, b := range f.must(http.StatusOK, "GET", "/v1.0/"+project+"/backups?limit=100", nil).body["backups"].([]any) {
				if b.(map[string]any)["status"] == "COMPLETED" {
					n++
				}
			}
		}
		return n
	}
	want := len(ids(t, f.engine))
	if got := count(); got != want {
		t.Errorf("%d backups of %d snapshots", got, want)
	}
	f.open()
	if got := count(); got != want {
		t.Errorf("%d backups of %d snapshots after a restart", got, want)
	}
}

// The policy and the snapshots' options are the server's.
func TestHooks(t *testing.T) {
	var asked []string
	f := newFixture(t, func(o *trove.Options) {
		o.Authorize = func(_ context.Context, c trove.Caller, a trove.Action) error {
			asked = append(asked, a.Rule+" "+a.Project)
			if strings.HasSuffix(a.Rule, ":delete") {
				return trove.ErrForbidden
			}
			return nil
		}
		o.Create = func(c *snapshot.CreateOptions) { c.Metadata["ticket"] = "42" }
	})
	id := f.completed("one", nil)
	r := f.must(http.StatusForbidden, "DELETE", "/v1.0/p1/backups/"+id, nil)
	if m := r.message(t, "forbidden"); m != "Policy doesn't allow backup:delete to be performed." {
		t.Error(m)
	}
	if asked[0] != "backup:create p1" || asked[len(asked)-1] != "backup:delete p1" {
		t.Error(asked)
	}
	for s, err := range f.engine.List(t.Context(), snapshot.Filter{}) {
		if err != nil || s.Metadata["ticket"] != "42" || s.Metadata["trove.id"] != id {
			t.Errorf("%v, %v", s, err)
		}
	}
}

// A snapshot whose description is damaged is not restored, and harms no other.
func TestDamagedSnapshot(t *testing.T) {
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { bucket.Close() })
	f := newFixtureOn(t, bucket, func(o *trove.Options) {
		o.Restore = func(context.Context, trove.RestoreRequest) (snapshot.RestoreOptions, error) {
			return snapshot.RestoreOptions{To: filepath.Join(t.TempDir(), "x")}, nil
		}
	})
	damage := func(id string) {
		t.Helper()
		for _, key := range ids(t, f.engine) {
			if strings.HasSuffix(key, id) {
				if err := bucket.WriteAll(t.Context(), "snapshot/"+key, []byte("no manifest any more"), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	one := f.completed("one", nil)
	damage(one)
	r := f.must(http.StatusConflict, "POST", "/v1.0/p1/instances", restoreBody(one))
	if m := r.message(t, "conflict"); !strings.Contains(m, one) {
		t.Error(m)
	}
	f.completed("two", nil)
	// Without its record nobody knows whose it is.
	if err := f.records.Delete(t.Context(), "backup/"+one+".json"); err != nil {
		t.Fatal(err)
	}
	f.open()
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).names(); got != "two" {
		t.Error(got)
	}
}
