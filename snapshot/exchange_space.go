//go:build darwin || freebsd || linux

package snapshot

import "golang.org/x/sys/unix"

// freeSpace returns how many bytes this user can still write, and whether the
// file system can tell.
func freeSpace(path string) (int64, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil || st.Blocks == 0 {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
