//go:build !unix

package localblob

import (
	"errors"
	"os"
	"syscall"
)

const openNonblock = 0

// syncDir does nothing: Windows offers no flush of a folder. NTFS journals the entries, in order, by itself.
func syncDir(*os.Root, string) error { return nil }

func isOutOfSpace(err error) bool {
	const (
		errorHandleDiskFull = syscall.Errno(39)
		errorDiskFull       = syscall.Errno(112)
	)
	return errors.Is(err, errorDiskFull) || errors.Is(err, errorHandleDiskFull)
}

func inodeOf(os.FileInfo) uint64 { return 0 }
