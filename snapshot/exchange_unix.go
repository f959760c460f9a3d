//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// renameOver is rename(2), which lets a folder take the place of an empty one.
// os.Rename refuses that.
func renameOver(s *site, from, to string) error {
	fd := int(s.dir.Fd())
	return linkError("rename", s, from, to, unix.Renameat(fd, from, fd, to))
}

func linkError(op string, s *site, from, to string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: filepath.Join(s.path, from), New: filepath.Join(s.path, to), Err: err}
}

// tryLock takes the lock of an open file without waiting.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// removeBeforeUnlock says that an open file can be removed.
const removeBeforeUnlock = true

func syncDir(d *os.File) error { return d.Sync() }

func chmodDir(d *os.File, perm fs.FileMode) error { return d.Chmod(perm) }

// identify returns what stays the same when a folder is renamed.
func identify(root *os.Root, name string) (identity, error) {
	info, err := checkFolder(root, name)
	if err != nil {
		return identity{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}, errors.ErrUnsupported
	}
	return identity{Device: uint64(st.Dev), Inode: uint64(st.Ino)}, nil
}

// An owner is who restored files shall belong to. The zero owner changes nothing.
type owner struct {
	set      bool
	uid, gid int
}

// ownerOf returns the owner of what stands at the target already, for a caller
// who may give files away: a restore by root must not lock the database out.
func ownerOf(info fs.FileInfo) owner {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return owner{}
	}
	return owner{set: true, uid: int(st.Uid), gid: int(st.Gid)}
}

func (o owner) give(f *os.File) error {
	if !o.set {
		return nil
	}
	return f.Chown(o.uid, o.gid)
}

// has says whether a file belongs to whom a restored file would.
func (o owner) has(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return false
	case o.set:
		return int(st.Uid) == o.uid && int(st.Gid) == o.gid
	}
	return int(st.Uid) == os.Geteuid()
}
