package pieces_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/pieces"
)

// withAssets keeps each asset in a folder named like it.
func withAssets(_ *snapshot.Config, o *pieces.Options) {
	o.Assets = func(_ context.Context, assets []pieces.Asset) ([]string, error) {
		var patterns []string
		for _, a := range assets {
			if strings.ContainsAny(a.ID, `*?[]\/`) {
				return nil, errors.New("no such asset")
			}
			if a.ID != "empty" {
				patterns = append(patterns, "kv/"+a.ID+"/**")
			}
		}
		return patterns, nil
	}
	whole := o.Restore
	o.RestoreAssets = func(context.Context, *snapshot.Snapshot) (snapshot.RestoreOptions, error) {
		part := whole
		part.AllowPartial = true
		return part, nil
	}
}

func TestAssets(t *testing.T) {
	s := newServer(t, withAssets)
	asset := func(id string) string {
		return `{"id":"` + id + `","name":"n","creator":"u1","created":{"value":"2025-06-01T10:00:00Z"},"updated":{"value":"2025-06-01T10:00:00Z"},` +
			`"mechanism":"MANUAL","formats":{"iterable":[]},"original":{"id":"f1"},"preview":{"base":{"id":"f1"}}}`
	}
	s.want(s.send("POST", "/backup/asset", asset("a3")), 204)
	s.want(s.send("POST", "/backup", `{"iterable":[`+asset("a1")+","+asset("a2")+`]}`), 204)
	for _, id := range []string{"*", "empty", "unknown"} {
		s.want(s.send("POST", "/backup/asset", asset(id)), 500)
	}
	list := s.list()
	if len(list.Iterable) != 2 {
		t.Fatalf("%+v", list)
	}
	for i, want := range [][]string{{"kv/a1/**", "kv/a2/**"}, {"kv/a3/**"}} {
		for m, err := range s.engine.List(t.Context(), snapshot.Filter{Label: list.Iterable[i].ID}) {
			if err != nil {
				t.Fatal(err)
			}
			if m.Partial == nil || m.Stats.Files != int64(len(want)) {
				t.Fatalf("%+v", m)
			}
			if diff := cmp.Diff(want, m.Partial.Include); diff != "" {
				t.Error(diff)
			}
		}
	}
	s.want(s.send("POST", "/backup/"+list.Iterable[1].ID+"/restore", ""), 200)
	if got := s.restored("a3/rows.json"); !strings.Contains(got, "customer") || s.restored("a1/rows.json") != "none" {
		t.Errorf("restored %q", got)
	}
}

// A backup of some assets does not replace the whole where nobody has said how.
func TestAssetsAreNotTheWhole(t *testing.T) {
	s := newServer(t, func(c *snapshot.Config, o *pieces.Options) {
		withAssets(c, o)
		o.RestoreAssets = nil
	})
	s.want(s.send("POST", "/backup/asset", `{"id":"a3"}`), 204)
	id := s.list().Iterable[0].ID
	for _, path := range []string{"/restore", "/restore/streamed"} {
		s.want(s.send("POST", "/backup/"+id+path, ""), 500)
	}
	if s.restored("present") != "as it is" {
		t.Error("the data was replaced")
	}
}

func TestAssetJSON(t *testing.T) {
	var a pieces.Asset
	const text = `{"id":"a1","name":"n","tags":[1]}`
	if err := json.Unmarshal([]byte(text), &a); err != nil || a.ID != "a1" || a.Name != "n" || string(a.Raw) != text {
		t.Errorf("%+v, error %v", a, err)
	}
	for _, text := range []string{`{}`, `{"id":""}`, `{"id":null}`, `{"id":5}`, `[]`, `"a1"`} {
		if err := json.Unmarshal([]byte(text), &a); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}
