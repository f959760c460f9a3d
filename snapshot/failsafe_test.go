package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseFailsafe(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, want := range map[string]failsafe{
		"data.previous-20260102T030405Z":     {at: at, nth: 1},
		"data.previous-20260102T030405Z-2":   {at: at, nth: 2},
		"data.previous-20260102T030405Z-999": {at: at, nth: 999},
	} {
		want.name = name
		if got, ok := parseFailsafe(name, "data"); !ok || got != want {
			t.Errorf("%s: %+v, %t", name, got, ok)
		}
	}
	for _, name := range []string{
		"data", "data.previous-", "data.previous-2026", "data.previous-20260102T030405Z-1", "data.previous-20260102T030405Z-02",
		"data.previous-20260102T030405Z-", "data.previous-20260102T030405Z--2", "data.previous-20260102T030405Z-x", "data.previous-20261302T030405Z",
		"data.previous-20260102T030405Z.tar", "database.previous-20260102T030405Z", ".data.previous-20260102T030405Z", "data.previous-20260102",
	} {
		if got, ok := parseFailsafe(name, "data"); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// besides lists what stands beside the target.
func besides(t *testing.T, to string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(to))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != filepath.Base(to) {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestKeepFailsafes restores again and again, beside failsafes of earlier days and what only looks like one.
func TestKeepFailsafes(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", sampleFiles())
	others := []string{"data.previous-2026", "data.previous-20200101T000000Z.tar", "database.previous-20200101T000000Z"}
	for name, test := range map[string]struct {
		keep int
		// old are the failsafes from before that must be left.
		old     []string
		removed int64
	}{
		"all":            {0, []string{"data.previous-20200101T000000Z", "data.previous-20200101T000000Z-10", "data.previous-20200101T000000Z-2", "data.previous-20991231T000000Z"}, 0},
		"less than none": {-1, []string{"data.previous-20200101T000000Z", "data.previous-20200101T000000Z-10", "data.previous-20200101T000000Z-2", "data.previous-20991231T000000Z"}, 0},
		// That of a clock which was wrong does not take the place of the new one.
		"one":   {1, nil, 4},
		"two":   {2, []string{"data.previous-20991231T000000Z"}, 3},
		"three": {3, []string{"data.previous-20200101T000000Z-10", "data.previous-20991231T000000Z"}, 2},
		"ten":   {10, []string{"data.previous-20200101T000000Z", "data.previous-20200101T000000Z-10", "data.previous-20200101T000000Z-2", "data.previous-20991231T000000Z"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(tempDir(t), "data")
			folders := append([]string{"data.previous-20200101T000000Z", "data.previous-20200101T000000Z-2", "data.previous-20200101T000000Z-10", "data.previous-20991231T000000Z", "data"}, others...)
			for _, folder := range folders {
				path := filepath.Join(filepath.Dir(to), folder)
				if err := errors.Join(os.MkdirAll(filepath.Join(path, "sealed"), 0o755), os.WriteFile(filepath.Join(path, "sealed", "rows"), []byte(folder), 0o444), os.Chmod(filepath.Join(path, "sealed"), 0o555)); err != nil {
					t.Fatal(err)
				}
			}
			result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true, KeepFailsafes: test.keep}, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := append(append([]string{filepath.Base(result.Previous)}, others...), test.old...)
			slices.Sort(want)
			if diff := cmp.Diff(want, besides(t, to)); diff != "" {
				t.Error(diff)
			}
			if result.FailsafesRemoved != test.removed {
				t.Errorf("%d were removed", result.FailsafesRemoved)
			}
			if rows, err := os.ReadFile(filepath.Join(result.Previous, "sealed", "rows")); err != nil || string(rows) != "data" {
				t.Errorf("%q, error %v", rows, err)
			}
		})
	}
}

// The names of failsafes of one second tell their order, also after older ones of it were removed.
func TestFailsafesOfOneSecond(t *testing.T) {
	s, err := openSite(filepath.Join(tempDir(t), "data"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for made := range 9 {
		name, err := s.previousName(now)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.parent.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := s.trimFailsafes(t.Context(), s.join(name), 2); err != nil {
			t.Fatal(err)
		}
		all, err := s.failsafes()
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != min(made+1, 2) || all[0].name != name || all[0].nth != made+1 || made > 0 && all[1].nth != made {
			t.Errorf("after %d: made %s, there are %+v", made, name, all)
		}
	}
}

// TestFailsafeRemovalFails has each step of the removal fail: the restore is complete all the same, and what is left is
// either a whole failsafe or nothing that passes for one.
func TestFailsafeRemovalFails(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", sampleFiles())
	const old = "data.previous-20200101T000000Z"
	for _, step := range []string{"move " + old, "removeall ."} {
		t.Run(step, func(t *testing.T) {
			to := filepath.Join(tempDir(t), "data")
			for _, folder := range []string{old, "data"} {
				path := filepath.Join(filepath.Dir(to), folder)
				if err := errors.Join(os.Mkdir(path, 0o755), os.WriteFile(filepath.Join(path, "rows"), []byte(folder), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			disk := errors.New("the disk refuses")
			ops := &fileOps{before: func(op, name string) error {
				if strings.HasPrefix(op+" "+name, step) {
					return disk
				}
				return nil
			}}
			result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true, KeepFailsafes: 1}, ops)
			if err != nil || result.Previous == "" {
				t.Fatalf("%+v, error %v", result, err)
			}
			if _, err := os.Stat(filepath.Join(to, "a", "b")); err != nil {
				t.Error(err)
			}
			kept := filepath.Join(filepath.Dir(to), old)
			rows, err := os.ReadFile(filepath.Join(kept, "rows"))
			if strings.HasPrefix(step, "move") {
				if err != nil || string(rows) != old || result.FailsafesRemoved != 0 {
					t.Errorf("%q, error %v, %d removed", rows, err, result.FailsafesRemoved)
				}
				return
			}
			if !errors.Is(err, os.ErrNotExist) || len(besides(t, to)) != 2 {
				t.Errorf("error %v, beside it are %s", err, besides(t, to))
			}
			if _, err := Recover(t.Context(), to); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{filepath.Base(result.Previous)}, besides(t, to)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
