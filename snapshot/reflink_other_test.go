//go:build !linux

package snapshot

import "syscall"

// unsupportedClones are errors that speak for a whole file system.
var unsupportedClones = []error{syscall.ENOTSUP}
