//go:build !linux && !darwin && !freebsd && !netbsd

package snapshot

import (
	"io/fs"
	"os"
)

// Here a file is known by what os.SameFile compares, which is enough to see that it
// was replaced, and not enough to know it again in a later snapshot: files have no
// identity, and all are read.

// stampPath looks at a file without following a symbolic link.
func stampPath(path string) (fileStamp, error) { return stampNow(os.Lstat(path)) }

// stampOpen looks at an open file.
func stampOpen(f *os.File) (fileStamp, error) { return stampNow(f.Stat()) }

// stampNow has os.SameFile look at the file now: Windows puts it off until the first
// comparison, when the path may lead to another one.
func stampNow(info fs.FileInfo, err error) (fileStamp, error) {
	if err == nil {
		os.SameFile(info, info)
	}
	return stampInfo(info, err)
}
