package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
)

// countdown is a context that ends after it was asked so many times.
type countdown struct {
	context.Context
	left *int
}

var errEnough = errors.New("enough")

func (c countdown) Err() error {
	if *c.left--; *c.left < 0 {
		return errEnough
	}
	return nil
}

func TestDirCancelledAtEachMoment(t *testing.T) {
	dir := newDirFolder(t)
	putFile(t, dir, "large.db", pages(40, 13<<20))
	resumed := 0
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm, Quiesce: func(context.Context) (func(), error) {
		resumed--
		return func() { resumed++ }, nil
	}})
	failed := 0
	for n := 0; ; n++ {
		left := n
		v, err := s.Pin(countdown{t.Context(), &left})
		if resumed != 0 {
			t.Fatalf("after %d: %d calls of resume are missing", n, -resumed)
		}
		if err == nil {
			closeView(t, v)
			break
		}
		failed++
		if v != nil || !errors.Is(err, errEnough) {
			t.Fatalf("after %d: %v, %v", n, v, err)
		}
		if left := pinsIn(t, defaultScratchOf(dir)); len(left) != 0 {
			t.Fatalf("after %d: left behind: %v", n, left)
		}
	}
	if failed < 13 {
		t.Errorf("the context was heeded only %d times", failed)
	}
	for n := range 5 {
		left := n
		if err := s.Prepare(countdown{t.Context(), &left}); !errors.Is(err, errEnough) {
			t.Errorf("prepare after %d: %v", n, err)
		}
	}
	if left := pinsIn(t, defaultScratchOf(dir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errEnough)
	if _, err := s.Pin(gone); !errors.Is(err, errEnough) {
		t.Errorf("pin with the cause: %v", err)
	}
}

func TestDirFlushAndQuiesce(t *testing.T) {
	dir := newDirFolder(t)
	var calls []string
	fail := ""
	boom := errors.New("boom")
	note := func(name string) error {
		calls = append(calls, name)
		if name == fail {
			return boom
		}
		return nil
	}
	s := newDir(t, dir, snapshot.DirOptions{
		Flush: func(context.Context) error { return note("flush") },
		Quiesce: func(context.Context) (func(), error) {
			putFile(t, dir, "flushed", text(60, 100))
			return func() { calls = append(calls, "resume") }, note("quiesce")
		},
		Hint: func(string) snapshot.Hint {
			if last := calls[len(calls)-1]; last != "look" {
				calls = append(calls, "look")
			}
			return snapshot.Hint{}
		},
	})
	for _, c := range []struct {
		fail string
		want string
	}{
		{"", "flush look quiesce look resume"},
		{"flush", "flush"},
		{"quiesce", "flush look quiesce"},
	} {
		calls, fail = nil, c.fail
		err := s.Prepare(t.Context())
		var v *snapshot.View
		if err == nil {
			v, err = s.Pin(t.Context())
		}
		if (c.fail != "") != errors.Is(err, boom) {
			t.Errorf("%q: %v", c.fail, err)
		}
		if diff := cmp.Diff(c.want, strings.Join(calls, " ")); diff != "" {
			t.Errorf("%q: %s", c.fail, diff)
		}
		if v != nil {
			if got := contents(t, v.FS)["flushed"]; !bytes.Equal(got, text(60, 100)) {
				t.Errorf("what Quiesce wrote is missing: %d bytes", len(got))
			}
			closeView(t, v)
		}
		if left := pinsIn(t, defaultScratchOf(dir)); len(left) != 0 {
			t.Errorf("%q: left behind: %v", c.fail, left)
		}
	}
}

// stamped gives a file or folder the n-th of some times long past. Where the system's clock for
// files stands still for milliseconds at a time, two changes would otherwise bear one time, and
// nobody could see the second.
func stamped(t *testing.T, path string, n int) {
	t.Helper()
	when := time.Date(2021, 5, 6, 7, 8, n, 0, time.UTC)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
}

