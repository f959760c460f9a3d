package snapshot_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

func paths(t testing.TB, fsys fs.FS) (out []string) {
	t.Helper()
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			path += "/"
		}
		out = append(out, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out[1:]
}

func TestCreateWithPatterns(t *testing.T) {
	for _, test := range []struct {
		name          string
		include, skip []string
		want          string
	}{
		{"skip", nil, []string{"**/*.sst", "kv/log"}, "kv/ kv/CURRENT kv/empty kv/log.d kv/void/ meta/ meta/a"},
		{"include", []string{"**/*.wl", "meta"}, nil, "kv/ kv/log/ kv/log/000001.wl meta/ meta/a"},
		{"both", []string{"kv"}, []string{"kv/0*", "kv/void", "kv/log"}, "kv/ kv/CURRENT kv/empty kv/log.d"},
		{"one file", []string{"kv/CURRENT"}, nil, "kv/ kv/CURRENT"},
		{"an empty folder", []string{"kv/void"}, nil, "kv/ kv/void/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{
				"kv": &memory{files: sample()}, "meta": &memory{files: fstest.MapFS{"a": {Data: []byte("x")}}},
			}})
			s := create(t, e, snapshot.CreateOptions{Include: test.include, Skip: test.skip})
			if d := cmp.Diff(&repo.Partial{Include: test.include, Skip: test.skip}, s.Partial); d != "" {
				t.Error(d)
			}
			fsys, err := e.OpenFS(t.Context(), s.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(paths(t, fsys), " "); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if files := int64(strings.Count(test.want, " ") + 1 - strings.Count(test.want+" ", "/ ")); s.Stats.Files != files {
				t.Errorf("stats say %d files, not %d", s.Stats.Files, files)
			}
		})
	}
}

// What is left out is not even asked for, so that a socket there is no obstacle.
func TestSkippedFilesAreNotLookedAt(t *testing.T) {
	files := sample()
	files["cache/sock"] = &fstest.MapFile{Mode: fs.ModeSocket}
	files["sock"] = &fstest.MapFile{Mode: fs.ModeSocket}
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": &memory{files: files}}})
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{}); !errors.Is(err, snapshot.ErrFileKind) {
		t.Fatal(err)
	}
	create(t, e, snapshot.CreateOptions{Skip: []string{"kv/cache", "kv/sock"}})
	create(t, e, snapshot.CreateOptions{Include: []string{"kv/*.sst"}})
	for _, opts := range []snapshot.CreateOptions{{Include: []string{"x/**"}}, {Skip: []string{"*"}}} {
		if _, err := e.Create(t.Context(), opts); !errors.Is(err, snapshot.ErrNoMatch) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	for _, opts := range []snapshot.CreateOptions{{Include: []string{"/kv"}}, {Skip: []string{"kv/["}}} {
		var pe *snapshot.PatternError
		if _, err := e.Create(t.Context(), opts); !errors.As(err, &pe) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
}

// A partial snapshot is no parent for a whole one by itself: it would save little.
func TestPartialParents(t *testing.T) {
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": &memory{files: sample()}}})
	whole := create(t, e, snapshot.CreateOptions{Label: "a"})
	part := create(t, e, snapshot.CreateOptions{Label: "b", Skip: []string{"kv/log"}})
	if part.Parent != "" {
		t.Errorf("the first of its kind has the parent %q", part.Parent)
	}
	if s := create(t, e, snapshot.CreateOptions{Label: "c"}); s.Parent != whole.ID {
		t.Errorf("a whole one has the parent %q", s.Parent)
	}
	if s := create(t, e, snapshot.CreateOptions{Label: "d", Skip: []string{"kv/log"}}); s.Parent != part.ID {
		t.Errorf("the second of its kind has the parent %q", s.Parent)
	}
	if s := create(t, e, snapshot.CreateOptions{Label: "e", Skip: []string{"kv/log"}, Parent: whole.ID}); s.Parent != whole.ID {
		t.Errorf("told its parent, it has %q", s.Parent)
	}
}

func TestRestoreWithPatterns(t *testing.T) {
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": &memory{files: sample()}}})
	s := create(t, e, snapshot.CreateOptions{})
	to := filepath.Join(writableDir(t), "to")
	result, err := e.Restore(t.Context(), s.ID, snapshot.RestoreOptions{To: to, Include: []string{"kv/**/*.wl", "kv/0*"}, Skip: []string{"**/*13.sst"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(paths(t, os.DirFS(to)), " "); got != "kv/ kv/000012.sst kv/log/ kv/log/000001.wl" {
		t.Errorf("restored %s", got)
	}
	if result.Files != 2 {
		t.Errorf("%+v", result)
	}
	to = filepath.Join(writableDir(t), "match")
	if _, err = e.Restore(t.Context(), s.ID, snapshot.RestoreOptions{
		To: to, Source: "kv", Include: []string{"kv/0*"}, Match: func(path string) bool { return !strings.Contains(path, "12") },
	}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(paths(t, os.DirFS(to)), " "); got != "000013.sst" {
		t.Errorf("restored %s", got)
	}
	for _, test := range []struct {
		opts snapshot.RestoreOptions
		want error
	}{
		{snapshot.RestoreOptions{Skip: []string{"**"}}, snapshot.ErrNoMatch},
		{snapshot.RestoreOptions{Include: []string{"kv//a"}}, snapshot.ErrPattern},
	} {
		test.opts.To = filepath.Join(t.TempDir(), "none")
		if _, err := e.Restore(t.Context(), s.ID, test.opts); !errors.Is(err, test.want) {
			t.Errorf("%+v: %v", test.opts, err)
		}
		if _, err := os.Lstat(test.opts.To); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("something was restored: %v", err)
		}
	}
}

// Nobody gets a part in the place of a whole database by mistake.
func TestPartialInPlace(t *testing.T) {
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": &memory{files: sample()}}})
	s := create(t, e, snapshot.CreateOptions{Skip: []string{"kv/log"}})
	to := filepath.Join(writableDir(t), "to")
	if _, err := e.Restore(t.Context(), s.ID, snapshot.RestoreOptions{To: to, Source: "kv"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(to, 0o700), os.WriteFile(filepath.Join(to, "precious"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	opts := snapshot.RestoreOptions{To: to, Source: "kv", InPlace: true}
	if _, err := e.Restore(t.Context(), s.ID, opts); !errors.Is(err, snapshot.ErrPartial) {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(to, "precious")); err != nil {
		t.Error(err)
	}
	opts.AllowPartial = true
	if _, err := e.Restore(t.Context(), s.ID, opts); err != nil {
		t.Error(err)
	}
}

func ExampleParsePattern() {
	p, err := snapshot.ParsePattern("kv/**/*.log")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Covers("kv/wal/000007.log"), p.Covers("kv/000012.sst"))
	_, err = snapshot.ParsePattern("kv/[a-z.sst")
	fmt.Println(err)
	// Output:
	// true false
	// snapshot: bad pattern "kv/[a-z.sst" at byte 3: the bracket is not closed in its part: write \[ for a bracket
}
