package database_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/e2e/database"
)

func TestRestoreInPlace(t *testing.T) {
	d := database.New(t, database.Options{})
	if err := d.Fill(t.Context(), 500, 1); err != nil {
		t.Fatal(err)
	}
	before, err := d.Rows(t.Context())
	if err != nil || len(before) != 500 {
		t.Fatal(len(before), err)
	}
	snap, err := d.Engine().Create(t.Context(), snapshot.CreateOptions{Label: "first"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Fill(t.Context(), 200, 2), d.Put(t.Context(), "extra", "1"), d.Delete(t.Context(), "row00499")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		result, err := d.Engine().Restore(t.Context(), snap.ID, d.RestoreOptions())
		if err != nil {
			t.Fatal(err)
		}
		if result.Previous == "" {
			t.Error("nothing was kept of what stood there")
		}
		after, err := d.Rows(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error(diff)
		}
		// It is a working database again, of which a snapshot can be made.
		if err := d.Put(t.Context(), "later", "2"); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Engine().Create(t.Context(), snapshot.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStopped(t *testing.T) {
	d := database.New(t, database.Options{})
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Rows(t.Context()); !errors.Is(err, database.ErrStopped) {
		t.Error(err)
	}
	if err := d.Put(t.Context(), "a", "1"); !errors.Is(err, database.ErrStopped) {
		t.Error(err)
	}
	if _, err := d.Engine().Create(t.Context(), snapshot.CreateOptions{}); !errors.Is(err, database.ErrStopped) {
		t.Error(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), "a", "1"); err != nil {
		t.Error(err)
	}
}
