package trove

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The document and the handler have the same routes.
func TestDocumentHasTheRoutes(t *testing.T) {
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Error(doc.OpenAPI)
	}
	var documented, served []string
	for path, item := range doc.Paths {
		for method := range item {
			if method != "parameters" {
				documented = append(documented, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, r := range routeTable() {
		served = append(served, r.method+" "+r.path)
	}
	slices.Sort(documented)
	slices.Sort(served)
	if diff := cmp.Diff(documented, served); diff != "" {
		t.Error(diff)
	}
}

func TestGibibytes(t *testing.T) {
	for n, want := range map[int64]float64{-1: 0, 0: 0, 1: 0.01, 1 << 20: 0.01, 150323855: 0.14, 1 << 30: 1, 3 << 29: 1.5, 1 << 40: 1024} {
		if got := gibibytes(n); got != want {
			t.Errorf("%d bytes are %v, not %v", n, got, want)
		}
	}
}

func TestUUIDs(t *testing.T) {
	a, b := newUUID(), newUUID()
	if !isUUID(a) || a == b || a[14] != '4' || !strings.Contains("89ab", a[19:20]) {
		t.Error(a, b)
	}
	if got := uuidOf("instance", "x"); got != uuidOf("instance", "x") || got == uuidOf("backup", "x") || got[14] != '8' || !isUUID(got) {
		t.Error(got)
	}
	for _, bad := range []string{"", a[1:], a + "0", strings.Replace(a, "-", "0", 1), "g" + a[1:]} {
		if isUUID(bad) {
			t.Errorf("%q is taken for a UUID", bad)
		}
	}
}

func FuzzParseBody(f *testing.F) {
	f.Add([]byte(`{"backup":{"name":"a","instance":"44b277eb-39be-4921-be31-3d61b43651d7","incremental":1}}`))
	f.Add([]byte(`{"backup":{"name":"a\nb","restore_from":{"remote_location":"s3:x/y","size":1e400}}}`))
	f.Add([]byte(`{"backup":{"name":null,"parent_id":[1],"description":"é"}}`))
	pattern := regexp.MustCompile(`^.*[0-9a-zA-Z]+.*\n?\z`)
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseBody(data, "backup")
		if err != nil {
			return
		}
		c, err := parseCreate(o)
		if err != nil {
			return
		}
		if !pattern.MatchString(c.name) || c.parent != "" && !isUUID(c.parent) || c.instance != "" && !isUUID(c.instance) {
			t.Errorf("%+v from %q", c, data)
		}
		if s, ok := o.fields["name"].(string); ok && s != c.name {
			t.Errorf("%q became %q", s, c.name)
		}
		if c.restoreFrom != nil && (c.restoreFrom.size < 0 || c.restoreFrom.location == "") {
			t.Errorf("%+v from %q", c.restoreFrom, data)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	now := time.Date(2014, 10, 30, 12, 30, 0, 0, time.UTC)
	sample, err := json.Marshal(record{ID: uuidOf("backup", "x"), Name: "n", State: stateCompleted, Created: now, Updated: now, Size: 0.14, Sized: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	f.Add([]byte(`{"id":"x","state":"NEW"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseRecord(again); err != nil || back.ID != r.ID || back.State != r.State || back.Size != r.Size {
			t.Errorf("%+v became %+v, %v", r, back, err)
		}
		if _, err := json.Marshal(r.view()); err != nil {
			t.Error(err)
		}
	})
}

func FuzzSplitLocation(f *testing.F) {
	for _, s := range []string{"s3:backups/app/2026-01-01T00.00.00Z_x", "local:/a", "/", "s3:x/..", "a//b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		location, id, err := splitLocation(ref)
		if err == nil && location+"/"+id != ref {
			t.Errorf("%q became %q and %q", ref, location, id)
		}
	})
}
