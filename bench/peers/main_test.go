package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
)

// TestMain lets the test binary be the child process that the program runs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childVerb {
		os.Exit(child(context.Background(), os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestParse(t *testing.T) {
	set, err := parse([]string{"-size", "8", "-runs", "3", "-only", "cp, tar|zstd,"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if set.size != 8<<20 || set.runs != 3 || !set.flush || strings.Join(set.only, " ") != "cp tar|zstd" {
		t.Errorf("got %+v", set)
	}
	for _, bad := range [][]string{
		{"-size", "3"}, {"-size", "2000000"}, {"-runs", "0"}, {"-runs", "101"}, {"extra"},
		{"-only", "kopia"}, {"-size", "many"}, {"-nonsense"},
	} {
		if _, err := parse(bad, io.Discard); err == nil || errors.Is(err, flag.ErrHelp) {
			t.Errorf("%q: no error", bad)
		}
	}
	var help strings.Builder
	if _, err := parse([]string{"-help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "-runs") {
		t.Errorf("help: %v, %q", err, help.String())
	}
}

// TestChoose tests that holdstill takes part whoever is chosen, as all others are
// compared with it.
func TestChoose(t *testing.T) {
	chosen, err := choose(allPeers(), []string{"borg", "cp"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range chosen {
		names = append(names, p.describe().name)
	}
	if got := strings.Join(names, " "); got != "holdstill borg cp" {
		t.Errorf("got %s", got)
	}
	if all, err := choose(allPeers(), nil); err != nil || len(all) != len(allPeers()) {
		t.Errorf("no names: %d peers, %v", len(all), err)
	}
}

// TestBadChild tests that a call which no child understands is an error.
func TestBadChild(t *testing.T) {
	for _, args := range [][]string{
		nil, {"fly"}, {"create", "repo"}, {"corpus", t.TempDir(), "x", "1"}, {"corpus", t.TempDir(), "1", "-1"},
		{"again", "/nowhere", policyFast, "/nowhere", "0"}, {"restore", t.TempDir(), "s3", t.TempDir() + "/to"},
	} {
		var complaint strings.Builder
		if code := child(t.Context(), args, io.Discard, &complaint); code != 1 || complaint.Len() == 0 {
			t.Errorf("%q: exit code %d, %q", args, code, complaint.String())
		}
	}
}
