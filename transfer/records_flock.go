//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package transfer

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock takes an exclusive lock that ends with the process, or fails with
// ErrJobsInUse. A file system without locks lets everybody in.
func tryLock(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var lockErr error
	err = conn.Control(func(fd uintptr) {
		lockErr = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
		for lockErr == unix.EINTR {
			lockErr = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
		}
	})
	switch {
	case err != nil:
		return err
	case errors.Is(lockErr, unix.ENOTSUP), errors.Is(lockErr, unix.ENOLCK), errors.Is(lockErr, unix.ENOSYS):
		return nil
	case errors.Is(lockErr, unix.EWOULDBLOCK):
		return ErrJobsInUse
	}
	return lockErr
}

// syncFolder makes the entries of a folder durable.
func syncFolder(dir *os.File) error { return dir.Sync() }
