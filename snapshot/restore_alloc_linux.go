package snapshot

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate sets blocks aside for n bytes of a file, which are zeros afterwards. When it
// fails they are a hole, or as they were.
//
// It fails with errors.ErrUnsupported on btrfs, which would never compress what is written
// to them.
func allocate(f *os.File, at, n int64) error {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(f.Fd()), &st) }); err != nil {
		return err
	}
	if uint32(st.Type) == unix.BTRFS_SUPER_MAGIC {
		return errors.ErrUnsupported
	}
	// First, since what cannot be given back must not be set aside.
	if err := punch(f, at, n); err != nil {
		return err
	}
	err := fallocate(f, unix.FALLOC_FL_KEEP_SIZE, at, n)
	if err != nil {
		// A part of it may have been set aside.
		return errors.Join(err, punch(f, at, n))
	}
	return nil
}

// punch makes n bytes of a file a hole.
func punch(f *os.File, at, n int64) error {
	return fallocate(f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
}

func fallocate(f *os.File, mode uint32, at, n int64) error {
	err := retry(func() error { return unix.Fallocate(int(f.Fd()), mode, at, n) })
	if err != nil {
		return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return nil
}

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
