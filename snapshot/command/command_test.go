package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

type mapSource struct{ fstest.MapFS }

func (f mapSource) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{FS: f.MapFS}, nil
}

// newRepository makes a repository with one snapshot and returns its directory and
// the snapshot's ID.
func newRepository(t *testing.T) (dir, id string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "repo")
	e, err := snapshot.Open(t.Context(), snapshot.Config{
		Repository: "local:" + dir,
		Sources: map[string]snapshot.Source{"kv": mapSource{fstest.MapFS{
			// So that who is not root can remove what is restored.
			".": {Mode: fs.ModeDir | 0o755}, "sub": {Mode: fs.ModeDir | 0o755},
			"a":     {Data: []byte("the first file"), Mode: 0o644},
			"sub/b": {Data: bytes.Repeat([]byte("0123456789 rows and rows\n"), 10_000), Mode: 0o600},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s, err := e.Create(t.Context(), snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		t.Fatal(err)
	}
	return dir, s.ID
}

// tool runs the command and returns what it printed and its exit code.
func tool(t *testing.T, args ...string) (out, errOut string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = Run(t.Context(), args, &o, &e)
	return o.String(), e.String(), code
}

func TestOperatorsNight(t *testing.T) {
	dir, id := newRepository(t)
	target := filepath.Join(t.TempDir(), "live")
	other := filepath.Join(t.TempDir(), "other")
	t.Setenv("HOLDSTILL_REPO", dir)
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"list"}, id},
		{[]string{"list", "-json"}, `"label":"nightly"`},
		{[]string{"show", id}, `"consistency": "source"`},
		{[]string{"files", id}, "kv/sub/b"},
		{[]string{"check"}, "No damage."},
		{[]string{"check", "-data"}, "all data of 1 snapshots"},
		{[]string{"restore", "-to", target, "-source", "kv", id}, "Restored 2 files"},
		{[]string{"restore", "-to", target, "-source", "kv", "-in-place", id}, "holdstill undo " + target},
		{[]string{"restore", "-to", target + "2", "-source", "kv", "-reuse-from", target, "-fetches", "2", id}, "Fetched: 0 B."},
		{[]string{"restore", "-to", target + "3", "-source", "kv", "-no-reuse", "-no-links", id}, "Restored 2 files"},
		{[]string{"restore", "-to", target + "4", "-include", "kv/sub/*", "-skip-space-check", id}, "Restored 1 files"},
		{[]string{"restore", "-to", target + "5", "-include", "kv", "-skip", "kv/sub", id}, "Restored 1 files"},
		{[]string{"recover", target}, "Action: none"},
		{[]string{"copy", "-to", other, id}, "Copied " + id},
		{[]string{"list", "-repo", other}, id},
		{[]string{"upload", "-to", other + "-2", id}, "Uploaded " + id},
		{[]string{"upload", "-to", "local:" + other + "-2", id}, "sent 0 B"},
		{[]string{"download", "-repo", other + "-3", "-from", other + "-2", id}, "Downloaded " + id},
		{[]string{"download", "-repo", other + "-4", "-from", other + "-2", "-verify", "stored", id}, "Downloaded " + id},
		{[]string{"upload", "-to", other + "-5", "-verify", "content", id}, "Uploaded " + id},
		{[]string{"copy", "-to", other + "-5", "-verify", "content", id}, "0 chunks"},
		{[]string{"check", "-repo", other + "-3", "-data"}, "No damage."},
		{[]string{"attach", "-name", "a.txt", id, filepath.Join(target, "a")}, "Attached a.txt to " + id},
		{[]string{"attachments", id}, "a.txt\t14 B"},
		{[]string{"attachments", "-name", "a.txt", id}, "the first file"},
		{[]string{"export", "-to", other + ".tar.gz", "-compression", "gzip", id}, "Exported " + id},
		{[]string{"export", "-to", "-", "-compression", "none", id}, "kv/sub/b"},
		{[]string{"import", "-from", other + ".tar.gz", "-id", "again"}, "Imported again: 2 files"},
		{[]string{"attachments", "-name", "a.txt", "again"}, "the first file"},
		{[]string{"delete", "again"}, "Deleted again"},
		{[]string{"delete", "-repo", other, id}, "Deleted"},
		{[]string{"download", "-repo", other, "-from", other + "-2", id}, "Downloaded " + id},
		{[]string{"list", "-repo", other}, id},
		{[]string{"rebuild-index"}, "The new index has"},
		{[]string{"check", "-data"}, "No damage."},
		{[]string{"prune", "-keep-last", "1"}, "keep  last 1"},
		{[]string{"prune", "-dry-run", "-keep-label", "other"}, "Would delete 1 of 1 snapshots"},
		{[]string{"collect", "-dry-run", "-recompress"}, "1 snapshots need"},
		{[]string{"delete", id}, "Deleted " + id},
		{[]string{"collect"}, "0 B are left"},
		{[]string{"-h"}, ""},
		{[]string{"list", "-h"}, ""},
	} {
		out, errOut, code := tool(t, step.args...)
		if code != 0 || !strings.Contains(out, step.want) {
			t.Errorf("%v: exit %d, printed %q and %q", step.args, code, out, errOut)
		}
	}
	data, err := os.ReadFile(filepath.Join(target, "a"))
	if err != nil || string(data) != "the first file" {
		t.Errorf("restored %q, error %v", data, err)
	}
	kept, err := filepath.Glob(target + ".previous-*")
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept %v, error %v", kept, err)
	}
	if out, errOut, code := tool(t, "undo", target, kept[0]); code != 0 {
		t.Errorf("undo: exit %d, %q, %q", code, out, errOut)
	}
}

