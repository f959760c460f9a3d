package arangodb_test

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
	"github.com/holdstill/holdstill/snapshot/rest/arangodb"
)

// table is a Source: one method. A real one pins a database; see the packages below snapshot/adapter.
type table struct{}

func (table) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{FS: fstest.MapFS{"orders/42": {Data: []byte("pending")}}, Kind: "table"}, nil
}

func Example() {
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	engine, err := snapshot.Open(context.Background(), snapshot.Config{
		Bucket: bucket, Sources: map[string]snapshot.Source{"orders": table{}}, DatabaseVersion: "3.12.5",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	handler, err := arangodb.New(engine, arangodb.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer handler.Close()
	mux := http.NewServeMux()
	mux.Handle("/_admin/backup/", handler)
	server := httptest.NewServer(mux)
	defer server.Close()

	for _, request := range []string{`create {"label": "nightly"}`, `delete {"id": "2025-01-01T00.00.00Z_unknown"}`} {
		operation, body, _ := strings.Cut(request, " ")
		response, err := http.Post(server.URL+"/_admin/backup/"+operation, "application/json", strings.NewReader(body))
		if err != nil {
			log.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		if err != nil {
			log.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusCreated {
			fmt.Println(operation, response.Status)
			continue
		}
		fmt.Printf("%s %s\n%s", operation, response.Status, answer)
	}
	// Output:
	// create 201 Created
	// delete 404 Not Found
	// {"error":true,"code":404,"errorNum":7007,"errorMessage":"no such hot backup set can be found: repo: no such snapshot: 2025-01-01T00.00.00Z_unknown"}
}
