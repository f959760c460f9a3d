package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/repo"
)

// oldTree is what stands at a target before a restore in place.
var oldTree = map[string]string{"CURRENT": "old one", "wal/000017.log": string("old two")}

func oldTreeRead(t testing.TB) map[string]string {
	t.Helper()
	dir := tempDir(t)
	writeTree(t, dir, oldTree)
	return readTree(t, dir)
}

// newFiles is what is restored in its place.
func newFiles() []storedFile {
	return []storedFile{
		{path: "kv/CURRENT", data: []byte("new one"), mode: 0o600, at: aTime},
		{path: "kv/sst/", mode: 0o555, at: aTime},
		{path: "kv/sst/000001.sst", data: tableRows(1, 66_000), mode: 0o400, at: aTime},
	}
}

func newTreeRead(t testing.TB, r *repo.Repository, m *repo.Manifest) map[string]string {
	t.Helper()
	to := filepath.Join(tempDir(t), "new")
	if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv"}, nil); err != nil {
		t.Fatal(err)
	}
	return readTree(t, to)
}

// exchangeModes are the ways in which two folders can change places.
var exchangeModes = []struct {
	name       string
	noExchange bool
}{{"exchange", false}, {"two renames", true}}

var errPower = errors.New("the power went out")

// crashAt lets n changes happen and refuses all later ones.
func crashAt(n int, noExchange bool) (ops *fileOps, crashed *bool) {
	crashed = new(bool)
	return &fileOps{noExchange: noExchange, before: func(op, name string) error {
		if n--; n < 0 {
			*crashed = true
			return fmt.Errorf("%s %s: %w", op, name, errPower)
		}
		return nil
	}}, crashed
}

// A crash at every change of a restore in place, and then at every change of the
// recovery, leaves the old tree or the new one, and nothing else.
func TestCrashes(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", newFiles())
	oldWant, newWant := oldTreeRead(t), newTreeRead(t, r, m)
	refuse := errors.New("the database does not like it")
	for _, mode := range exchangeModes {
		for _, how := range []string{"in place", "start fails", "nothing there", "fresh", "undo"} {
			t.Run(mode.name+"/"+how, func(t *testing.T) {
				t.Parallel()
				undone, completed, refused := 0, 0, 0
				for n := 0; ; n++ {
					done := true
					for second := 0; ; second++ {
						parent := tempDir(t)
						to := filepath.Join(parent, "db")
						hadOld := how != "nothing there" && how != "fresh"
						if hadOld {
							writeTree(t, to, oldTree)
						}
						ops, crashed := crashAt(n, mode.noExchange)
						opts := RestoreOptions{To: to, Source: "kv", InPlace: how != "fresh", Workers: 1}
						if how == "start fails" {
							opts.Start = func(context.Context) error { return refuse }
						}
						var err error
						if how == "undo" {
							writeTree(t, to+".previous-20240229T000000Z", map[string]string{})
							if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to + ".previous-20240229T000000Z", Source: "kv"}, nil); err != nil {
								t.Fatal(err)
							}
							_, err = undoTarget(t.Context(), to, "db.previous-20240229T000000Z", ops)
						} else {
							_, err = restoreWith(t.Context(), r, m, opts, ops)
						}
						if *crashed != errors.Is(err, errPower) {
							// Only the lock file's removal is not worth an error.
							if left := listFolder(t, parent); err != nil && !errors.Is(err, refuse) || left[0] != ".db.holdstill-lock" {
								t.Fatalf("crash at %d: error %v, left %q", n, err, left)
							}
						}
						done = !*crashed
						noted := isNotedAsRefused(t, to)
						again, crashedAgain := crashAt(second, mode.noExchange)
						if how != "in place" {
							again, crashedAgain = &fileOps{noExchange: mode.noExchange}, new(bool)
						}
						_, recoverErr := recoverTarget(t.Context(), to, again)
						if *crashedAgain {
							if recoverErr != nil && !errors.Is(recoverErr, errPower) {
								t.Fatalf("crash at %d and %d: Recover: %v", n, second, recoverErr)
							}
						} else if recoverErr != nil {
							t.Fatalf("crash at %d: Recover: %v", n, recoverErr)
						}
						isNew := checkSettled(t, to, how, hadOld, oldWant, newWant)
						if noted {
							refused++
						}
						if isNew && noted {
							t.Fatalf("crash at %d: the database is left on data that it has refused", n)
						}
						if isNew {
							completed++
						} else {
							undone++
						}
						// The other kinds recover by the same steps.
						if !*crashedAgain || how != "in place" {
							break
						}
					}
					if done {
						break
					}
				}
				t.Logf("%d ended with the old tree, %d with the new one", undone, completed)
				if how == "start fails" && refused < 4 {
					t.Errorf("%d crashes after the note that the new data was refused", refused)
				}
				if how != "start fails" && (undone < 5 || completed < 3) {
					t.Error("too few crashes on one side")
				}
			})
		}
	}
}

// isNotedAsRefused says whether the journal tells that the old tree is to be at the
// target.
func isNotedAsRefused(t *testing.T, to string) bool {
	t.Helper()
	s, err := openSite(to, nil)
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.readJournal()
	if err := errors.Join(err, s.close()); err != nil {
		t.Fatal(err)
	}
	return j != nil && j.State == stateUndoing
}