func TestWrongCalls(t *testing.T) {
	dir, id := newRepository(t)
	empty := t.TempDir()
	t.Setenv("HOLDSTILL_REPO", "")
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "Usage"},
		{[]string{"frobnicate"}, 2, "no command"},
		{[]string{"list", "-nope"}, 2, "not defined"},
		{[]string{"list"}, 2, "give -repo"},
		{[]string{"list", "-repo", empty}, 1, "holds no repository"},
		{[]string{"list", "-repo", filepath.Join(empty, "none")}, 1, "holds no repository"},
		{[]string{"show", "-repo", dir}, 2, "takes ID"},
		{[]string{"show", "-repo", dir, "2020-01-01T00.00.00Z_none"}, 1, "no such snapshot"},
		{[]string{"show", "-repo", dir, "../x"}, 1, "bad snapshot ID"},
		{[]string{"restore", "-repo", dir, id}, 2, "give -to"},
		{[]string{"restore", "-repo", dir, id, "-to", empty}, 2, "flags come before"},
		{[]string{"restore", "-repo", dir, "-to", filepath.Join(empty, "to"), "-include", "b", id}, 1, "paths begin with the source's name"},
		{[]string{"list", "-repo", dir, "more"}, 2, "takes no arguments"},
		{[]string{"recover"}, 2, "takes DIRECTORY"},
		{[]string{"undo", empty}, 2, "takes DIRECTORY PREVIOUS"},
		{[]string{"undo", empty, filepath.Join(empty, "none")}, 1, ""},
		{[]string{"upload", "-repo", dir, id}, 2, "give -to"},
		{[]string{"download", "-repo", filepath.Join(empty, "new"), id}, 2, "give -from"},
		{[]string{"download", "-repo", filepath.Join(empty, "new"), "-from", filepath.Join(empty, "none"), id}, 1, "holds no repository"},
		{[]string{"download", "-repo", filepath.Join(empty, "new"), "-from", dir, "2020-01-01T00.00.00Z_none"}, 1, "no such snapshot"},
		{[]string{"copy", "-repo", dir, "-to", filepath.Join(empty, "new"), "2020-01-01T00.00.00Z_none"}, 1, "no such snapshot"},
		{[]string{"upload", "-repo", dir, "-to", filepath.Join(empty, "new"), "2020-01-01T00.00.00Z_none"}, 1, "no such snapshot"},
		{[]string{"add-key", "-repo", dir}, 2, "give -new-passphrase-file"},
		{[]string{"remove-key", "-repo", dir, "x"}, 1, ""},
		{[]string{"delete", "-repo", dir, ""}, 1, "bad snapshot ID"},
		{[]string{"list", "-repo", dir, "-passphrase-file", filepath.Join(empty, "none")}, 1, "no such file"},
		{[]string{"list", "-repo", dir, "-config", filepath.Join(empty, "none")}, 1, "no such file"},
		{[]string{"collect", "-repo", dir, "-lease-timeout", "soon"}, 2, "invalid value"},
		{[]string{"restore", "-repo", dir, "-to", dir, id}, 1, ""},
		{[]string{"copy", "-repo", dir, id}, 2, "give -to"},
		{[]string{"prune", "-repo", dir}, 2, "would delete every snapshot"},
		{[]string{"prune", "-repo", dir, "-keep-last", "-1"}, 2, "negative"},
		{[]string{"export", "-repo", dir, id}, 2, "give -to"},
		{[]string{"export", "-repo", dir, "-to", dir, id}, 1, "exists"},
		{[]string{"export", "-repo", dir, "-to", filepath.Join(empty, "x"), "none"}, 1, "no such snapshot"},
		{[]string{"import", "-repo", dir}, 2, "give -from"},
		{[]string{"import", "-repo", dir, "-from", filepath.Join(dir, "holdstill.json")}, 1, "not a whole archive"},
		{[]string{"attachments", "-repo", dir, "-name", "x", id}, 1, "no such attachment"},
	} {
		out, errOut, code := tool(t, test.args...)
		if code != test.code || !strings.Contains(errOut, test.want) {
			t.Errorf("%v: exit %d, printed %q and %q", test.args, code, out, errOut)
		}
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) != 0 {
		t.Errorf("a mistyped repository was made: %v, %v", left, err)
	}
}

