//go:build !linux

package bench

import "time"

// threadTime returns how long f took. Other work on the machine is in the figure.
func threadTime(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
