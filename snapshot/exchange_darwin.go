package snapshot

import (
	"errors"

	"golang.org/x/sys/unix"
)

// exchange swaps two names with renameatx_np(2).
func exchange(s *site, a, b string) error { return renameatx(s, a, b, unix.RENAME_SWAP) }

// renameNew renames without replacing anything. A file system without that flag
// gets a plain rename, which can replace nothing but an empty folder.
func renameNew(s *site, from, to string) error {
	err := renameatx(s, from, to, unix.RENAME_EXCL)
	if errors.Is(err, errors.ErrUnsupported) {
		return renameOver(s, from, to)
	}
	return err
}

func renameatx(s *site, from, to string, flags uint32) error {
	fd := int(s.dir.Fd())
	err := linkError("renameatx_np", s, from, to, unix.RenameatxNp(fd, from, fd, to, flags))
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EINVAL) {
		return errors.Join(errors.ErrUnsupported, err)
	}
	return err
}