func TestCheckReportsDamage(t *testing.T) {
	dir, id := newRepository(t)
	packs, err := filepath.Glob(filepath.Join(dir, "pack", "*", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, pack := range packs {
		if err := os.Remove(pack); err != nil {
			t.Fatal(err)
		}
	}
	out, _, code := tool(t, "check", "-repo", dir)
	if code != 1 || !strings.Contains(out, "missing") || !strings.Contains(out, id) {
		t.Errorf("exit %d, printed %s", code, out)
	}
}

// Every command explains itself, and a call without anything ends with a message and no stack.
func TestHelp(t *testing.T) {
	t.Setenv("HOLDSTILL_REPO", "")
	for _, cmd := range commands() {
		_, errOut, code := tool(t, cmd.name, "-h")
		if code != 0 || !strings.Contains(errOut, "Usage: holdstill "+cmd.name) || !strings.Contains(errOut, cmd.what) {
			t.Errorf("%s -h: exit %d, printed %q", cmd.name, code, errOut)
		}
		out, errOut, code := tool(t, cmd.name)
		if code != 2 || out != "" || errOut == "" {
			t.Errorf("%s: exit %d, printed %q and %q", cmd.name, code, out, errOut)
		}
	}
}

// A name in a snapshot is text, whatever is in it: it cannot steer the terminal, nor look like
// another line.
func TestOddNames(t *testing.T) {
	dir := t.TempDir()
	name := "a\n-rw-r--r--  0  2020-01-01 00:00:00   kv/forged\x1b[2J"
	e, err := snapshot.Open(t.Context(), snapshot.Config{Repository: "local:" + dir, Sources: map[string]snapshot.Source{"kv": mapSource{fstest.MapFS{name: {Data: []byte("x")}}}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Create(t.Context(), snapshot.CreateOptions{})
	if err := errors.Join(err, e.Close()); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := tool(t, "files", "-repo", dir, s.ID)
	if code != 0 || strings.Count(out, "\n") != 3 || strings.Contains(out, "\x1b") || !strings.Contains(out, "forged") {
		t.Errorf("exit %d, printed %q and %q", code, out, errOut)
	}
}

// Nor can what else is text in a manifest, whoever wrote it.
func TestOddConsistency(t *testing.T) {
	dir, _ := newRepository(t)
	e, err := snapshot.Open(t.Context(), snapshot.Config{Repository: "local:" + dir})
	if err != nil {
		t.Fatal(err)
	}
	session, err := e.Repository().NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := snapshot.Snapshot{ID: "odd", Consistency: "frozen\x1b[2J\nforged"}
	if m.Table, err = session.PutTable(t.Context(), func(func(repo.File) bool) {}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(session.Commit(t.Context(), &m), e.Close()); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := tool(t, "list", "-repo", dir)
	if code != 0 || strings.Count(out, "\n") != 3 || strings.Contains(out, "\x1b") || !strings.Contains(out, "forged") {
		t.Errorf("exit %d, printed %q and %q", code, out, errOut)
	}
}

// An interrupt ends what is under way with 1, and says why.
func TestInterrupted(t *testing.T) {
	dir, id := newRepository(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the operator pressed a key"))
	for _, args := range [][]string{{"list"}, {"check"}, {"restore", "-to", filepath.Join(t.TempDir(), "to"), id}, {"export", "-to", filepath.Join(t.TempDir(), "x"), id}} {
		var out, errOut bytes.Buffer
		args = append([]string{args[0], "-repo", dir}, args[1:]...)
		if code := Run(ctx, args, &out, &errOut); code != 1 || !strings.Contains(errOut.String(), "pressed a key") && !strings.Contains(errOut.String(), "canceled") {
			t.Errorf("%v: exit %d, printed %q and %q", args, code, &out, &errOut)
		}
	}
}

// An interrupt ends an import that waits for its input. What comes in time comes whole.
func TestInputThatDoesNotCome(t *testing.T) {
	in, out := io.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	h := &heedful{ctx: ctx, r: in}
	want := bytes.Repeat([]byte("rows and rows "), 10_000)
	go func() {
		if _, err := out.Write(want); err != nil {
			t.Error(err)
		}
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(h, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read something else, error %v", err)
	}
	why := errors.New("the operator pressed a key")
	go cancel(why)
	if n, err := h.Read(got); n != 0 || !errors.Is(err, why) {
		t.Errorf("%d bytes, error %v", n, err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	over := &heedful{ctx: t.Context(), r: io.LimitReader(strings.NewReader("short"), 3)}
	if data, err := io.ReadAll(over); err != nil || string(data) != "sho" {
		t.Errorf("%q, %v", data, err)
	}
}

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A report that could not be written is a failure to a script.
func TestOutputIsLost(t *testing.T) {
	dir, id := newRepository(t)
	for _, args := range [][]string{{"list"}, {"show", id}, {"files", id}, {"check"}, {"prune", "-dry-run", "-keep-last", "1"}, {"collect", "-dry-run"}} {
		var errOut bytes.Buffer
		args = append([]string{args[0], "-repo", dir}, args[1:]...)
		if code := Run(t.Context(), args, fullDisk{}, &errOut); code != 1 || !strings.Contains(errOut.String(), syscall.ENOSPC.Error()) {
			t.Errorf("%v: exit %d, printed %q", args, code, &errOut)
		}
	}
}

func TestCollectWithoutRoom(t *testing.T) {
	full := fmt.Errorf("create an index: %w", repo.ErrNoSpace)
	if err := roomFor(full); !errors.Is(err, repo.ErrNoSpace) || !strings.Contains(err.Error(), "run it again") {
		t.Errorf("%v", err)
	}
	for _, other := range []error{repo.ErrUnavailable, repo.ErrPermission} {
		if err := roomFor(other); err != other {
			t.Errorf("%v", err)
		}
	}
}
