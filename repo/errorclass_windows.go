package repo

import (
	"errors"

	"golang.org/x/sys/windows"
)

// isDiskFull knows the codes that Windows has for what others call ENOSPC.
func isDiskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}
