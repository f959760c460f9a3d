package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/bench/database"
	"github.com/holdstill/holdstill/bench/rows"
	"github.com/holdstill/holdstill/snapshot"
)

// TestMain lets the test binary take snapshots in processes of their own, as the
// command does.
func TestMain(m *testing.M) {
	if args := os.Args[1:]; len(args) > 0 && args[0] == childVerb {
		if err := child(context.Background(), args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	args := []string{"-size", "1", "-percent", "5,50", "-kinds", "sql,meta,kv,json", "-dir", t.TempDir(),
		"-only", strings.Join([]string{ours, oursFull, calculated}, ",")}
	set, err := parse(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := measure(t.Context(), set, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"SQLite, 1 MiB", "bbolt, 1 MiB", "Pebble, 1 MiB", "JSON export, 1 MiB", "| 5 % | | 50 % |", "| " + oursFull + " |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in\n%s", want, &out)
		}
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{{"-percent", "0"}, {"-percent", "101"}, {"-percent", "x"}, {"-size", "0"}, {"-kinds", ""}, {"-nothing"}, {"stray"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	if err := child(t.Context(), []string{"repo"}); err == nil {
		t.Error("a child without its arguments was taken")
	}
}

// What is measured can be restored, and differences take a fraction of full chunks.
func TestSnapshotsAreSound(t *testing.T) {
	const size = 4 << 20
	old, next := filepath.Join(t.TempDir(), "sql"), filepath.Join(t.TempDir(), "sql")
	g := rows.New(1)
	n, err := database.Fill(t.Context(), "sql", old, g, size)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(next, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	if err := database.Update(t.Context(), "sql", next, g, 1, n, 5); err != nil {
		t.Fatal(err)
	}
	added := make(map[string]int64)
	for _, mode := range []string{modeDeltas, modeFull} {
		repo := filepath.Join(t.TempDir(), "repo")
		for i, dir := range []string{old, next} {
			before := int64(0)
			if i > 0 {
				if before, err = usage(repo); err != nil {
					t.Fatal(err)
				}
			}
			if err := child(t.Context(), []string{repo, dir, mode, fmt.Sprint("s", i)}); err != nil {
				t.Fatal(err)
			}
			after, err := usage(repo)
			if err != nil {
				t.Fatal(err)
			}
			added[mode] = after - before
		}
		e, err := snapshot.Open(t.Context(), snapshot.Config{Repository: "local:" + repo})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		for s, err := range e.List(t.Context(), snapshot.Filter{Label: "s1"}) {
			if err != nil {
				t.Fatal(err)
			}
			fsys, err := e.OpenFS(t.Context(), s.ID)
			if err != nil {
				t.Fatal(err)
			}
			got, err := fsys.ReadFile("db/app.db")
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(next, "app.db"))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: the snapshot holds other bytes than the file (%v)", mode, err)
			}
		}
	}
	if added[modeDeltas] == 0 || added[modeDeltas]*5 > added[modeFull] {
		t.Errorf("added %v", added)
	}
}
