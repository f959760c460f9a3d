package snapshot

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// renameNew renames a folder. Windows never replaces a folder by renaming.
func renameNew(s *site, from, to string) error { return s.parent.Rename(from, to) }

// renameOver removes the empty folder first. A crash in between leaves neither
// the target nor, after Recover, the staging folder.
func renameOver(s *site, from, to string) error {
	if err := s.parent.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.parent.Rename(from, to)
}

// tryLock takes the lock of an open file without waiting.
func tryLock(f *os.File) (bool, error) {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	return err == nil, err
}

// removeBeforeUnlock says that an open file cannot be removed.
const removeBeforeUnlock = false

// syncDir does nothing: Windows has no call to make a folder's entries durable.
func syncDir(*os.File) error { return nil }

// chmodDir does nothing: folders have no permission bits on Windows.
func chmodDir(*os.File, fs.FileMode) error { return nil }

// identify returns what stays the same when a folder is renamed.
func identify(root *os.Root, name string) (identity, error) {
	if _, err := checkFolder(root, name); err != nil {
		return identity{}, err
	}
	f, err := root.Open(name)
	if err != nil {
		return identity{}, err
	}
	defer f.Close()
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info); err != nil {
		return identity{}, err
	}
	return identity{
		Device: uint64(info.VolumeSerialNumber),
		Inode:  uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow),
	}, nil
}

// An owner is who restored files shall belong to. On Windows they inherit it from
// the folder they are made in.
type owner struct{}

func ownerOf(fs.FileInfo) owner { return owner{} }

func (owner) give(*os.File) error { return nil }

func (owner) has(fs.FileInfo) bool { return true }

// freeSpace returns how many bytes this user can still write.
func freeSpace(path string) (int64, bool) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, false
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return 0, false
	}
	return int64(free), true
}

// isMountPoint says no: a folder that is a junction is refused as a symbolic link.
func isMountPoint(string) bool { return false }
