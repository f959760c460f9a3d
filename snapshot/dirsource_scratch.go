package snapshot

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// dirScratch is the part of a Scratch folder that belongs to one source:
//
//	<Scratch>/<id>.lock    locked by the source for as long as it lives
//	<Scratch>/<id>/pin*/   links and copies of one pin each, numbered
//
// The lock is there before the folder and goes after it, so that whoever gets the
// lock of another knows that the folder is garbage. The kernel ends the lock of a
// dead process, also of one on a machine that started again.
type dirScratch struct {
	own  string
	lock *os.File
	// shared is the Scratch folder itself.
	shared fileStamp
}

const (
	// scratchPrefix keeps us from ever touching anything else in the folder.
	scratchPrefix = "source-"
	scratchLock   = ".lock"
)

// defaultScratch returns a folder on the file system of root.
func defaultScratch(root string) string {
	parent, name := filepath.Dir(root), filepath.Base(root)
	inside := filepath.Join(root, ".holdstill-pins")
	if parent == root {
		return inside
	}
	above, err := stampPath(parent)
	if err != nil {
		return inside
	}
	here, err := stampPath(root)
	if err == nil && here.known() && here.dev != above.dev {
		return inside
	}
	return filepath.Join(parent, "."+name+".holdstill-pins")
}

// openScratch makes the folder if need be, removes what dead sources left in it, and
// takes a part of it.
func openScratch(dir, root string) (*dirScratch, error) {
	fail := func(err error) (*dirScratch, error) {
		return nil, fmt.Errorf("%w: scratch folder: %w; choose another with DirOptions.Scratch", ErrConfig, err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return fail(err)
	}
	shared, err := stampPath(dir)
	if err != nil {
		return fail(err)
	}
	if source, err := stampPath(root); err != nil {
		return fail(err)
	} else if source.sameFile(shared) {
		return fail(fmt.Errorf("%s is the source itself", dir))
	}
	if err := removeDead(dir); err != nil {
		return fail(err)
	}
	// Only a cleaner that has hit upon the new lock at this moment makes it try again.
	const attempts = 100
	for range attempts {
		s, err := claimScratch(dir)
		if err != nil {
			return fail(err)
		}
		if s != nil {
			s.shared = shared
			return s, nil
		}
	}
	return fail(fmt.Errorf("%s: another process removes every new lock", dir))
}

// claimScratch makes a lock and a folder with a new name. It returns nil if a
// cleaner took the lock first.
func claimScratch(dir string) (_ *dirScratch, err error) {
	own := filepath.Join(dir, scratchPrefix+strings.ToLower(rand.Text()))
	lock, err := os.OpenFile(own+scratchLock, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	s := &dirScratch{own: own, lock: lock}
	if locked, lockErr := lockFile(lock); lockErr == nil && !locked || !s.stands() {
		return nil, lock.Close()
	}
	// Where there are no locks nobody gets one, and so nobody removes the folder.
	if err := os.Mkdir(own, 0o700); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// lockFile is tryLock, not interrupted.
func lockFile(f *os.File) (bool, error) {
	for {
		locked, err := tryLock(f)
		if !errors.Is(err, syscall.EINTR) {
			return locked, err
		}
	}
}

// stands says whether the locked file is still the one under its name: a cleaner may
// have removed it before it was locked.
func (s *dirScratch) stands() bool {
	open, err := s.lock.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(s.own + scratchLock)
	return err == nil && os.SameFile(open, named)
}

// remove removes the folder and the lock.
func (s *dirScratch) remove() error {
	if err := os.RemoveAll(s.own); err != nil {
		// With the lock still there the next source tries again.
		return errors.Join(err, s.lock.Close())
	}
	if removeBeforeUnlock {
		return errors.Join(ignoreMissing(os.Remove(s.own+scratchLock)), s.lock.Close())
	}
	// Where an open file cannot be removed, one that is in use again stays.
	return errors.Join(s.lock.Close(), ignoreMissing(os.Remove(s.own+scratchLock)))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeDead removes what sources left whose process died. What cannot be locked or
// removed is left to the next source.
func removeDead(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, scratchPrefix) {
			continue
		}
		own, isLock := strings.CutSuffix(filepath.Join(dir, name), scratchLock)
		switch {
		case isLock && e.Type().IsRegular():
			removeIfDead(own)
		case !isLock && e.IsDir():
			// Names do not repeat and the lock outlives the folder: a folder that was
			// seen and now has no lock is nobody's.
			if _, err := os.Lstat(own + scratchLock); errors.Is(err, fs.ErrNotExist) {
				_ = os.RemoveAll(own)
			}
		}
	}
	return nil
}

func removeIfDead(own string) {
	lock, err := os.OpenFile(own+scratchLock, os.O_RDWR|openNonblock, 0)
	if err != nil {
		return
	}
	s := &dirScratch{own: own, lock: lock}
	if locked, err := lockFile(lock); err != nil || !locked || !s.stands() {
		lock.Close()
		return
	}
	_ = s.remove()
}
