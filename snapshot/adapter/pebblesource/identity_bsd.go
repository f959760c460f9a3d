//go:build darwin || freebsd

package pebblesource

import (
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fileIdentity names the inode of an open file and its life. The time of the last
// status change is left out: a hard link changes it.
func fileIdentity(f vfs.File) (string, bool) {
	info, err := f.Stat()
	if err != nil {
		return "", false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", false
	}
	return fmt.Sprintf("size=%d ino=%d mtime=%d.%09d birth=%d.%09d", st.Size, st.Ino,
		st.Mtimespec.Sec, st.Mtimespec.Nsec, st.Birthtimespec.Sec, st.Birthtimespec.Nsec), true
}