// The Hint is asked between the first look at a file and the link or copy, so a
// change made there falls into the gap.
func TestDirFilesThatMoveDuringThePin(t *testing.T) {
	replace := func(t *testing.T, dir, name string, seed uint64) []byte {
		data := text(seed, 50_000+int(seed))
		putFile(t, filepath.Dir(dir), "outside", data)
		if err := os.Rename(filepath.Join(filepath.Dir(dir), "outside"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		return data
	}
	for name, change := range map[string]func(t *testing.T, dir string, seed uint64, want map[string][]byte){
		"sealed file replaced": func(t *testing.T, dir string, seed uint64, want map[string][]byte) {
			want["000002.sst"] = replace(t, dir, "000002.sst", seed)
		},
		"file replaced": func(t *testing.T, dir string, seed uint64, want map[string][]byte) {
			want["main.db"] = replace(t, dir, "main.db", seed)
		},
		"file made after its folder was listed": func(t *testing.T, dir string, seed uint64, want map[string][]byte) {
			name := fmt.Sprintf("%06d.sst", seed)
			want[name] = replace(t, dir, name, seed)
		},
		"file renamed backwards": func(t *testing.T, dir string, seed uint64, want map[string][]byte) {
			from, to := "wal.d", fmt.Sprintf("000-%d", seed)
			if want[from] == nil {
				from = fmt.Sprintf("000-%d", seed-1)
			}
			if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
				t.Fatal(err)
			}
			want[to] = want[from]
			delete(want, from)
		},
		"sealed file grows": func(t *testing.T, dir string, seed uint64, want map[string][]byte) {
			want["000002.sst"] = text(seed, 300_000+int(seed))
			putFile(t, dir, "000002.sst", want["000002.sst"])
		},
		"written to": func(t *testing.T, dir string, seed uint64, want map[string][]byte) {
			want["main.db"] = text(seed, 1000+int(seed))
			putFile(t, dir, "main.db", want["main.db"])
		},
	} {
		for _, times := range []int{1, 2, 1000} {
			t.Run(fmt.Sprintf("%s %d times", name, times), func(t *testing.T) {
				dir := newDirFolder(t)
				want := dirFiles()
				changes := 0
				stamped(t, dir, changes)
				s := newDir(t, dir, snapshot.DirOptions{Hint: func(name string) snapshot.Hint {
					// CURRENT comes after the tables and before all others.
					if (name == "CURRENT" || name == "main.db" || name == "000002.sst") && changes < times {
						changes++
						change(t, dir, uint64(changes), want)
						stamped(t, dir, changes)
					}
					return lsm(name)
				}})
				v, err := s.Pin(t.Context())
				if times < 1000 {
					if err != nil {
						t.Fatal(err)
					}
					defer closeView(t, v)
					wantContents(t, v.FS, want)
					return
				}
				if v != nil || !errors.Is(err, snapshot.ErrChanged) || !strings.Contains(err.Error(), "Quiesce") {
					t.Errorf("got %v, %v", v, err)
				}
				if left := pinsIn(t, defaultScratchOf(dir)); len(left) != 0 {
					t.Errorf("left behind: %v", left)
				}
			})
		}
	}
}

// Files that are left out may come and go all the time.
func TestDirSkippedFilesMayMove(t *testing.T) {
	dir := newDirFolder(t)
	n := 0
	s := newDir(t, dir, snapshot.DirOptions{
		Skip: func(name string) bool { return strings.HasPrefix(name, "tmp") },
		Hint: func(name string) snapshot.Hint {
			n++
			putFile(t, dir, fmt.Sprintf("tmp%d", n), text(uint64(n), 10))
			return lsm(name)
		},
	})
	v := pinDir(t, s)
	defer closeView(t, v)
	wantContents(t, v.FS, dirFiles())
}

// asked is a context that calls a function whenever it is asked whether it has ended.
type asked struct {
	context.Context
	call func()
}

func (a asked) Err() error {
	a.call()
	return nil
}

// A write in the middle of a copy must not give a View with the old beginning and
// the new end. The context is asked before each part is copied.
func TestDirFileIsWrittenToDuringItsCopy(t *testing.T) {
	const size = 9 << 20
	old, now := pages(81, size), pages(82, size)
	mid := 0
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), "data")
		putFile(t, dir, "main.db", old)
		stamped(t, filepath.Join(dir, "main.db"), 0)
		s := newDir(t, dir, snapshot.DirOptions{Hint: lsm})
		calls := 0
		v, err := s.Pin(asked{t.Context(), func() {
			if calls++; calls == n {
				putFile(t, dir, "main.db", now)
			}
		}})
		if err != nil {
			t.Fatalf("written to at call %d: %v", n, err)
		}
		got := contents(t, v.FS)["main.db"]
		want := now
		if calls < n {
			want = old
		}
		if !bytes.Equal(got, want) {
			t.Errorf("written to at call %d: %d bytes that never stood there", n, len(got))
		}
		closeView(t, v)
		if calls < n {
			break
		}
		mid++
	}
	if mid < 2 { // more where the file is copied and not cloned
		t.Errorf("only %d moments were tried", mid)
	}
}
