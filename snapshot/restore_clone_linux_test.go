package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// onSharing has the temporary folders of a test lie on a file system that shares blocks,
// and says whether they do. Without mkfs.xfs, or the right to mount, they stay where they
// are: what does not depend on sharing is tested all the same.
func onSharing(t *testing.T) bool {
	t.Helper()
	// Not t.TempDir, whose first call settles where all of a test's folders are.
	base, err := os.MkdirTemp("", "sharing")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	image, dir := filepath.Join(base, "image"), filepath.Join(base, "files")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := mountXFS(t, image, dir); err != nil {
		t.Logf("no XFS here: %v", err)
	}
	t.Setenv("TMPDIR", dir)
	// Asked without the code under test.
	probe := filepath.Join(dir, "probe")
	if err := os.WriteFile(probe, tableRows(1, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	shares := exec.Command("cp", "--reflink=always", probe, probe+"2").Run() == nil
	if err := errors.Join(os.Remove(probe), os.RemoveAll(probe+"2")); err != nil {
		t.Fatal(err)
	}
	return shares
}

// onOwnFileSystem says whether onSharing has made a file system, for which it has mounted
// the temporary folder.
func onOwnFileSystem() bool { return isMountPoint(os.TempDir()) }

// mountXFS mounts a new file system, kept in image, at dir for the time of a test.
func mountXFS(t *testing.T, image, dir string) error {
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The smallest that mkfs.xfs makes has 300 MiB.
	if err := os.Truncate(image, 320<<20); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.xfs", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	t.Cleanup(func() {
		// A child that another test has just started may hold a file of it open for a moment.
		if out, err := exec.Command("umount", "--lazy", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return nil
}

// All that holds for a delta restore holds where blocks are shared.
func TestReuseOnSharing(t *testing.T) {
	onSharing(t)
	t.Run("reuses", TestRestoreReuses)
	t.Run("own", TestReusedFilesAreOnesOwn)
	t.Run("over anything", TestRestoreOverAnything)
	t.Run("failures", TestReuseFailsAtEveryChange)
	t.Run("zeros", TestRestoreLeavesOutZeros)
}

// sharedBytes returns how many bytes of a file share their blocks with another one.
func sharedBytes(t *testing.T, path string) (shared int64) {
	t.Helper()
	const (
		fiemap     = 0xc020660b // FS_IOC_FIEMAP
		flagSync   = 0x1
		flagLast   = 0x1
		flagShared = 0x2000
	)
	type extent struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for next, last := uint64(0), false; !last; {
		arg := struct {
			start, length               uint64
			flags, mapped, count, spare uint32
			extents                     [128]extent
		}{start: next, length: ^uint64(0) - next, flags: flagSync, count: 128}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemap, uintptr(unsafe.Pointer(&arg))); errno != 0 {
			t.Fatal(errno)
		}
		last = arg.mapped == 0
		for _, e := range arg.extents[:arg.mapped] {
			if e.flags&flagShared != 0 {
				shared += int64(e.length)
			}
			next, last = e.logical+e.length, e.flags&flagLast != 0
		}
	}
	return shared
}

// A file of pages of which one in twenty differs shares all the others with what stood
// there; only those that differ are written. It stays so if chunks, and what is planned
// for at once, end anywhere in a block.
func TestRestoreSharesBlocks(t *testing.T) {
	shares := onSharing(t)
	const size = 12<<20 + 777
	data := tableRows(1, size)
	for _, tt := range []struct {
		chunk  int
		limits batchLimits
		cut    int // what stands there ends so much earlier, or later
	}{
		{chunk: 64 << 10},
		{chunk: 64 << 10, cut: 100_000},
		{chunk: 64 << 10, cut: -100_000},
		{chunk: 50_001},
		{chunk: 50_001, limits: batchLimits{bytes: 3_000_001, files: 10, chunks: 1000}},
		{chunk: 1 << 20},
	} {
		t.Run(fmt.Sprintf("%+v", tt), func(t *testing.T) {
			r := newRepository(t)
			m := storeChunked(t, r, "s", data, tt.chunk)
			old := append(bytes.Clone(data), tableRows(2, 200_000)...)[:size-tt.cut]
			changed := 0 // chunks
			for at := 0; at < len(old); at += 20 * tt.chunk {
				copy(old[at:], "another row")
				changed++
			}
			if tt.cut > 0 {
				changed += (size+tt.chunk-1)/tt.chunk - len(old)/tt.chunk
			}
			to := filepath.Join(tempDir(t), "db")
			writeTree(t, to, map[string]string{"data": string(old)})
			var writes atomic.Int64
			result, err := (&restorer{repo: r, manifest: m, limits: tt.limits,
				opts: RestoreOptions{To: to, Source: "kv", InPlace: true, Workers: 3},
				ops: &fileOps{before: func(op, _ string) error {
					if op == "write" {
						writes.Add(1)
					}
					return nil
				}}}).run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(to, "data")); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("the file differs, or %v", err)
			}
			if got, err := os.ReadFile(filepath.Join(result.Previous, "data")); err != nil || !bytes.Equal(got, old) {
				t.Fatalf("what stood there differs, or %v", err)
			}
			same := int64(size - changed*tt.chunk)
			if result.BytesReused < same {
				t.Errorf("reused %d, want at least %d", result.BytesReused, same)
			}
			if !shares {
				if result.BytesCloned != 0 {
					t.Errorf("cloned %d bytes where that cannot be", result.BytesCloned)
				}
				return
			}
			if result.BytesCloned != result.BytesReused {
				t.Errorf("cloned %d, reused %d", result.BytesCloned, result.BytesReused)
			}
			// A chunk that differs takes up to two blocks more than its size.
			if got, want := sharedBytes(t, filepath.Join(to, "data")), same-int64(changed+10)*8192; got < want {
				t.Errorf("%d bytes are shared, want at least %d", got, want)
			}
			// What lies beside whole blocks is written, too: twice for each plan.
			if got, limit := writes.Load(), int64(changed+2*(1+size/3_000_001)); got > limit {
				t.Errorf("%d writes for %d chunks that differ", got, changed)
			}
		})
	}
}

