package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBadTargets(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", sampleFiles())
	parent := tempDir(t)
	in := func(name string) string { return filepath.Join(parent, name) }
	writeTree(t, parent, map[string]string{"full/x": "kept", "file": "kept", "repo/holdstill.json": "{}", "above/repo/holdstill.json": "{}"})
	for _, link := range [][2]string{{"full", "link"}, {"nowhere", "dangling"}, {"repo", "repolink"}} {
		if err := os.Symlink(link[0], in(link[1])); err != nil {
			t.Fatal(err)
		}
	}
	before := readTree(t, parent)
	none := func(string) bool { return false }
	tests := []struct {
		name  string
		opts  RestoreOptions
		local string
		want  error
		says  string
	}{
		{"empty", RestoreOptions{}, "", ErrTarget, "empty"},
		{"root", RestoreOptions{To: "/", InPlace: true}, "", ErrTarget, "root"},
		{"file", RestoreOptions{To: in("file")}, "", ErrTarget, "is a file"},
		{"file in place", RestoreOptions{To: in("file"), InPlace: true}, "", ErrTarget, "is a file"},
		{"link", RestoreOptions{To: in("link"), InPlace: true}, "", ErrTarget, "symbolic link"},
		{"dangling link", RestoreOptions{To: in("dangling")}, "", ErrTarget, "symbolic link"},
		{"not empty", RestoreOptions{To: in("full")}, "", ErrTargetExists, "in place"},
		{"no parent", RestoreOptions{To: in("no/to")}, "", ErrTarget, "make it first"},
		{"below a file", RestoreOptions{To: in("file/to")}, "", ErrTarget, ""},
		{"long name", RestoreOptions{To: in(strings.Repeat("n", 201))}, "", ErrTarget, "200"},
		{"own name", RestoreOptions{To: in(".x.holdstill-lock")}, "", ErrTarget, "restores use"},
		{"the repository", RestoreOptions{To: in("repo"), InPlace: true}, in("repo"), ErrTarget, "repository"},
		{"around the repository", RestoreOptions{To: in("above"), InPlace: true}, in("above/repo"), ErrTarget, "repository"},
		{"in the repository", RestoreOptions{To: in("repo/to")}, in("repo"), ErrTarget, "repository"},
		{"in the repository by a link", RestoreOptions{To: in("repolink/to")}, in("repo"), ErrTarget, "repository"},
		{"repository named by a link", RestoreOptions{To: in("repo"), InPlace: true}, in("repolink"), ErrTarget, "repository"},
		{"unknown source", RestoreOptions{To: in("to"), Source: "k"}, "", ErrUnknownSource, `"kv" "meta"`},
		{"no match", RestoreOptions{To: in("to"), Match: none}, "", ErrNoMatch, "s"},
		{"no match in place", RestoreOptions{To: in("full"), InPlace: true, Source: "kv", Match: none}, "", ErrNoMatch, "s"},
	}
	if runtime.GOOS == "linux" {
		tests = append(tests, struct {
			name  string
			opts  RestoreOptions
			local string
			want  error
			says  string
		}{"mount point", RestoreOptions{To: "/proc", InPlace: true}, "", ErrTarget, "mount point"})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := (&restorer{repo: r, manifest: m, opts: tt.opts, local: tt.local}).run(t.Context())
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %v that says %q", err, tt.want, tt.says)
			}
			if d := cmp.Diff(before, readTree(t, parent)); d != "" {
				t.Errorf("something changed:\n%s", d)
			}
		})
	}
}

func TestRestoreToEmptyFolder(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", sampleFiles())
	parent := tempDir(t)
	to := filepath.Join(parent, "to")
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	// A file that turns up in it during the restore is not lost.
	late := &fileOps{before: func(op, _ string) error {
		if op != "moveover" {
			return nil
		}
		return os.WriteFile(filepath.Join(to, "late"), []byte("kept"), 0o600)
	}}
	if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to}, late); err == nil {
		t.Error("a file in the target was replaced")
	}
	if d := cmp.Diff([]string{"to", "to/late"}, []string{listFolder(t, parent)[0], "to/" + listFolder(t, to)[0]}); d != "" {
		t.Error(d)
	}
	if err := os.Remove(filepath.Join(to, "late")); err != nil {
		t.Fatal(err)
	}
	if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to}, nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"kv", "meta"}, listFolder(t, to)); d != "" {
		t.Error(d)
	}
}

// A relative target, and one whose parent is reached by a link, end up where they
// say.
func TestTargetsByOtherNames(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", sampleFiles())
	parent := tempDir(t)
	t.Chdir(parent)
	if err := os.Mkdir("real", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", "link"); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"here", "./real/../there/", "link/below"} {
		result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "meta"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := filepath.EvalSymlinks(filepath.Join(parent, to))
		if err != nil || result.To != want {
			t.Errorf("restored to %s, want %s, %v", result.To, want, err)
		}
	}
}
