package pebblesource

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// The order of calls that an early release relies on, as the linked version of
// Pebble makes them: nothing is linked, copied or opened before the destination is
// made, and logs are copied under their own names.
func TestCheckpointCallOrder(t *testing.T) {
	var mu sync.Mutex
	var got []string
	on := false
	h := &hookFS{FS: vfs.NewMem()}
	h.hook = func(op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if on {
			got = append(got, op+" "+name)
		}
		return nil
	}
	db, err := openSmall(h, "db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := errors.Join(db.Set([]byte("k"), []byte("v"), pebble.Sync), db.Flush(), h.MkdirAll("scratch", 0o755)); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	on = true
	mu.Unlock()
	if err := db.Checkpoint("scratch/pin"); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{
		"stat scratch/pin",
		"stat scratch",
		"mkdir scratch/pin",
		"open db/OPTIONS-#",
		"create scratch/pin/OPTIONS-#",
		"create scratch/pin/marker.format-version.#",
		"link scratch/pin/#.sst",
		"open db/MANIFEST-#",
		"create scratch/pin/MANIFEST-#",
		"create scratch/pin/marker.manifest.#",
		"open db/#.log",
		"create scratch/pin/#.log",
	}
	if diff := cmp.Diff(want, withoutNumbers(got)); diff != "" {
		t.Errorf("calls of DB.Checkpoint (-want +got):\n%s", diff)
	}
}

// withoutNumbers puts a # for what differs from run to run, and drops what
// background work does to other files meanwhile.
func withoutNumbers(calls []string) []string {
	var out []string
	for _, c := range calls {
		op, name, _ := strings.Cut(c, " ")
		dir, base := filepath.Split(filepath.ToSlash(name))
		for _, prefix := range []string{"OPTIONS-", "MANIFEST-", "marker.format-version.", "marker.manifest."} {
			if strings.HasPrefix(base, prefix) {
				base = prefix + "#"
			}
		}
		for _, suffix := range []string{".sst", ".log"} {
			if strings.HasSuffix(base, suffix) {
				base = "#" + suffix
			}
		}
		if dir == "db/" && (op != "open" || base == "#.sst") {
			continue // a checkpoint only reads there, and no tables
		}
		out = append(out, op+" "+dir+base)
	}
	return out
}

func TestTryOrder(t *testing.T) {
	if err := tryOrder(); err != nil {
		t.Error(err)
	}
}

// Versions of Pebble that would make checkpoints in another order are found out.
func TestTryOrderFindsOtherOrders(t *testing.T) {
	tests := []struct {
		name       string
		checkpoint func(fs *FS) checkpointFunc
		want       string
	}{
		{"folder made before the version is noted", func(fs *FS) checkpointFunc {
			return func(db *pebble.DB, dest string, _ ...pebble.CheckpointOption) error {
				if err := errors.Join(fs.MkdirAll(dest, 0o755), fs.RemoveAll(dest)); err != nil {
					return err
				}
				return db.Checkpoint(dest)
			}
		}, "unknown at the freeze"},
		{"folder made under another name", func(fs *FS) checkpointFunc {
			return func(db *pebble.DB, dest string, _ ...pebble.CheckpointOption) error {
				if err := db.Checkpoint("elsewhere"); err != nil {
					return err
				}
				return fs.Rename("elsewhere", dest)
			}
		}, "did not show when it began"},
		{"logs are not copied through Create", func(fs *FS) checkpointFunc {
			return func(db *pebble.DB, dest string, _ ...pebble.CheckpointOption) error {
				if err := db.Checkpoint(dest); err != nil {
					return err
				}
				names, err := fs.List("db")
				for _, name := range names {
					if isLog(name) {
						err = errors.Join(err, vfs.Copy(fs.Unwrap(), "db/"+name, dest+"/"+name))
					}
				}
				return err
			}
		}, "not those of its moment"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fs := NewFS(vfs.NewMem())
			err := tryOrderOn(t.Context(), fs, tt.checkpoint(fs))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// A checkpoint that holds the commit lock while it makes the folder makes the trial
// fail and not hang.
func TestTryOrderDoesNotHang(t *testing.T) {
	// The lock is imitated by a log that cannot be made before the release. The
	// patience ends as soon as somebody waits for it.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	held := make(chan (<-chan struct{}), 1)
	h := &hookFS{FS: vfs.NewMem(), hook: func(op, name string) error {
		if op == "create" && isLog(name) && strings.HasPrefix(name, "db") {
			select {
			case released := <-held:
				cancel()
				<-released
			default:
			}
		}
		return nil
	}}
	fs := NewFS(h)
	err := tryOrderOn(ctx, fs, func(db *pebble.DB, dest string, _ ...pebble.CheckpointOption) error {
		held <- fs.captureOf(dest).released
		return db.Checkpoint(dest)
	})
	if err == nil || !strings.Contains(err.Error(), "holds locks") {
		t.Errorf("got %v", err)
	}
}

func TestEarlyRelease(t *testing.T) {
	plain := func(t *testing.T, dir string, o *pebble.Options, opts Options) (*Source, error) {
		db, err := pebble.Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		src, err := New(db, dir, opts)
		if err == nil {
			t.Cleanup(func() { src.Close() })
		}
		return src, err
	}
	on := func(fs vfs.FS) *pebble.Options {
		o := smallOptions()
		o.FS = fs
		return o
	}
	shared := NewFS(nil)
	tests := []struct {
		name string
		db   *pebble.Options
		opts Options
		want error
	}{
		{"opened through the FS", on(shared), Options{FS: shared}, nil},
		{"another FS", on(NewFS(nil)), Options{FS: NewFS(nil)}, ErrNotCaptured},
		{"no FS", smallOptions(), Options{}, ErrNotCaptured},
		{"FS not named to New", on(NewFS(nil)), Options{}, ErrNotCaptured},
		{"FS under another layer", on(&hookFS{FS: shared, hook: func(string, string) error { return nil }}), Options{FS: shared}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, err := plain(t, t.TempDir(), tt.db, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if got := src.EarlyRelease(); !errors.Is(got, tt.want) || (tt.want == nil) != (got == nil) {
				t.Errorf("EarlyRelease() = %v, want %v", got, tt.want)
			}
			tt.opts.RequireEarlyRelease = true
			if _, err := plain(t, t.TempDir(), tt.db.Clone(), tt.opts); !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
				t.Errorf("RequireEarlyRelease: %v, want %v", err, tt.want)
			}
		})
	}
}
