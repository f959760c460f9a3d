package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

func TestRestoreInPlaceAndUndo(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", newFiles())
	oldWant, newWant := oldTreeRead(t), newTreeRead(t, r, m)
	parent := tempDir(t)
	to := filepath.Join(parent, "db")
	writeTree(t, to, oldTree)
	if err := os.Chmod(to, 0o710); err != nil {
		t.Fatal(err)
	}
	result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(atTarget, atPrevious map[string]string, previous string) {
		t.Helper()
		if d := cmp.Diff(atTarget, readTree(t, to)); d != "" {
			t.Errorf("at the target:\n%s", d)
		}
		if d := cmp.Diff(atPrevious, readTree(t, previous)); d != "" {
			t.Errorf("the failsafe:\n%s", d)
		}
		if d := cmp.Diff([]string{"db", filepath.Base(previous)}, listFolder(t, parent)); d != "" {
			t.Errorf("beside the target:\n%s", d)
		}
	}
	check(newWant, oldWant, result.Previous)
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o710 {
		t.Errorf("the target has the permissions %v, %v, want those it had", info.Mode(), err)
	}
	failsafe, err := Undo(t.Context(), to, result.Previous)
	if err != nil {
		t.Fatal(err)
	}
	check(oldWant, newWant, failsafe)
	// By its name alone, and back again.
	failsafe, err = Undo(t.Context(), to, filepath.Base(failsafe))
	if err != nil {
		t.Fatal(err)
	}
	check(newWant, oldWant, failsafe)
	for _, bad := range []string{"", ".", "..", "db", to, "none", filepath.Join(parent, "none"), ".db.holdstill-lock", os.TempDir(), filepath.Join(failsafe, "wal")} {
		if _, err := Undo(t.Context(), to, bad); !errors.Is(err, ErrTarget) {
			t.Errorf("Undo with %q: error %v, want ErrTarget", bad, err)
		}
	}
	check(newWant, oldWant, failsafe)
	// Where the target is gone the failsafe takes its place, and none is kept.
	if err := os.Rename(to, filepath.Join(tempDir(t), "gone")); err != nil {
		t.Fatal(err)
	}
	if failsafe, err = Undo(t.Context(), to, failsafe); err != nil || failsafe != "" {
		t.Fatalf("Undo: %q, %v", failsafe, err)
	}
	if d := cmp.Diff(oldWant, readTree(t, to)); d != "" {
		t.Errorf("at the target:\n%s", d)
	}
}

// The outcomes of Stop and Start, and what the database is left with.
func TestStopAndStart(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", newFiles())
	oldWant, newWant := oldTreeRead(t), newTreeRead(t, r, m)
	noStop, noNew, noOld := errors.New("will not stop"), errors.New("will not open new"), errors.New("will not open old")
	for _, mode := range exchangeModes {
		tests := []struct {
			name           string
			stop           error
			starts         []error
			isNew          bool
			want, wantToo  error
			wantNumberOfIt int
		}{
			{"both fine", nil, []error{nil}, true, nil, nil, 1},
			{"stop fails", noStop, []error{nil}, false, noStop, noStop, 1},
			{"stop and start fail", noStop, []error{noOld}, false, noStop, noOld, 1},
			{"start fails", nil, []error{noNew, nil}, false, noNew, noNew, 2},
			{"both starts fail", nil, []error{noNew, noOld}, false, noNew, noOld, 2},
		}
		for _, tt := range tests {
			t.Run(mode.name+"/"+tt.name, func(t *testing.T) {
				parent := tempDir(t)
				to := filepath.Join(parent, "db")
				writeTree(t, to, oldTree)
				starts := 0
				result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true,
					Stop: func(context.Context) error { return tt.stop },
					Start: func(ctx context.Context) error {
						// As a server does that is being started.
						if got, err := Recover(ctx, to); err != nil || got.Action != RecoverNone {
							t.Errorf("Recover within Start: %+v, %v", got, err)
						}
						want := oldWant
						if tt.stop == nil && starts == 0 {
							want = newWant
						}
						if d := cmp.Diff(want, readTree(t, to)); d != "" {
							t.Errorf("at start %d:\n%s", starts+1, d)
						}
						starts++
						return tt.starts[starts-1]
					}}, &fileOps{noExchange: mode.noExchange})
				if starts != tt.wantNumberOfIt {
					t.Errorf("%d starts, want %d", starts, tt.wantNumberOfIt)
				}
				want, beside := oldWant, []string{"db"}
				if tt.isNew {
					want = newWant
					beside = append(beside, filepath.Base(result.Previous))
				}
				if d := cmp.Diff(want, readTree(t, to)); d != "" {
					t.Errorf("at the target:\n%s", d)
				}
				if d := cmp.Diff(beside, listFolder(t, parent)); d != "" {
					t.Errorf("beside the target:\n%s", d)
				}
				var told *RestoreError
				switch {
				case tt.want == nil && err != nil:
					t.Fatal(err)
				case tt.want != nil && (!errors.Is(err, tt.want) || !errors.Is(err, tt.wantToo)):
					t.Errorf("error %v, want %v and %v", err, tt.want, tt.wantToo)
				case tt.want != nil && (!errors.As(err, &told) || !told.Undone || told.ID != "s" || told.To != to):
					t.Errorf("error %#v", told)
				}
			})
		}
	}
}

