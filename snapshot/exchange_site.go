package snapshot

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A site is a target and the folder it lies in, which is where everything happens.
// All names are relative to that folder's handle, so that nothing reaches outside,
// whatever is moved or linked meanwhile.
type site struct {
	ops *fileOps
	// path is the parent folder, absolute and without symbolic links; base is the
	// target's name in it.
	path, base string
	parent     *os.Root
	// dir is the parent folder once more, for calls that os.Root lacks.
	dir *os.File
	// lock is the lock file while it is held.
	lock *os.File
}

// maxBaseName leaves room for what is put around a target's name, in bytes.
const maxBaseName = 200

// openSite opens the folder that a target lies in. It changes nothing.
func openSite(to string, ops *fileOps) (*site, error) {
	if to == "" {
		return nil, fmt.Errorf("%w: it is empty: name a folder", ErrTarget)
	}
	abs, err := filepath.Abs(to)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	above, base := filepath.Dir(abs), filepath.Base(abs)
	switch {
	case above == abs:
		return nil, fmt.Errorf("%w: %s is the root of a file system: name a folder in it", ErrTarget, abs)
	case len(base) > maxBaseName:
		return nil, fmt.Errorf("%w: the name of %s has more than %d bytes", ErrTarget, abs, maxBaseName)
	case strings.HasPrefix(base, ".") && strings.Contains(base, ".holdstill-"):
		return nil, fmt.Errorf("%w: %s is a name that restores use themselves", ErrTarget, abs)
	}
	path, err := filepath.EvalSymlinks(above)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the folder %s does not exist: make it first: %w", ErrTarget, above, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	s := &site{ops: ops, path: path, base: base}
	if s.parent, err = os.OpenRoot(path); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	if s.dir, err = s.parent.Open("."); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrTarget, err), s.parent.Close())
	}
	return s, nil
}

func (s *site) join(name string) string { return filepath.Join(s.path, name) }

func (s *site) target() string { return s.join(s.base) }

// acquire takes the lock, or fails with ErrBusy. A lock file that nobody holds is
// taken over.
func (s *site) acquire() error {
	name := "." + s.base + targetLockSuffix
	for range 100 {
		f, err := s.parent.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return fmt.Errorf("%w: take the lock: %w", ErrTarget, err)
		}
		ok, err := tryLock(f)
		if err == nil && !ok {
			err = fmt.Errorf("%w: %s is held", ErrBusy, s.join(name))
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
		// Whoever held it last may have removed it after it was opened here. Then
		// it keeps nobody out.
		mine, err := f.Stat()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		there, err := s.parent.Lstat(name)
		if err == nil && os.SameFile(mine, there) {
			s.lock = f
			return nil
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err == nil && !there.Mode().IsRegular() {
			return fmt.Errorf("%w: %s is a %s, not a lock file", ErrTarget, s.join(name), kindName(there.Mode()))
		}
	}
	return fmt.Errorf("%w: %s changes all the time", ErrBusy, s.join(name))
}

// release removes the lock file and lets go of the lock.
func (s *site) release() error {
	if s.lock == nil {
		return nil
	}
	name := "." + s.base + targetLockSuffix
	// A lock file that cannot be removed, or that somebody else has opened by now,
	// stays. That is harmless: nobody holds it, and the next one takes it over.
	if removeBeforeUnlock {
		_ = s.ops.remove(s.parent, name)
	}
	err := s.lock.Close()
	s.lock = nil
	if !removeBeforeUnlock {
		_ = s.ops.remove(s.parent, name)
	}
	return err
}

// close frees what openSite and acquire took.
func (s *site) close() error {
	return errors.Join(s.release(), s.dir.Close(), s.parent.Close())
}

// makeStaging makes a staging folder for this user alone and opens it.
func (s *site) makeStaging() (name string, root *os.Root, err error) {
	var random [stagingDigits / 2]byte
	_, _ = rand.Read(random[:])
	name = "." + s.base + stagingInfix + hex.EncodeToString(random[:])
	if err := s.ops.mkdir(s.parent, name); err != nil {
		return "", nil, err
	}
	// What was made and what is opened must be the same: a link put in its place
	// would lead the restored files elsewhere.
	made, err := checkFolder(s.parent, name)
	if err == nil {
		root, err = s.parent.OpenRoot(name)
	}
	if err != nil {
		return "", nil, errors.Join(err, s.ops.removeAll(s.parent, name))
	}
	opened, err := root.Stat(".")
	if err == nil && !os.SameFile(made, opened) {
		err = fmt.Errorf("%w: %s was replaced by something else", ErrTarget, s.join(name))
	}
	if err != nil {
		return "", nil, errors.Join(err, root.Close(), s.ops.removeAll(s.parent, name))
	}
	return name, root, nil
}

// removeStranded removes the staging folders that crashed restores left, and says
// whether there were any. The caller holds the lock and has settled the journal.
func (s *site) removeStranded() (bool, error) {
	names, err := s.leftovers()
	if err != nil {
		return false, err
	}
	found := false
	for _, name := range names {
		switch {
		case isStaging(name, s.base):
			found = true
			err = s.ops.removeAll(s.parent, name)
		case name == "."+s.base+journalSuffix+tempSuffix:
			err = s.ops.remove(s.parent, name)
		default:
			continue
		}
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// leftovers lists what restores of this target have put beside it, but for
// failsafes.
func (s *site) leftovers() ([]string, error) {
	d, err := s.parent.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	found := names[:0]
	for _, name := range names {
		switch name {
		case "." + s.base + targetLockSuffix, "." + s.base + journalSuffix, "." + s.base + journalSuffix + tempSuffix:
			found = append(found, name)
		default:
			if isStaging(name, s.base) {
				found = append(found, name)
			}
		}
	}
	return found, nil
}

// previousName returns a name for a failsafe that nothing has, and that tells that it is newer
// than all of the same second: older ones may have been removed from among them.
func (s *site) previousName(now time.Time) (string, error) {
	all, err := s.failsafes()
	if err != nil {
		return "", err
	}
	stamp := now.UTC().Format(previousStamp)
	last := 0
	for _, f := range all {
		if f.at.Format(previousStamp) == stamp {
			last = max(last, f.nth)
		}
	}
	name := s.base + previousInfix + stamp
	for nth := last + 1; nth <= last+1000; nth++ {
		try := name
		if nth > 1 {
			try = fmt.Sprintf("%s-%d", name, nth)
		}
		_, err := s.parent.Lstat(try)
		if errors.Is(err, fs.ErrNotExist) {
			return try, nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%w: every name for the failsafe up to %s-%d is taken", ErrTarget, s.join(name), last+1000)
}
