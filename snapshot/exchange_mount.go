//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package snapshot

import (
	"os"
	"path/filepath"
	"syscall"
)

// isMountPoint says whether a folder lies on another device than its parent.
func isMountPoint(path string) bool {
	here, err := os.Lstat(path)
	if err != nil {
		return false
	}
	above, err := os.Lstat(filepath.Dir(path))
	if err != nil {
		return false
	}
	a, ok := here.Sys().(*syscall.Stat_t)
	b, ok2 := above.Sys().(*syscall.Stat_t)
	return ok && ok2 && a.Dev != b.Dev
}