func TestBusy(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", newFiles())
	parent := tempDir(t)
	to := filepath.Join(parent, "db")
	writeTree(t, to, oldTree)
	writeTree(t, to+".previous-20240229T000000Z", oldTree)
	tried := false
	_, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, InPlace: true, Stop: func(ctx context.Context) error {
		tried = true
		if _, err := restoreWith(ctx, r, m, RestoreOptions{To: to, InPlace: true}, nil); !errors.Is(err, ErrBusy) {
			t.Errorf("Restore within Restore: %v", err)
		}
		if _, err := Recover(ctx, to); !errors.Is(err, ErrBusy) {
			t.Errorf("Recover within Restore: %v", err)
		}
		if _, err := Undo(ctx, to, "db.previous-20240229T000000Z"); !errors.Is(err, ErrBusy) {
			t.Errorf("Undo within Restore: %v", err)
		}
		// Another target in the same folder is free.
		_, err := restoreWith(ctx, r, m, RestoreOptions{To: to + "2"}, nil)
		return err
	}}, nil)
	if err != nil || !tried {
		t.Fatalf("tried %v, error %v", tried, err)
	}
}

// Whoever releases the lock removes its file, which another one may have opened
// just before: even so never do two of them hold it.
func TestLockExcludes(t *testing.T) {
	to := filepath.Join(tempDir(t), "db")
	var holders, taken atomic.Int64
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			s, err := openSite(to, nil)
			if err != nil {
				return err
			}
			for range 1500 {
				if err := s.acquire(); errors.Is(err, ErrBusy) {
					continue
				} else if err != nil {
					return errors.Join(err, s.close())
				}
				if holders.Add(1) > 1 {
					t.Error("two hold the lock")
				}
				taken.Add(1)
				runtime.Gosched()
				holders.Add(-1)
				if err := s.release(); err != nil {
					return errors.Join(err, s.close())
				}
			}
			return s.close()
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if taken.Load() == 0 {
		t.Error("nobody ever held the lock")
	}
}

// Recover writes nothing where there is nothing to do, and takes over what nobody
// holds.
func TestRecoverNothing(t *testing.T) {
	parent := tempDir(t)
	to := filepath.Join(parent, "db")
	if got, err := Recover(t.Context(), to); err != nil || got.Action != RecoverNone {
		t.Errorf("Recover: %+v, %v", got, err)
	}
	if _, err := Recover(t.Context(), filepath.Join(parent, "no", "db")); !errors.Is(err, ErrTarget) {
		t.Errorf("Recover without a parent folder: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Recover(ctx, to); !errors.Is(err, context.Canceled) {
		t.Errorf("Recover, cancelled: %v", err)
	}
	if _, err := Undo(ctx, to, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("Undo, cancelled: %v", err)
	}
	// Names that only look like a staging folder's are somebody else's.
	kept := map[string]string{
		".db.holdstill-restoring-0123456789abcde/x":   "short",
		".db.holdstill-restoring-0123456789abcdeg/x":  "no digit",
		".db2.holdstill-restoring-0123456789abcdef/x": "of db2",
		"db/x": "target",
	}
	writeTree(t, parent, kept)
	before := readTree(t, parent)
	writeTree(t, parent, map[string]string{".db.holdstill-lock": "", ".db.holdstill-restore.json.tmp": "{"})
	if got, err := Recover(t.Context(), to); err != nil || got.Action != RecoverNone {
		t.Errorf("Recover: %+v, %v", got, err)
	}
	writeTree(t, parent, map[string]string{".db.holdstill-restoring-0123456789abcdef/a/b": "stranded"})
	if got, err := Recover(t.Context(), to); err != nil || got.Action != RecoverUndone {
		t.Errorf("Recover: %+v, %v", got, err)
	}
	if d := cmp.Diff(before, readTree(t, parent)); d != "" {
		t.Errorf("afterwards:\n%s", d)
	}
}
