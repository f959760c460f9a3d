//go:build darwin || freebsd || netbsd

package snapshot

import (
	"io/fs"
	"os"
	"syscall"
	"time"
)

// stampPath looks at a file without following a symbolic link.
func stampPath(path string) (fileStamp, error) { return stampStat(os.Lstat(path)) }

// stampOpen looks at an open file.
func stampOpen(f *os.File) (fileStamp, error) { return stampStat(f.Stat()) }

func stampStat(info fs.FileInfo, err error) (fileStamp, error) {
	s, err := stampInfo(info, err)
	if err != nil {
		return s, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.info = uint64(st.Dev), uint64(st.Ino), nil
		if b := st.Birthtimespec; b.Sec > 0 {
			s.birth = time.Unix(b.Unix()).UTC()
		}
	}
	return s, nil
}
