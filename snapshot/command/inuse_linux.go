package command

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// inUse returns an error if a process holds a lock on a file below dir, as databases do while they
// are open. It opens none of the files, since that could make a process drop its own locks. What
// the kernel does not show, such as locks in other containers or on other machines, is not seen.
func inUse(dir string) error {
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return nil // no /proc: nothing is known
	}
	defer locks.Close()
	holders := map[string]string{}
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		// 1: POSIX  ADVISORY  WRITE 24021 fe:00:13143151 0 EOF; those that wait have "->" behind the number.
		f := strings.Fields(lines.Text())
		if len(f) == 8 && (f[1] == "POSIX" || f[1] == "FLOCK" || f[1] == "OFDLCK") {
			holders[f[5]] = f[4]
		}
	}
	if len(holders) == 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what cannot be read is the restore's to report
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		pid, held := holders[fmt.Sprintf("%02x:%02x:%d", unix.Major(s.Dev), unix.Minor(s.Dev), s.Ino)]
		if !held {
			return nil
		}
		by := "process " + pid
		if pid == "-1" || pid == "0" {
			by = "a process"
		}
		return fmt.Errorf("the database in %s is open: %s holds a lock on %s: stop the server first, or give -force", dir, by, path)
	})
}