// checkSettled recovers once more and says whether the new tree is at the target.
func checkSettled(t *testing.T, to, how string, hadOld bool, oldWant, newWant map[string]string) bool {
	t.Helper()
	result, err := Recover(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Recover(t.Context(), to); err != nil || again.Action != RecoverNone {
		t.Fatalf("Recover again: %+v, %v", again, err)
	}
	beside := listFolder(t, filepath.Dir(to))
	isNew := false
	if _, err := os.Stat(to); err == nil {
		got := readTree(t, to)
		isNew = cmp.Equal(newWant, got)
		if !isNew && !(hadOld && cmp.Equal(oldWant, got)) {
			t.Fatalf("the target is neither old nor new: %v", got)
		}
	} else if hadOld {
		t.Fatalf("the target is gone: %q", beside)
	}
	failsafes := 0
	for _, name := range beside {
		if name == "db" {
			continue
		}
		if !strings.HasPrefix(name, "db.previous-") {
			t.Fatalf("left behind: %q", beside)
		}
		failsafes++
		want := oldWant
		if !isNew {
			want = newWant // of Undo, which did not happen
		}
		if d := cmp.Diff(want, readTree(t, filepath.Join(filepath.Dir(to), name))); d != "" {
			t.Fatalf("the failsafe %s differs:\n%s", name, d)
		}
	}
	want := 0
	if isNew && hadOld || how == "undo" {
		want = 1
	}
	if failsafes != want {
		t.Fatalf("%d failsafes, want %d: %q", failsafes, want, beside)
	}
	if result.Action == RecoverCompleted && !isNew {
		t.Fatal("completed, but the old tree is at the target")
	}
	return isNew
}

// Every change fails once, and the call goes on from there by itself.
func TestFailures(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", newFiles())
	oldWant, newWant := oldTreeRead(t), newTreeRead(t, r, m)
	for _, mode := range exchangeModes {
		t.Run(mode.name, func(t *testing.T) {
			for n := 0; ; n++ {
				parent := tempDir(t)
				to := filepath.Join(parent, "db")
				writeTree(t, to, oldTree)
				seen, failed, early, exchanged := 0, "", false, false
				ops := &fileOps{noExchange: mode.noExchange, before: func(op, name string) error {
					if seen++; seen == n+1 {
						failed, early = op+" "+name, !exchanged
						return syscall.EIO
					}
					exchanged = exchanged || op == "exchange"
					return nil
				}}
				running := 1
				result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true, Workers: 1,
					Stop:  func(context.Context) error { running--; return nil },
					Start: func(context.Context) error { running++; return nil },
				}, ops)
				if running != 1 {
					t.Fatalf("%s failed: the database was started %d times more than stopped", failed, running-1)
				}
				if err != nil && !errors.Is(err, syscall.EIO) {
					t.Fatalf("%s failed: error %v", failed, err)
				}
				if early && result != nil {
					t.Fatalf("%s failed, and the restore went on", failed)
				}
				want := oldWant
				if result != nil {
					want = newWant
				}
				if d := cmp.Diff(want, readTree(t, to)); d != "" {
					t.Fatalf("%s failed: result %+v, error %v, at the target (-want +got):\n%s", failed, result, err, d)
				}
				var told *RestoreError
				if errors.As(err, &told) && told.Undone != (result == nil) {
					t.Fatalf("%s failed: result %+v, error %+v", failed, result, told)
				}
				if isNew := checkSettled(t, to, "in place", true, oldWant, newWant); isNew != (result != nil) {
					t.Fatalf("%s failed: Recover changed the outcome", failed)
				}
				if failed == "" {
					break
				}
			}
		})
	}
}

// The order of the changes beside the target, which is what a crash depends on.
func TestOrderOfChanges(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", newFiles())
	parent := tempDir(t)
	to := filepath.Join(parent, "db")
	writeTree(t, to, oldTree)
	var got []string
	note := func(s string) func(context.Context) error {
		return func(context.Context) error { got = append(got, s); return nil }
	}
	result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true, Workers: 1,
		Stop: note("stop"), Start: note("start")}, &fileOps{before: func(op, name string) error {
		got = append(got, op+" "+name)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	staging := ""
	for _, line := range got {
		if name, ok := strings.CutPrefix(line, "mkdir .db."); ok {
			staging = ".db." + name
		}
	}
	shorten := strings.NewReplacer(parent+"/.\x00", "PARENT", parent+"/", "", staging, "STAGED", filepath.Base(result.Previous), "PREVIOUS",
		".db.holdstill-restore.json", "JOURNAL")
	// The folder and the file are written by two goroutines.
	var lines []string
	for _, line := range got {
		if line = shorten.Replace(line + "\x00"); !strings.Contains(line, "CURRENT") && line != "mkdir sst\x00" {
			lines = append(lines, strings.TrimSuffix(line, "\x00"))
		}
	}
	want := strings.Split(strings.TrimSpace(`
mkdir STAGED
create sst/000001.sst
truncate STAGED/sst/000001.sst
write STAGED/sst/000001.sst
write STAGED/sst/000001.sst
dress sst/000001.sst
sync STAGED/sst/000001.sst
dress sst
syncdir STAGED/sst
dress .
syncdir STAGED/.
writefile JOURNAL
create JOURNAL.tmp
sync JOURNAL.tmp
rename JOURNAL.tmp JOURNAL
syncdir PARENT
stop
exchange db STAGED
syncdir PARENT
writefile JOURNAL
create JOURNAL.tmp
sync JOURNAL.tmp
rename JOURNAL.tmp JOURNAL
syncdir PARENT
start
move STAGED PREVIOUS
syncdir PARENT
remove JOURNAL
syncdir PARENT
remove .db.holdstill-lock`), "\n")
	if d := cmp.Diff(want, lines); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
}
