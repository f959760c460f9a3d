//go:build unix

package snapshot

import "syscall"

// openNonblock keeps the opening of a pipe that took the place of a file from
// waiting for a writer.
const openNonblock = syscall.O_NONBLOCK
