//go:build linux && amd64 && !race

package lock

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// The commands of membarrier(2), from linux/membarrier.h.
const (
	membarrierQuery                    = 0
	membarrierPrivateExpedited         = 1 << 3
	membarrierRegisterPrivateExpedited = 1 << 4
)

// barrierWorks registers the process for barrier and reports whether the
// kernel, or the sandbox around the process, lets it have it.
func barrierWorks() bool {
	commands, errno := membarrier(membarrierQuery)
	if errno != 0 || commands&membarrierPrivateExpedited == 0 {
		return false
	}
	if _, errno := membarrier(membarrierRegisterPrivateExpedited); errno != 0 {
		return false
	}
	_, errno = membarrier(membarrierPrivateExpedited)
	return errno == 0
}

// barrier makes every thread of the process pass a full memory barrier before
// it returns. What a thread stored before that barrier is visible afterwards;
// what it loads after it sees what the caller stored before the call.
func barrier() {
	if _, errno := membarrier(membarrierPrivateExpedited); errno != 0 {
		// It worked when the gate was made: a sandbox has been put up since.
		// Stopping the world, which this call does, makes every thread pass a
		// barrier too, at a much higher price.
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
	}
}

func membarrier(command uintptr) (uintptr, syscall.Errno) {
	r, _, errno := syscall.Syscall(unix.SYS_MEMBARRIER, command, 0, 0)
	return r, errno
}
