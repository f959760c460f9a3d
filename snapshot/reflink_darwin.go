package snapshot

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// cloneFile makes a new file that shares the blocks of src, as APFS can. When it
// fails there is no new file.
func cloneFile(src *os.File, to string) error {
	return unix.Fclonefileat(int(src.Fd()), unix.AT_FDCWD, to, 0)
}

// cloneBlocks fails: APFS shares whole files only.
func cloneBlocks(_, _ *os.File, _ stretch) (stretch, error) {
	return stretch{}, errors.ErrUnsupported
}

// cloneUnsupported says whether an error of cloneFile holds for the whole file
// system.
func cloneUnsupported(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOSYS)
}

// nextData returns off: holes are copied as zeros here.
func nextData(_ *os.File, off int64) int64 { return off }
