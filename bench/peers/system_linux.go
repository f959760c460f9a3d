package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// statIdentity names the content of a file by what changes when it is written to,
// or is "" if the file cannot be looked at.
func statIdentity(path string) string {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return ""
	}
	return fmt.Sprintf("dev=%x ino=%d size=%d mtime=%d.%09d ctime=%d.%09d",
		st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
}

// peakOf returns what the kernel reports as the most memory that an ended process
// had, in bytes.
func peakOf(state *os.ProcessState) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return int64(usage.Maxrss) << 10
}

// peakNow returns the most memory that a process has had since it became the
// program that it is, in bytes. It is 0 for a process that has ended.
func peakNow(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return parsePeak(string(status))
}

// parsePeak finds the peak in a status file of /proc.
func parsePeak(status string) int64 {
	_, peak, found := strings.Cut(status, "\nVmHWM:")
	if !found {
		return 0
	}
	var kib int64
	if _, err := fmt.Sscanf(peak, "%d kB", &kib); err != nil {
		return 0
	}
	return kib << 10
}

// inode tells files apart that have several names.
func inode(info os.FileInfo) (id [2]uint64, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return id, false
	}
	return [2]uint64{uint64(st.Dev), st.Ino}, true
}
