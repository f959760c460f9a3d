package optools_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/optools"
	"github.com/holdstill/holdstill/snapshot/rest/optools/docsource"
	"github.com/holdstill/holdstill/snapshot/rest/optools/internal/memstore"
)

// A server of documents gets the routes. A real one has its own docsource.Store and keeps
// its snapshots in Config.Repository.
func ExampleNew() {
	ctx := context.Background()
	store := memstore.New("athena_components", "athena_sessions", "athena_system")
	store.Set("athena_system", `{"_id":"00_settings_athena","port":"3000"}`)

	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Bucket:  bucket,
		Sources: map[string]snapshot.Source{"documents": docsource.New(store, docsource.Options{})},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer engine.Close()
	handler, err := optools.New(engine, optools.Options{
		Source: "documents", Store: store,
		Authorize: func(r *http.Request, _ optools.Action) (optools.Caller, error) {
			key, secret, _ := r.BasicAuth()
			if key != "key" || secret != "secret" {
				return optools.Caller{}, optools.ErrUnauthenticated
			}
			return optools.Caller{Email: "alan@example.com"}, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handler.Close()
	mux := http.NewServeMux()
	mux.Handle("/ak/api/", handler)
	server := httptest.NewServer(mux)
	defer server.Close()

	// What a client does: start a backup, and ask until it is done.
	call := func(method, path string) (answer map[string]any) {
		rq, _ := http.NewRequest(method, server.URL+path, strings.NewReader("{}"))
		rq.SetBasicAuth("key", "secret")
		resp, err := http.DefaultClient.Do(rq)
		if err != nil {
			fmt.Println(err)
			return nil
		}
		defer resp.Body.Close()
		_ = json.NewDecoder(resp.Body).Decode(&answer)
		return answer
	}
	started := call("POST", "/ak/api/v3/backups")
	fmt.Println(started["message"])
	for {
		backup := call("GET", fmt.Sprintf("/ak/api/v3/backups/%s", started["id"]))
		if backup["in_progress"] == false {
			fmt.Println("documents:", backup["doc_count"])
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Output:
	// in-progress
	// documents: 1
}
