package pebblesource

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// fileIdentity names the inode of an open file and its life. The time of the last
// status change is left out: a hard link changes it. So is the device, whose
// number may change when the machine starts again. A file system that does not
// keep the time of birth gives a weaker name.
func fileIdentity(f vfs.File) (string, bool) {
	fd := f.Fd()
	if fd == vfs.InvalidFd {
		return "", false
	}
	var st unix.Statx_t
	const want = unix.STATX_INO | unix.STATX_SIZE | unix.STATX_MTIME
	err := unix.Statx(int(fd), "", unix.AT_EMPTY_PATH, want|unix.STATX_BTIME, &st)
	if err != nil || st.Mask&want != want {
		return "", false
	}
	birth := "-"
	if st.Mask&unix.STATX_BTIME != 0 {
		birth = fmt.Sprintf("%d.%09d", st.Btime.Sec, st.Btime.Nsec)
	}
	return fmt.Sprintf("size=%d ino=%d mtime=%d.%09d birth=%s",
		st.Size, st.Ino, st.Mtime.Sec, st.Mtime.Nsec, birth), true
}
