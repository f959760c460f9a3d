package localblob

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gocloud.dev/blob"
)

// step is one operation that a bucket asked of the system.
type step struct {
	op         string
	name, next string // next is the new name of link and rename
	data       []byte // of write
	failed     bool
}

func (s step) String() string {
	out := s.op + " " + s.name
	if s.next != "" {
		out += " " + s.next
	}
	if s.failed {
		out += " failed"
	}
	return out
}

// recorder wraps fileOps, notes each step, and makes those fail that fault chooses. Temporary names become tmp1, tmp2...
type recorder struct {
	mu    sync.Mutex
	real  fileOps
	steps []step
	temps map[string]string
	// fault is asked before each step. With an error the step fails; with effect it is done all the same (a write is
	// cut in half). It may be nil.
	fault func(i int, s step) (err error, effect bool)
}

// newRecorder leaves out the syncs proper: without a power failure nobody sees them, and they take most of the time.
func newRecorder() *recorder {
	r := &recorder{real: osFileOps(), temps: map[string]string{}}
	r.real.syncFile = func(*os.File) error { return nil }
	r.real.syncDir = func(*os.Root, string) error { return nil }
	return r
}

func (r *recorder) alias(name string) string {
	if !strings.HasPrefix(name, tempDir+"/") {
		return name
	}
	if r.temps[name] == "" {
		r.temps[name] = fmt.Sprintf("%s/tmp%d", tempDir, len(r.temps)+1)
	}
	return r.temps[name]
}

func (r *recorder) aliasFile(f *os.File) string {
	return tempDir + "/" + filepath.Base(f.Name())
}

// do records s, asks for a fault and runs the step.
func (r *recorder) do(s step, run func() error) error {
	r.mu.Lock()
	s.name = r.alias(s.name)
	var err error
	effect := true
	if r.fault != nil {
		err, effect = r.fault(len(r.steps), s)
		effect = effect || err == nil
	}
	r.steps = append(r.steps, s)
	i := len(r.steps) - 1
	r.mu.Unlock()
	if effect {
		if runErr := run(); err == nil {
			err = runErr
		}
	}
	if err != nil {
		r.mu.Lock()
		r.steps[i].failed = true
		r.mu.Unlock()
	}
	return err
}

func (r *recorder) ops() fileOps {
	real := r.real
	return fileOps{
		create: func(root *os.Root, name string, mode fs.FileMode) (f *os.File, err error) {
			err = r.do(step{op: "create", name: name}, func() (err error) {
				f, err = real.create(root, name, mode)
				return err
			})
			if err != nil && f != nil {
				_ = f.Close()
				f = nil
			}
			return f, err
		},
		lock: func(f *os.File) error {
			return r.do(step{op: "lock", name: r.aliasFile(f)}, func() error { return real.lock(f) })
		},
		write: func(f *os.File, p []byte) (n int, err error) {
			s := step{op: "write", name: r.aliasFile(f), data: slices.Clone(p)}
			err = r.do(s, func() (err error) {
				n, err = real.write(f, p)
				return err
			})
			return n, err
		},
		syncFile: func(f *os.File) error {
			return r.do(step{op: "fsync", name: r.aliasFile(f)}, func() error { return real.syncFile(f) })
		},
		close: func(f *os.File) error {
			err := r.do(step{op: "close", name: r.aliasFile(f)}, func() error { return real.close(f) })
			_ = f.Close() // a failed close must not leak the descriptor into the rest of the test
			return err
		},
		mkdir: func(root *os.Root, name string, mode fs.FileMode) error {
			return r.do(step{op: "mkdir", name: name}, func() error { return real.mkdir(root, name, mode) })
		},
		link: func(root *os.Root, oldName, newName string) error {
			return r.do(step{op: "link", name: oldName, next: newName}, func() error { return real.link(root, oldName, newName) })
		},
		rename: func(root *os.Root, oldName, newName string) error {
			return r.do(step{op: "rename", name: oldName, next: newName}, func() error { return real.rename(root, oldName, newName) })
		},
		remove: func(root *os.Root, name string) error {
			return r.do(step{op: "remove", name: name}, func() error { return real.remove(root, name) })
		},
		syncDir: func(root *os.Root, name string) error {
			return r.do(step{op: "syncdir", name: name}, func() error { return real.syncDir(root, name) })
		},
		openDir: real.openDir,
	}
}

// reset forgets what was recorded.
func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps, r.fault = nil, nil
}

func (r *recorder) trace() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, s := range r.steps {
		out = append(out, s.String())
	}
	return out
}

// openRecorded opens a bucket in a new folder on top of a recorder.
func openRecorded(t *testing.T) (*blob.Bucket, *recorder, string) {
	t.Helper()
	dir := t.TempDir()
	r := newRecorder()
	return openWith(t, dir, nil, r.ops()), r, dir
}

func openWith(t *testing.T, dir string, opts *Options, ops fileOps) *blob.Bucket {
	t.Helper()
	b, err := openBucket(dir, opts, ops)
	if err != nil {
		t.Fatal(err)
	}
	bkt := blob.NewBucket(b)
	t.Cleanup(func() { _ = bkt.Close() })
	return bkt
}

// plainFile are the options of an object that is nothing but its content.
func plainFile() *blob.WriterOptions {
	return &blob.WriterOptions{ContentType: defaultContentType}
}

func plainIfNew() *blob.WriterOptions {
	return &blob.WriterOptions{ContentType: defaultContentType, IfNotExist: true}
}

// temporaries lists what stands in the hidden folder.
func temporaries(t *testing.T, dir string) []string {
	t.Helper()
	found, err := os.ReadDir(filepath.Join(dir, tempDir))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var names []string
	for _, d := range found {
		names = append(names, d.Name())
	}
	return names
}
