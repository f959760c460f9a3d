package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// noise returns n bytes without a pattern, the same for the same seed.
func noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), 1})
	out := make([]byte, n)
	_, _ = r.Read(out)
	return out
}

// dirTestFile writes a file and opens it for reading.
func dirTestFile(t *testing.T, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "original")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestCloneOrCopy(t *testing.T) {
	for _, size := range []int{0, 1, 4095, 4096, 100_001, copyStep, copyStep + 1} {
		data := noise(uint64(size), size)
		src := dirTestFile(t, data)
		stamp, err := stampOpen(src)
		if err != nil {
			t.Fatal(err)
		}
		var m cloneMemory
		h := heldFile{at: filepath.Join(filepath.Dir(src.Name()), "held"), stamp: stamp}
		how, err := m.duplicate(t.Context(), src, h)
		if err != nil {
			t.Fatal(err)
		}
		if how == byClone != m.worthTrying(stamp.dev) {
			t.Errorf("%d bytes: held as %d, and trying again is worth it: %t", size, how, m.worthTrying(stamp.dev))
		}
		// Either way it is the content of now, and does not follow the original.
		if err := os.WriteFile(src.Name(), noise(7, size+9), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(h.at)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%d bytes: held as %d with other content", size, how)
		}
	}
}

func TestCloneAloneLeavesNothing(t *testing.T) {
	data := noise(3, 10_000)
	src := dirTestFile(t, data)
	to := filepath.Join(t.TempDir(), "clone")
	err := cloneFile(src, to)
	got, readErr := os.ReadFile(to)
	if err == nil && !bytes.Equal(got, data) {
		t.Errorf("a clone with other content, %v", readErr)
	}
	if err != nil && !errors.Is(readErr, fs.ErrNotExist) {
		t.Errorf("clone: %v, and then %v", err, readErr)
	}
	// What is in the way stays.
	if err := os.WriteFile(to, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cloneFile(src, to); err == nil {
		t.Error("an existing file was replaced")
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != "mine" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCloneMemoryIsPerDevice(t *testing.T) {
	var m cloneMemory
	m.learn(1, io.ErrUnexpectedEOF)
	if !m.worthTrying(1) {
		t.Error("an error of one file was held against the file system")
	}
	for dev, err := range unsupportedClones {
		m.learn(uint64(dev), &fs.PathError{Op: "clone", Path: "x", Err: err})
		if m.worthTrying(uint64(dev)) {
			t.Errorf("%v was forgotten", err)
		}
	}
	if !m.worthTrying(99) {
		t.Error("one file system was held against another")
	}
}

func TestCopyHoles(t *testing.T) {
	const size = 5*copyStep + 123
	for name, data := range map[string]map[int64][]byte{
		"all hole":      {},
		"hole first":    {size - 70: noise(1, 70)},
		"hole last":     {0: noise(2, 9000)},
		"hole between":  {0: noise(3, 4096), 3*copyStep + 5: noise(4, 8192)},
		"hole all over": {copyStep: noise(5, copyStep), 3 * copyStep: noise(6, 100)},
	} {
		t.Run(name, func(t *testing.T) {
			src, err := os.Create(filepath.Join(t.TempDir(), "original"))
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			if err := src.Truncate(size); err != nil {
				t.Fatal(err)
			}
			want := make([]byte, size)
			for off, b := range data {
				copy(want[off:], b)
				if _, err := src.WriteAt(b, off); err != nil {
					t.Fatal(err)
				}
			}
			to := src.Name() + ".copy"
			if err := copyFile(t.Context(), src, to, size); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, want) {
				t.Errorf("other content: %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestCopyFails(t *testing.T) {
	src := dirTestFile(t, noise(8, 1000))
	dir := t.TempDir()
	if err := copyFile(t.Context(), src, filepath.Join(dir, "no", "folder"), 1000); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := copyFile(ctx, src, filepath.Join(dir, "cancelled"), 1000); !errors.Is(err, cause) {
		t.Errorf("cancelled: %v", err)
	}
	src.Close()
	if err := copyFile(t.Context(), src, filepath.Join(dir, "closed"), 1000); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
