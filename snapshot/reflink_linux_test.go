package snapshot

import "golang.org/x/sys/unix"

// unsupportedClones are errors that speak for a whole file system.
var unsupportedClones = []error{unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS, unix.EXDEV}
