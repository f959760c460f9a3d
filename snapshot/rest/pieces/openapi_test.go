package pieces

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
)

// The document and the Handler know the same routes.
func TestOpenAPIRoutes(t *testing.T) {
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	engine, err := snapshot.Open(t.Context(), snapshot.Config{Bucket: bucket})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	h, err := New(engine, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var served []string
	for _, r := range h.routes {
		served = append(served, r.method+" "+r.path)
		if r.path == "/.well-known/health" {
			// Clients ask with HEAD; net/http answers that wherever it answers GET.
			served = append(served, "HEAD "+r.path)
		}
	}
	var document struct {
		OpenAPI string
		Paths   map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(OpenAPI(), &document); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(document.OpenAPI, "3.1.") {
		t.Errorf("version %q", document.OpenAPI)
	}
	var described []string
	for path, item := range document.Paths {
		for method := range maps.Keys(item) {
			if method != "parameters" {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(served)
	slices.Sort(described)
	if diff := cmp.Diff(served, described); diff != "" {
		t.Error(diff)
	}
}
