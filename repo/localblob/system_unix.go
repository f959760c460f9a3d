//go:build unix

package localblob

import (
	"errors"
	"os"
	"syscall"
)

// openNonblock keeps an open from waiting for the other end of a FIFO that somebody put into the folder. It has no
// effect on regular files.
const openNonblock = syscall.O_NONBLOCK

// syncDir makes the entries of a folder durable.
func syncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

func isOutOfSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// inodeOf tells apart two files that follow each other under one name within the same tick of the clock.
func inodeOf(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}
