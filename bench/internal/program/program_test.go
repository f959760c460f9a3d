package program

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunExitCodes(t *testing.T) {
	parse := func(args []string, usage io.Writer) (bool, error) {
		flags := flag.NewFlagSet("x", flag.ContinueOnError)
		fail := flags.Bool("fail", false, "fail")
		err := Parse(flags, args, usage)
		return *fail, err
	}
	for _, test := range []struct {
		args string
		code int
		ran  bool
	}{
		{"", 0, true},
		{"-fail", 1, true},
		{"-help", 0, false},
		{"-no", 2, false},
		{"stray", 2, false},
	} {
		ran := false
		code := Run(t.Context(), "x", strings.Fields(test.args), parse, func(_ context.Context, fail bool) error {
			ran = true
			if fail {
				return errors.New("as asked")
			}
			return nil
		})
		if code != test.code || ran != test.ran {
			t.Errorf("%q: code %d, ran %v", test.args, code, ran)
		}
	}
}

func TestParsePrintsNothingButHelp(t *testing.T) {
	for args, want := range map[string]bool{"-help": true, "-h": true, "-no": false, "stray": false} {
		flags := flag.NewFlagSet("x", flag.ContinueOnError)
		flags.Int("size", 1, "size")
		var usage strings.Builder
		if err := Parse(flags, []string{args}, &usage); err == nil || strings.Contains(usage.String(), "-size") != want {
			t.Errorf("%s: error %v, printed %q", args, err, usage.String())
		}
	}
}

func TestFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("here", 0o755); err != nil {
		t.Fatal(err)
	}
	dir, remove, err := Folder("here", "x")
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(dir) || !strings.HasPrefix(filepath.Base(dir), "holdstill-x-") {
		t.Errorf("folder %q", dir)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("rows"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir("here"); err != nil || len(left) > 0 {
		t.Errorf("left %v, error %v", left, err)
	}
	if _, _, err := Folder("nowhere", "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
