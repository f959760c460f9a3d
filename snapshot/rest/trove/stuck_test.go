package trove_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo/repotest"
)

// What cannot be deleted says so, and can be deleted later.
func TestDeleteFails(t *testing.T) {
	inner := memblob.OpenBucket(nil)
	bucket := repotest.NewHooked(inner)
	t.Cleanup(func() { _ = errors.Join(bucket.Close(), inner.Close()) })
	f := newFixtureOn(t, bucket.Bucket, nil)
	root := f.completed("root", nil)
	child := f.completed("child", map[string]any{"parent_id": root})
	bucket.Hook(func(_ context.Context, r repotest.Request) error {
		if r.Verb == repotest.VerbDelete && strings.HasPrefix(r.Key, "snapshot/") {
			return errors.New("the store does not let go of it")
		}
		return nil
	})
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+root, nil)
	if got := f.wait(child); got["status"] != "DELETE_FAILED" {
		t.Errorf("%v", got)
	}
	if got := f.wait(root); got["status"] != "COMPLETED" {
		t.Errorf("%v", got)
	}
	f.open()
	if got := f.wait(child); got["status"] != "DELETE_FAILED" {
		t.Errorf("after a restart: %v", got)
	}
	bucket.Hook(nil)
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+root, nil)
	if r := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil); r.names() != "" {
		t.Error(r.raw)
	}
}
