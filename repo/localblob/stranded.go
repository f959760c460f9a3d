package localblob

import (
	"errors"
	"os"
	"time"
)

var (
	errLocked  = errors.New("localblob: file is locked by a writer")
	errNoLocks = errors.New("localblob: no file locks here")
)

const (
	defaultStrandedAfter = 10 * time.Minute
	// lockFreeAge is how long a temporary file is left alone where no lock can tell whether its writer lives. Taking
	// one from under a living writer makes that write fail; it cannot harm an object.
	lockFreeAge = 24 * time.Hour
)

// removeStranded deletes temporary files of writers that died. A living writer holds a lock on its file. The age bound
// covers the moment between creating a file and locking it, and between unlocking and publishing it. It is best effort:
// a folder that cannot be written must still open for reading.
func (b *bucket) removeStranded(olderThan time.Duration, now time.Time) {
	dir, err := b.ops.openDir(b.root, tempDir)
	if err != nil {
		return
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			b.removeIfStranded(tempDir+"/"+name, olderThan, now)
		}
		if err != nil || len(names) == 0 {
			return
		}
	}
}

func (b *bucket) removeIfStranded(name string, olderThan time.Duration, now time.Time) {
	info, err := b.root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || now.Sub(info.ModTime()) < olderThan {
		return
	}
	f, err := b.root.OpenFile(name, os.O_RDWR|openNonblock, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if err := b.ops.lock(f); err != nil {
		if !errors.Is(err, errNoLocks) || now.Sub(info.ModTime()) < max(olderThan, lockFreeAge) {
			return
		}
	}
	_ = b.ops.remove(b.root, name)
}
