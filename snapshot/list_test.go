package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// commitNamed makes a snapshot without files, with exactly this description.
func commitNamed(t testing.TB, e *snapshot.Engine, m snapshot.Snapshot) {
	t.Helper()
	s, err := e.Repository().NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.Table, err = s.PutTable(t.Context(), func(func(repo.File) bool) {}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), &m); err != nil {
		t.Fatal(err)
	}
}

func listed(t testing.TB, e *snapshot.Engine, f snapshot.Filter) []string {
	t.Helper()
	ids := []string{}
	for s, err := range e.List(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, s.ID)
	}
	return ids
}

// five makes snapshots whose IDs sort otherwise than their times: e, d, c, b, a by time,
// with c and b at the same.
func five(t testing.TB) *snapshot.Engine {
	e := openEngine(t, snapshot.Config{})
	day := func(n int) time.Time { return time.Date(2026, 2, n, 0, 0, 0, 0, time.UTC) }
	for _, m := range []snapshot.Snapshot{
		{ID: "a", Created: day(5), Description: "before the upgrade", DatabaseVersion: "3.12.5", Parent: "b", Metadata: map[string]string{"project": "p1"}},
		{ID: "b", Created: day(3), Description: "nightly", DatabaseVersion: "3.12.5", Parent: "e"},
		{ID: "c", Created: day(3), Description: "nightly", DatabaseVersion: "3.12.4", Parent: "e", Metadata: map[string]string{"project": "p1"}},
		{ID: "d", Created: day(2), Description: "Before lunch", DatabaseVersion: "3.12.4"},
		{ID: "e", Created: day(1), DatabaseVersion: "3.12.4"},
	} {
		m.Consistency = repo.ConsistencySource
		commitNamed(t, e, m)
	}
	return e
}

