package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// newSealedDir returns a source of one Immutable file.
func newSealedDir(t *testing.T) (*DirSource, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "1.sst")
	if err := os.WriteFile(path, noise(1, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Dir(dir, DirOptions{Hint: func(string) Hint { return Hint{Class: Immutable} }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, ErrSourceClosed) {
			t.Error(err)
		}
	})
	return s, path
}

// Links that no Pin takes must not keep space for ever.
func TestDirPreparedLinksExpire(t *testing.T) {
	s, path := newSealedDir(t)
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := s.ready[0]
	s.expire(p)
	if _, err := os.Stat(p.folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the links are still there: %v", err)
	}
	s.expire(p) // the timer ran when the pin was gone already
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	p = s.ready[0]
	v, err := s.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.expire(p) // the timer ran when Pin had it already
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := fs.ReadFile(v.FS, "1.sst"); err != nil || len(got) != 5000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if s.uses != 0 {
		t.Errorf("%d uses are left", s.uses)
	}
}

// A hook that panics leaves nothing behind, and does not block the next Pin.
func TestDirPanic(t *testing.T) {
	s, _ := newSealedDir(t)
	hint := s.opts.Hint
	s.opts.Hint = func(string) Hint { panic("a bug of the caller's") }
	for _, call := range []func(){
		func() { _, _ = s.Pin(t.Context()) },
		func() { _ = s.Prepare(t.Context()) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			call()
		}()
	}
	if s.uses != 0 {
		t.Errorf("%d uses are left", s.uses)
	}
	s.opts.Hint = hint
	v, err := s.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

func TestDirIdentity(t *testing.T) {
	_, path := newSealedDir(t)
	first, err := stampPath(path)
	if err != nil {
		t.Fatal(err)
	}
	if !first.known() {
		if first.identity() != "" {
			t.Errorf("an identity without an inode: %q", first.identity())
		}
		return
	}
	if n := len(first.identity()); n < 20 || n > maxIdentityLength {
		t.Errorf("identity of %d bytes: %q", n, first.identity())
	}
	if err := os.Link(path, path+".link"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + ".link"} {
		if s, err := stampPath(name); err != nil || s.identity() != first.identity() || !s.same(first) {
			t.Errorf("a link changed the identity: %q, then %q, %v", first.identity(), s.identity(), err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s, err := stampOpen(f); err != nil || !s.same(first) {
		t.Errorf("open it is another: %+v, %v", s, err)
	}
	// Further off than the file system counts.
	later := first.modTime.Add(time.Hour)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	if s, err := stampPath(path); err != nil || s.identity() == first.identity() || s.same(first) {
		t.Errorf("touched it is the same: %q, %v", s.identity(), err)
	}
	touched := first
	touched.modTime = touched.modTime.Add(time.Nanosecond)
	if touched.identity() == first.identity() || touched.same(first) {
		t.Errorf("touched a nanosecond later it is the same: %q", touched.identity())
	}
	// An inode that is used again.
	again := first
	again.birth = again.birth.Add(time.Nanosecond)
	if again.identity() == first.identity() || again.same(first) {
		t.Errorf("born again it is the same: %q", again.identity())
	}
}

func TestDefaultScratch(t *testing.T) {
	dir := t.TempDir()
	if got, want := defaultScratch(filepath.Join(dir, "data")), filepath.Join(dir, "data", ".holdstill-pins"); got == want {
		t.Errorf("scratch of a folder on the file system of its parent: %s", got)
	}
	root := filepath.VolumeName(dir) + string(filepath.Separator)
	if got, want := defaultScratch(root), filepath.Join(root, ".holdstill-pins"); got != want {
		t.Errorf("scratch of the root: %s, want %s", got, want)
	}
}

// A lock that was removed, or made anew, between being opened and being locked
// protects nothing.
func TestScratchLockStands(t *testing.T) {
	s, err := claimScratch(t.TempDir())
	if err != nil || s == nil {
		t.Fatal(s, err)
	}
	if !s.stands() {
		t.Error("a new lock does not stand")
	}
	if err := os.Remove(s.own + scratchLock); err != nil {
		t.Fatal(err)
	}
	if s.stands() {
		t.Error("a lock stands that is gone")
	}
	if err := os.WriteFile(s.own+scratchLock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s.stands() {
		t.Error("a lock stands in whose place is another")
	}
	if err := s.remove(); err != nil {
		t.Error(err)
	}
}