// What has little in common is not shared.
func TestRestoreSharesNotWhatDiffers(t *testing.T) {
	onSharing(t)
	data := tableRows(1, 4<<20)
	r := newRepository(t)
	m := storeChunked(t, r, "s", data, 64<<10)
	old := tableRows(2, 4<<20)
	copy(old[64<<10:], data[64<<10:1<<20])
	to := filepath.Join(tempDir(t), "db")
	writeTree(t, to, map[string]string{"data": string(old)})
	result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(to, "data")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the file differs, or %v", err)
	}
	if result.BytesCloned != 0 || result.BytesReused != 15*64<<10 {
		t.Errorf("%+v", result)
	}
}

// The database writes to its file between the first look at it and the sharing of its
// blocks, and once more right after that: what is restored is right nevertheless.
func TestRestoreSharesWhatIsWrittenTo(t *testing.T) {
	onSharing(t)
	data := tableRows(1, 4<<20)
	r := newRepository(t)
	m := storeChunked(t, r, "s", data, 64<<10)
	for _, when := range []string{"clone", "write"} {
		to := filepath.Join(tempDir(t), "db")
		old := bytes.Clone(data)
		copy(old[5*64<<10:], "something else")
		writeTree(t, to, map[string]string{"data": string(old)})
		var once atomic.Bool
		_, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true}, &fileOps{before: func(op, _ string) error {
			if op != when || once.Swap(true) {
				return nil
			}
			f, err := os.OpenFile(filepath.Join(to, "data"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			for at := 10; at < len(old); at += 300_000 {
				if _, err := f.WriteAt([]byte("a later row"), int64(at)); err != nil {
					return err
				}
			}
			return f.Close()
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(to, "data")); err != nil || !bytes.Equal(got, data) {
			t.Errorf("written to before %s: the file differs, or %v", when, err)
		}
	}
}

// Nothing but content is taken over: not the permissions, nor attributes, nor what the
// file has beyond its size in the snapshot.
func TestRestoreSharesContentOnly(t *testing.T) {
	onSharing(t)
	data := tableRows(1, 1<<20+5)
	r := newRepository(t)
	m := storeFiles(t, r, "s", []storedFile{{path: "kv/"}, {path: "kv/data", data: data, mode: 0o600, at: aTime, class: Paged}})
	to := filepath.Join(tempDir(t), "db")
	writeTree(t, to, map[string]string{"data": string(slices.Concat(data, tableRows(2, 300_000)))})
	path := filepath.Join(to, "data")
	const attribute = "user.origin"
	if err := errors.Join(os.Chmod(path, 0o777|os.ModeSetuid), unix.Setxattr(path, attribute, []byte("elsewhere"), 0)); err != nil {
		t.Fatal(err)
	}
	result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if result.BytesReused != int64(len(data)) {
		t.Errorf("%+v", result)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != int64(len(data)) || info.Mode() != 0o600 || !info.ModTime().Equal(aTime) {
		t.Errorf("size %d, mode %v, time %v", info.Size(), info.Mode(), info.ModTime())
	}
	if n, err := unix.Listxattr(path, make([]byte, 1000)); err != nil || n != 0 {
		t.Errorf("%d bytes of attributes, %v", n, err)
	}
	if n, err := unix.Getxattr(filepath.Join(result.Previous, "data"), attribute, make([]byte, 100)); err != nil || n != len("elsewhere") {
		t.Errorf("the failsafe has lost its attribute: %d, %v", n, err)
	}
}

func TestCloneBlocksTakesWholeOnes(t *testing.T) {
	shares := onSharing(t)
	dir := t.TempDir()
	data := tableRows(1, 100_000)
	src, err := os.Create(filepath.Join(dir, "src"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if _, err := src.Write(data); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ in, want stretch }{
		{stretch{0, 8192}, stretch{0, 8192}},
		{stretch{1, 8192}, stretch{4096, 8192}},
		{stretch{4096, 12287}, stretch{4096, 8192}},
		{stretch{4095, 100_000}, stretch{4096, 98304}},
		{stretch{1, 8191}, stretch{}},
		{stretch{5000, 5001}, stretch{}},
	} {
		dst, err := os.Create(filepath.Join(dir, "dst"))
		if err != nil {
			t.Fatal(err)
		}
		if err := dst.Truncate(int64(len(data))); err != nil {
			t.Fatal(err)
		}
		got, err := cloneBlocks(dst, src, tt.in)
		none := tt.want == stretch{}
		switch {
		case none && (err != nil || got != stretch{}):
			t.Errorf("%v: got %v, %v", tt.in, got, err)
		case !none && shares && (err != nil || got != tt.want):
			t.Errorf("%v: got %v, %v, want %v", tt.in, got, err, tt.want)
		case !none && !shares && err == nil:
			t.Errorf("%v: shared where that cannot be", tt.in)
		}
		want := make([]byte, len(data))
		if err == nil {
			copy(want[got.start:got.end], data[got.start:got.end])
		}
		if read, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(read, want) {
			t.Errorf("%v: other content, or %v", tt.in, err)
		}
		dst.Close()
	}
}
