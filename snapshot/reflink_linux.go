package snapshot

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// cloneFile makes a new file that shares the blocks of src, with FICLONE. When it
// fails there is no new file.
func cloneFile(src *os.File, to string) error {
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = retry(func() error { return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) })
	err = errors.Join(err, dst.Close())
	if err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// cloneBlocks has dst share those blocks of src that lie in a stretch as a whole, at the
// same place, with FICLONERANGE. It returns where they begin and end; there may be none.
func cloneBlocks(dst, src *os.File, s stretch) (stretch, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(dst.Fd()), &st) }); err != nil {
		return stretch{}, err
	}
	block := int64(st.Bsize)
	if block < 1 {
		return stretch{}, errors.ErrUnsupported
	}
	whole := stretch{(s.start + block - 1) / block * block, s.end / block * block}
	if whole.start >= whole.end {
		return stretch{}, nil
	}
	arg := unix.FileCloneRange{
		Src_fd:      int64(src.Fd()),
		Src_offset:  uint64(whole.start),
		Src_length:  uint64(whole.end - whole.start),
		Dest_offset: uint64(whole.start),
	}
	err := retry(func() error { return unix.IoctlFileCloneRange(int(dst.Fd()), &arg) })
	return whole, err
}

// cloneUnsupported says whether an error of cloneFile holds for the whole file
// system: ENOTTY and ENOSYS come from those that have never heard of the call.
func cloneUnsupported(err error) bool {
	for _, e := range []unix.Errno{unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS, unix.EXDEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.Is(err, errors.ErrUnsupported)
}

// nextData returns where the next data at or after off begins, or off if the file
// system cannot tell.
func nextData(f *os.File, off int64) int64 {
	next, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case err == nil:
		return next
	case errors.Is(err, unix.ENXIO):
		return math.MaxInt64 // a hole up to the end
	}
	return off
}
