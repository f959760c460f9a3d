package bench

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// threadTime runs f on a thread of its own and returns the processor time that the
// thread took: what others do on the machine at the same time hardly matters.
func threadTime(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := threadClock()
	f()
	return threadClock() - start
}

func threadClock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // Linux has had this clock since 2.6.12
	}
	return time.Duration(t.Nano())
}
