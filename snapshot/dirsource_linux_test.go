package snapshot

import (
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Links do not reach over a mount point.
func TestDefaultScratchOfMountPoint(t *testing.T) {
	if got, want := defaultScratch("/proc"), "/proc/.holdstill-pins"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Both ways to look at a file say the same, except for its birth.
func TestStampWithoutStatx(t *testing.T) {
	_, path := newSealedDir(t)
	want, err := stampPath(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := stampStat(os.Lstat(path))
	if err != nil {
		t.Fatal(err)
	}
	want.birth = got.birth
	if !got.known() || !got.same(want) || got.mode != want.mode {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !lacksStatx(unix.ENOSYS) || lacksStatx(unix.ENOENT) {
		t.Error("the wrong errors mean that there is no statx")
	}
}

func TestLinuxMode(t *testing.T) {
	for mode, want := range map[uint32]fs.FileMode{
		unix.S_IFREG | 0o4755: 0o755,
		unix.S_IFDIR | 0o1777: fs.ModeDir | 0o777,
		unix.S_IFLNK | 0o777:  fs.ModeSymlink | 0o777,
		unix.S_IFIFO | 0o600:  fs.ModeNamedPipe | 0o600,
		unix.S_IFSOCK:         fs.ModeSocket,
		unix.S_IFBLK | 0o660:  fs.ModeDevice | 0o660,
		unix.S_IFCHR | 0o666:  fs.ModeDevice | fs.ModeCharDevice | 0o666,
		0o644:                 fs.ModeIrregular | 0o644,
	} {
		if got := linuxMode(mode); got != want {
			t.Errorf("%o: got %v, want %v", mode, got, want)
		}
	}
}
