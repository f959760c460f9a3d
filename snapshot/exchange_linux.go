package snapshot

import (
	"errors"

	"golang.org/x/sys/unix"
)

// exchange swaps two names with renameat2(2).
func exchange(s *site, a, b string) error {
	return unsupported(renameat2(s, a, b, unix.RENAME_EXCHANGE))
}

// renameNew renames with renameat2(2), so that it cannot replace anything. Where
// that cannot be had, a plain rename of a folder can still replace nothing but an
// empty folder.
func renameNew(s *site, from, to string) error {
	err := unsupported(renameat2(s, from, to, unix.RENAME_NOREPLACE))
	if errors.Is(err, errors.ErrUnsupported) {
		return renameOver(s, from, to)
	}
	return err
}

func renameat2(s *site, from, to string, flags uint) error {
	fd := int(s.dir.Fd())
	return linkError("renameat2", s, from, to, unix.Renameat2(fd, from, fd, to, flags))
}

// unsupported marks the errors that say that the kernel or the file system lacks
// a flag of renameat2: file systems answer EINVAL, old kernels ENOSYS.
func unsupported(err error) error {
	for _, e := range []unix.Errno{unix.EINVAL, unix.ENOSYS, unix.ENOTSUP} {
		if errors.Is(err, e) {
			return errors.Join(errors.ErrUnsupported, err)
		}
	}
	return err
}

// isMountPoint says whether something is mounted at a path. Where the kernel
// cannot tell (before 5.8) it says no, and a rename will fail with EBUSY.
func isMountPoint(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	return err == nil && st.Attributes&st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0
}
