package snapshot

import (
	"fmt"
	"io/fs"
	"os"
	"time"
)

// fileStamp tells a file, and a state of it, from others. The time of the last
// status change is left out: making a hard link changes it.
type fileStamp struct {
	mode    fs.FileMode
	size    int64
	modTime time.Time
	// dev and ino are the device and the inode, where the system has them.
	dev, ino uint64
	// birth is the zero time where the file system does not keep it.
	birth time.Time
	// info stands for dev and ino where the system does not have them.
	info fs.FileInfo
}

// known says whether dev and ino are set.
func (a fileStamp) known() bool { return a.info == nil }

// same says whether two stamps are of one file that was not written to in between.
func (a fileStamp) same(b fileStamp) bool {
	if a.mode.Type() != b.mode.Type() || a.size != b.size || !a.modTime.Equal(b.modTime) {
		return false
	}
	return a.sameFile(b)
}

// sameFile says whether two stamps are of one file or folder.
func (a fileStamp) sameFile(b fileStamp) bool {
	if !a.known() || !b.known() {
		return !a.known() && !b.known() && os.SameFile(a.info, b.info)
	}
	return a.dev == b.dev && a.ino == b.ino && a.birth.Equal(b.birth)
}

// identity returns a name for the file's content, good for as long as nobody writes
// to it, or "" where the system does not tell enough. Without a time of birth an
// inode that is used again, with the size and the time of the old file put on, would
// be taken for it.
func (a fileStamp) identity() string {
	if !a.known() {
		return ""
	}
	birth := "-"
	if !a.birth.IsZero() {
		birth = fmt.Sprintf("%d.%09d", a.birth.Unix(), a.birth.Nanosecond())
	}
	return fmt.Sprintf("dev=%x ino=%d size=%d mtime=%d.%09d birth=%s",
		a.dev, a.ino, a.size, a.modTime.Unix(), a.modTime.Nanosecond(), birth)
}

// life returns a name for the file however it grows, or "" where the system does not tell
// enough: without a time of birth an inode that is used again would be taken for it.
func (a fileStamp) life() string {
	if !a.known() || a.birth.IsZero() {
		return ""
	}
	return fmt.Sprintf("log dev=%x ino=%d birth=%d.%09d", a.dev, a.ino, a.birth.Unix(), a.birth.Nanosecond())
}

// stampInfo makes a stamp of what every system tells.
func stampInfo(info fs.FileInfo, err error) (fileStamp, error) {
	if err != nil {
		return fileStamp{}, err
	}
	return fileStamp{mode: info.Mode(), size: info.Size(), modTime: info.ModTime().UTC(), info: info}, nil
}
