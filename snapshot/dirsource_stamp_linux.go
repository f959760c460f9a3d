package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stampPath looks at a file without following a symbolic link.
func stampPath(path string) (fileStamp, error) {
	s, err := stampAt(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW)
	if lacksStatx(err) {
		return stampStat(os.Lstat(path))
	}
	if err != nil {
		return s, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	return s, nil
}

// stampOpen looks at an open file.
func stampOpen(f *os.File) (fileStamp, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return fileStamp{}, err
	}
	var s fileStamp
	var statErr error
	if err := conn.Control(func(fd uintptr) { s, statErr = stampAt(int(fd), "", unix.AT_EMPTY_PATH) }); err != nil {
		return fileStamp{}, err
	}
	if lacksStatx(statErr) {
		return stampStat(f.Stat())
	}
	if statErr != nil {
		return s, &fs.PathError{Op: "statx", Path: f.Name(), Err: statErr}
	}
	return s, nil
}

// lacksStatx covers kernels before 4.11 and sandboxes that do not know the call.
func lacksStatx(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)
}

func stampAt(dir int, path string, flags int) (fileStamp, error) {
	var st unix.Statx_t
	err := unix.Statx(dir, path, flags|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	for err == unix.EINTR {
		err = unix.Statx(dir, path, flags|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	}
	if err != nil {
		return fileStamp{}, err
	}
	s := fileStamp{
		mode:    linuxMode(uint32(st.Mode)),
		size:    int64(st.Size),
		modTime: statxTime(st.Mtime),
		dev:     unix.Mkdev(st.Dev_major, st.Dev_minor),
		ino:     st.Ino,
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		s.birth = statxTime(st.Btime)
	}
	return s, nil
}

func statxTime(t unix.StatxTimestamp) time.Time {
	return time.Unix(t.Sec, int64(t.Nsec)).UTC()
}

// linuxMode returns the kind and the permissions.
func linuxMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return m
	case unix.S_IFDIR:
		return m | fs.ModeDir
	case unix.S_IFLNK:
		return m | fs.ModeSymlink
	case unix.S_IFIFO:
		return m | fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return m | fs.ModeSocket
	case unix.S_IFBLK:
		return m | fs.ModeDevice
	case unix.S_IFCHR:
		return m | fs.ModeDevice | fs.ModeCharDevice
	}
	return m | fs.ModeIrregular
}

// stampStat makes a stamp without the time of birth.
func stampStat(info fs.FileInfo, err error) (fileStamp, error) {
	s, err := stampInfo(info, err)
	if err != nil {
		return s, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.info = uint64(st.Dev), st.Ino, nil
	}
	return s, nil
}
