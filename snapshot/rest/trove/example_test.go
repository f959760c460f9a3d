package trove_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/trove"
)

// A server mounts the handler; here a client makes a backup.
func ExampleNew() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Bucket:  bucket, // or Repository: "s3:backups/app"
		Sources: map[string]snapshot.Source{"db": &source{files: fstest.MapFS{"rows": {Data: []byte("one, two")}}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	handler, err := trove.New(ctx, engine, trove.Options{
		Instances: []trove.Instance{{ID: "44b277eb-39be-4921-be31-3d61b43651d7", Name: "orders"}},
		Authenticate: func(r *http.Request) (trove.Caller, error) {
			// Ask Keystone about r.Header.Get("X-Auth-Token").
			return trove.Caller{Project: "p1"}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer handler.Close()
	server := httptest.NewServer(handler)
	defer server.Close()

	body := `{"backup": {"name": "snapshot", "instance": "44b277eb-39be-4921-be31-3d61b43651d7"}}`
	resp, err := http.Post(server.URL+"/v1.0/p1/backups", "application/json", strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	var made struct{ Backup struct{ Name, Status string } }
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.StatusCode, made.Backup.Name, made.Backup.Status)
	// Output: 202 snapshot NEW
}
