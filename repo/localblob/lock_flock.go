//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package localblob

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock takes an exclusive lock that ends with the process. It returns errLocked if another open file holds it, and
// errNoLocks where the file system has none.
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
	if err != nil {
		return err
	}
	switch {
	case lockErr == nil:
		return nil
	case errors.Is(lockErr, unix.EWOULDBLOCK):
		return errLocked
	case errors.Is(lockErr, unix.ENOTSUP), errors.Is(lockErr, unix.ENOLCK), errors.Is(lockErr, unix.ENOSYS):
		return errNoLocks
	}
	return lockErr
}
