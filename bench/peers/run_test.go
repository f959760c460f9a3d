package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompare runs the whole program on a small corpus, with the peers that every
// Linux system has.
func TestCompare(t *testing.T) {
	names := []string{"cp", "holdstill-fast", "holdstill-encrypted"}
	if len(missing(tarZstd{}.describe())) == 0 {
		names = append(names, "tar|zstd")
	}
	dir := t.TempDir()
	svg := filepath.Join(dir, "chart.svg")
	set := settings{size: 8 << 20, runs: 1, parent: dir, seed: 1, flush: true, only: names, svg: svg}
	var out, progress strings.Builder
	if err := compare(t.Context(), set, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	for _, name := range append(names, "holdstill") {
		if want := "**" + strings.ReplaceAll(name, "|", `\|`); !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %s:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "failed") || !strings.Contains(out.String(), "within a process that has its repository open") {
		t.Errorf("got\n%s", out.String())
	}
	if chart, err := os.ReadFile(svg); err != nil || !strings.HasPrefix(string(chart), "<svg") {
		t.Errorf("the chart: %.20q, %v", chart, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "holdstill-peers-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// broken is a peer that does one thing wrong.
type broken struct {
	cp
	name    string
	wrong   step
	instead *script
	needs   string
}

func (b broken) describe() description {
	d := b.cp.describe()
	d.name = b.name
	if b.needs != "" {
		d.programs = []string{b.needs}
	}
	return d
}

func (b broken) script(s step, at site) *script {
	if s == b.wrong && b.instead != nil {
		b.instead.dir = at.target
		return b.instead
	}
	return b.cp.script(s, at)
}

// TestBrokenPeers tests that who is missing, fails, or restores something else is
// reported with the reason, and that the others are measured all the same.
func TestBrokenPeers(t *testing.T) {
	peers := []peer{
		broken{name: "good"},
		broken{name: "missing", needs: "there-is-no-such-program"},
		broken{name: "failing", wrong: restore, instead: run("", nil, []string{"sh", "-c", "echo first >&2; echo the disk is gone >&2; exit 3"})},
		broken{name: "forgetful", wrong: restore, instead: run("", nil, []string{"mkdir", "kv"})},
		broken{name: "in-the-middle", wrong: restore, instead: &script{pipelines: []pipeline{{{"sh", "-c", "exit 1"}, {"cat"}}}}},
		rocksdb{},
	}
	dir := t.TempDir()
	report, err := measureAll(t.Context(), dir, peers, settings{size: corpusBytes, runs: 1, seed: 1}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	reasons := []string{"", "missing: there is no there-is-no-such-program; install coreutils", "the disk is gone", "differ", "exit status 1", ""}
	if len(missing(rocksdb{}.describe())) == 0 {
		reasons[5] = "cannot read Pebble's files"
	} else {
		reasons[5] = "missing: there is no ldb; install rocksdb-tools"
	}
	for i, rec := range report.records {
		if !strings.Contains(rec.reason, reasons[i]) || (reasons[i] == "") != (rec.reason == "") {
			t.Errorf("%s: the reason is %q, must contain %q", rec.name, rec.reason, reasons[i])
		}
		if _, ok := rec.typical(first); ok != (reasons[i] == "") {
			t.Errorf("%s: has figures: %v", rec.name, ok)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "state-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// TestPipeline tests what comes out of several commands, and that all of them are
// measured.
func TestPipeline(t *testing.T) {
	at := site{state: t.TempDir()}
	if err := os.Mkdir(at.repo(), 0o755); err != nil {
		t.Fatal(err)
	}
	r := &runner{flush: true}
	s := &script{dir: at.repo(), env: []string{"WORD=hello"}, pipelines: []pipeline{
		{{"sh", "-c", "echo $WORD $HOME"}, {"tr", "a-z", "A-Z"}, {"tee", "out"}},
		{{"sh", "-c", "sleep 0.05; cat out"}},
	}}
	f, out, err := r.measure(t.Context(), s, at)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ToUpper("hello "+at.home()) + "\n"
	if out != want+want {
		t.Errorf("got %q, want %q twice", out, want)
	}
	if f.added != int64(len(want)) {
		t.Errorf("%d bytes were added, must be %d", f.added, len(want))
	}
	if f.seconds <= 0 || f.peak < 0 {
		t.Errorf("got %+v", f)
	}
}

func TestPipelineCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	at := site{state: t.TempDir()}
	s := run(at.state, nil, []string{"sh", "-c", "sleep 1000"})
	done := make(chan error, 1)
	go func() {
		_, _, err := (&runner{}).measure(ctx, s, at)
		done <- err
	}()
	cancel(cause)
	if err := <-done; !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// TestDiskUsage tests that a file with two names is counted once.
func TestDiskUsage(t *testing.T) {
	dir := tree(t, map[string]string{"a": "12345", "sub/b": "123"})
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "sub", "c")); err != nil {
		t.Fatal(err)
	}
	if got, err := diskUsage(dir); err != nil || got != 8 {
		t.Errorf("got %d, %v", got, err)
	}
	if got, err := diskUsage(filepath.Join(dir, "none")); err != nil || got != 0 {
		t.Errorf("a folder that is not there: %d, %v", got, err)
	}
}

func TestLastLine(t *testing.T) {
	for text, want := range map[string]string{"": "", "a": "a", "a\nb \n\n": "b", "\n": ""} {
		if got := lastLine(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestTail tests that of much output the end is kept.
func TestTail(t *testing.T) {
	var last tail
	for range 3 {
		if _, err := io.WriteString(&last, strings.Repeat("x", maxOutput-1)+"y"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(&last, "end"); err != nil {
		t.Fatal(err)
	}
	if got := last.String(); len(got) != maxOutput || !strings.HasSuffix(got, "yend") {
		t.Errorf("%d bytes, ending in %q", len(got), got[max(0, len(got)-10):])
	}
}
