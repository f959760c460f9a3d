package pieces_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/pieces"
)

// A server hands the Handler to an http.Server; the clients' own port is 1000.
func ExampleNew() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Bucket:          bucket,
		Sources:         map[string]snapshot.Source{"kv": &files{fs: fstest.MapFS{"rows": {Data: []byte("one, two, three")}}}},
		DatabaseVersion: "11.0.1",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	handler, err := pieces.New(engine, pieces.Options{
		Authorize: func(r *http.Request, action pieces.Action) error {
			if r.Header.Get("X-Application-ID") == "" {
				return fmt.Errorf("%s: say who you are", action)
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer handler.Close()
	server := httptest.NewServer(handler)
	defer server.Close()

	for _, id := range []string{"", "example"} {
		r, err := http.NewRequestWithContext(ctx, "POST", server.URL+"/backups/create", strings.NewReader("{}"))
		if err != nil {
			log.Fatal(err)
		}
		r.Header.Set("X-Application-ID", id)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(answer.StatusCode, strings.Contains(string(body), `"version":"11.0.1"`))
	}
	// Output:
	// 511 false
	// 200 true
}