func TestListPicksAndPages(t *testing.T) {
	e := five(t)
	created, newest := snapshot.OrderCreated, true
	for _, test := range []struct {
		name   string
		filter snapshot.Filter
		want   string
	}{
		{"all", snapshot.Filter{}, "a b c d e"},
		{"turned", snapshot.Filter{NewestFirst: newest}, "e d c b a"},
		{"by time", snapshot.Filter{Order: created}, "e d b c a"},
		{"by time, turned", snapshot.Filter{Order: created, NewestFirst: newest}, "a c b d e"},
		{"ids", snapshot.Filter{IDs: []string{"d", "x", "b", "d"}}, "b d"},
		{"ids, turned", snapshot.Filter{IDs: []string{"d", "b"}, NewestFirst: newest}, "d b"},
		{"ids by time", snapshot.Filter{IDs: []string{"d", "b"}, Order: created}, "d b"},
		{"unknown ids", snapshot.Filter{IDs: []string{"x"}}, ""},
		{"description", snapshot.Filter{Description: "efore"}, "a d"},
		{"version", snapshot.Filter{DatabaseVersion: "3.12.4"}, "c d e"},
		{"metadata and version", snapshot.Filter{DatabaseVersion: "3.12.4", Metadata: map[string]string{"project": "p1"}}, "c"},
		{"match", snapshot.Filter{Match: func(s *snapshot.Snapshot) bool { return s.ID > "b" }}, "c d e"},
		{"match comes last", snapshot.Filter{Parent: "e", Match: func(s *snapshot.Snapshot) bool { return s.Parent == "e" && s.ID == "c" }}, "c"},
		{"after", snapshot.Filter{After: "b"}, "c d e"},
		{"after, turned", snapshot.Filter{After: "b", NewestFirst: newest}, "a"},
		{"after one that is gone", snapshot.Filter{After: "bb", Limit: 2}, "c d"},
		{"after the last", snapshot.Filter{After: "e"}, ""},
		{"after, by time", snapshot.Filter{After: "b", Order: created}, "c a"},
		{"after, by time, turned", snapshot.Filter{After: "c", Order: created, NewestFirst: newest}, "b d e"},
		{"after one that is not picked", snapshot.Filter{After: "d", Order: created, Description: "nightly"}, "b c"},
		{"offset", snapshot.Filter{Offset: 2, Limit: 2}, "c d"},
		{"offset counts what is picked", snapshot.Filter{Offset: 1, Description: "nightly"}, "c"},
		{"offset, by time", snapshot.Filter{Offset: 1, Limit: 3, Order: created}, "d b c"},
		{"offset past the end", snapshot.Filter{Offset: 9}, ""},
	} {
		if got := strings.Join(listed(t, e, test.filter), " "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// Every way to page gives every snapshot once, also when the one a page ended with is
// deleted before the next page is asked for.
func TestListPagesAreComplete(t *testing.T) {
	e := openEngine(t, snapshot.Config{})
	var want []string
	for n := range 45 {
		id := fmt.Sprintf("s%02d", n)
		commitNamed(t, e, snapshot.Snapshot{ID: id, Created: time.Unix(int64(n), 0).UTC()})
		want = append(want, id)
	}
	var got []string
	for after := ""; ; {
		page := listed(t, e, snapshot.Filter{After: after, Limit: 7})
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
		after = page[len(page)-1]
		if err := e.Delete(t.Context(), after); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestListRefusesFilters(t *testing.T) {
	e := five(t)
	for _, test := range []struct {
		filter snapshot.Filter
		want   error
	}{
		{snapshot.Filter{Limit: -1}, snapshot.ErrFilter},
		{snapshot.Filter{Offset: -1}, snapshot.ErrFilter},
		{snapshot.Filter{Order: 7}, snapshot.ErrFilter},
		{snapshot.Filter{After: "../x"}, snapshot.ErrBadID},
		{snapshot.Filter{IDs: []string{"a", ""}}, snapshot.ErrBadID},
		{snapshot.Filter{After: "gone", Order: snapshot.OrderCreated}, snapshot.ErrNotFound},
	} {
		n := 0
		for s, err := range e.List(t.Context(), test.filter) {
			n++
			if s != nil || !errors.Is(err, test.want) {
				t.Errorf("%+v: got %v, %v", test.filter, s, err)
			}
		}
		if n != 1 {
			t.Errorf("%+v: %d results", test.filter, n)
		}
	}
}

// A manifest that cannot be read must hide no other, in any order, and none of a tree.
func TestListAndDeleteTreeBesideDamage(t *testing.T) {
	bucket := newBucket(t)
	e := openEngine(t, snapshot.Config{Bucket: bucket})
	for _, m := range []snapshot.Snapshot{{ID: "a"}, {ID: "b", Parent: "a"}, {ID: "c", Parent: "a"}} {
		commitNamed(t, e, m)
	}
	if err := bucket.WriteAll(t.Context(), "snapshot/b", []byte("not a manifest"), nil); err != nil {
		t.Fatal(err)
	}
	for _, order := range []snapshot.Order{snapshot.OrderID, snapshot.OrderCreated} {
		var ids []string
		failed := 0
		for s, err := range e.List(t.Context(), snapshot.Filter{Order: order}) {
			if err != nil {
				failed++
				if !errors.Is(err, repo.ErrCorrupt) {
					t.Error(err)
				}
				continue
			}
			ids = append(ids, s.ID)
		}
		if strings.Join(ids, " ") != "a c" || failed != 1 {
			t.Errorf("order %d: %q, %d errors", order, ids, failed)
		}
	}
	gone, err := e.DeleteTree(t.Context(), "a", snapshot.DeleteOptions{})
	if err != nil || strings.Join(gone, " ") != "c a" {
		t.Errorf("deleted %q, %v", gone, err)
	}
}

func TestDeleteTree(t *testing.T) {
	e := five(t)
	gone, err := e.DeleteTree(t.Context(), "e", snapshot.DeleteOptions{DryRun: true})
	if err != nil || strings.Join(gone, " ") != "a c b e" {
		t.Errorf("a dry run says %q, %v", gone, err)
	}
	no := errors.New("in use")
	if gone, err = e.DeleteTree(t.Context(), "e", snapshot.DeleteOptions{Check: func(s *snapshot.Snapshot) error {
		if s.ID == "a" {
			return no
		}
		return nil
	}}); !errors.Is(err, no) || len(gone) != 0 {
		t.Errorf("deleted %q, %v", gone, err)
	}
	if got := listed(t, e, snapshot.Filter{}); len(got) != 5 {
		t.Errorf("left %q", got)
	}
	if gone, err = e.DeleteTree(t.Context(), "b", snapshot.DeleteOptions{}); err != nil || strings.Join(gone, " ") != "a b" {
		t.Errorf("deleted %q, %v", gone, err)
	}
	if _, err = e.DeleteTree(t.Context(), "b", snapshot.DeleteOptions{}); !errors.Is(err, snapshot.ErrNotFound) {
		t.Error(err)
	}
	if got := strings.Join(listed(t, e, snapshot.Filter{}), " "); got != "c d e" {
		t.Errorf("left %q", got)
	}
}

// A listing that its context ends is never taken for a whole one, wherever it was just then.
func TestListIsNotCutShortInSilence(t *testing.T) {
	e := openEngine(t, snapshot.Config{})
	commitNamed(t, e, snapshot.Snapshot{ID: "a"})
	for _, id := range []string{"b", "c"} {
		if err := e.Repository().PutRemote(t.Context(), repo.Remote{Location: "local:/there", Snapshot: &snapshot.Snapshot{ID: id}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []string{"a", "b", "c"} {
		for _, filter := range []snapshot.Filter{{Registered: true}, {Registered: true, NewestFirst: true}, {Registered: true, Order: snapshot.OrderCreated}} {
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("enough")
			filter.Match = func(s *snapshot.Snapshot) bool {
				if s.ID == at {
					cancel(why)
				}
				return true
			}
			var errs []error
			for _, err := range e.List(ctx, filter) {
				if err != nil {
					errs = append(errs, err)
				}
			}
			cancel(nil)
			if len(errs) != 1 || !errors.Is(errs[0], why) && !errors.Is(errs[0], context.Canceled) {
				t.Errorf("ended at %s, %+v: errors %v", at, filter, errs)
			}
		}
	}
}

// Imported descriptions may claim anything, also that two snapshots are each other's parent.
func TestDeleteTreeInACircle(t *testing.T) {
	e := openEngine(t, snapshot.Config{})
	commitNamed(t, e, snapshot.Snapshot{ID: "a", Parent: "b"})
	commitNamed(t, e, snapshot.Snapshot{ID: "b", Parent: "a"})
	commitNamed(t, e, snapshot.Snapshot{ID: "c", Parent: "c"})
	gone, err := e.DeleteTree(t.Context(), "a", snapshot.DeleteOptions{})
	if err != nil || strings.Join(gone, " ") != "b a" {
		t.Errorf("deleted %q, %v", gone, err)
	}
	if gone, err = e.DeleteTree(t.Context(), "c", snapshot.DeleteOptions{}); err != nil || strings.Join(gone, " ") != "c" {
		t.Errorf("deleted %q, %v", gone, err)
	}
}

func ExampleEngine_List_pages() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	e, err := snapshot.Open(ctx, snapshot.Config{
		Bucket: bucket, Sources: map[string]snapshot.Source{"orders": &table{rows: map[string]string{"42": "pending"}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close()
	for _, label := range []string{"one", "two", "three"} {
		if _, err := e.Create(ctx, snapshot.CreateOptions{Label: label}); err != nil {
			fmt.Println(err)
			return
		}
	}
	after := ""
	for page := 1; ; page++ {
		n := 0
		for s, err := range e.List(ctx, snapshot.Filter{Order: snapshot.OrderCreated, After: after, Limit: 2}) {
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Println("page", page, s.Label)
			after = s.ID
			n++
		}
		if n < 2 {
			return
		}
	}
	// Output:
	// page 1 one
	// page 1 two
	// page 2 three
}
