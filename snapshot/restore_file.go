package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// holeSize is the smallest run of zeros that is left out, in bytes. It is a
	// multiple of the block size of every common file system.
	holeSize = 64 << 10
	// maxOpen is how many files being restored are open at once. One that lies in many
	// packs waits for its last chunk, as others do.
	maxOpen = 128
)

var zeros [holeSize]byte

// An outFile is a file being restored. Its chunks come in the order of the packs, from
// several goroutines.
type outFile struct {
	st    *stager
	entry entry
	// left is how many bytes are not there yet. Whoever brings the last finishes the
	// file.
	left atomic.Int64
	// filled is set once places that were not written to may be something else than a
	// hole. Zeros must then be cleared, not only left out.
	filled atomic.Bool

	// mu is held for reading by who writes to file, for writing by who changes the
	// fields below.
	mu sync.RWMutex
	// file is nil while the file is not open.
	file *os.File
	// wanted is what has to be set aside before anything else is written.
	wanted []stretch
	// made is set once the file was created.
	made bool
	// linked is set for a hard link to a file that stands at the target.
	linked bool
}

func (st *stager) newFile(e *entry) *outFile {
	f := &outFile{st: st, entry: *e}
	f.left.Store(e.Size)
	return f
}

// put writes bytes of the file to their place, but for zeros.
func (f *outFile) put(p []byte, at int64) error {
	if err := f.hold(); err != nil {
		return err
	}
	err := f.writeSparse(p, at)
	f.mu.RUnlock()
	if err != nil {
		return fmt.Errorf("%q: %w", f.entry.Path, err)
	}
	f.arrived(int64(len(p)))
	return nil
}

// hold opens the file, and keeps it open until mu is released for reading.
func (f *outFile) hold() error {
	f.mu.RLock()
	for f.file == nil || len(f.wanted) > 0 {
		f.mu.RUnlock()
		if err := f.open(); err != nil {
			return err
		}
		f.mu.RLock()
	}
	return nil
}

// arrived counts bytes that are there. After the last the file is finished by another
// goroutine, for that waits for the disk.
func (f *outFile) arrived(n int64) {
	f.st.track.add(0, n)
	if f.left.Add(-n) == 0 {
		f.st.group.Go(f.finish)
	}
}

// open makes the file in its full length, all of it a hole, or opens it again. Then what
// is wanted of it is set aside.
func (f *outFile) open() error {
	if err := f.st.open.makeRoom(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		if err := f.openLocked(); err != nil {
			return err
		}
	}
	return f.allocate()
}

func (f *outFile) openLocked() error {
	var file *os.File
	var err error
	if f.made {
		file, err = f.st.root.OpenFile(f.entry.name, os.O_RDWR, 0)
	} else {
		file, err = f.st.ops.create(f.st.root, f.entry.name)
		if err == nil && f.entry.Size > 0 {
			if err = f.st.ops.truncate(file, f.entry.Size); err != nil {
				err = errors.Join(err, file.Close())
			}
		}
	}
	if err != nil {
		return f.st.explain(&f.entry, err)
	}
	f.made, f.file = true, file
	f.st.open.add(f)
	return nil
}

// writeSparse writes p at offset at, and makes a hole of what is zeros.
func (f *outFile) writeSparse(p []byte, at int64) error {
	for len(p) > 0 {
		n, isZero := sameKind(p)
		var err error
		switch {
		case !isZero:
			err = f.st.ops.writeAt(f.file, p[:n], at)
		case f.filled.Load():
			err = f.st.ops.clear(f.file, at, int64(n))
		}
		if err != nil {
			return err
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// sameKind returns how many bytes at the beginning of p are either blocks of zeros or
// blocks of something else, and which.
func sameKind(p []byte) (n int, isZero bool) {
	for n < len(p) {
		block := p[n:min(len(p), n+holeSize)]
		if is := bytes.Equal(block, zeros[:len(block)]); n == 0 {
			isZero = is
		} else if is != isZero {
			break
		}
		n += len(block)
	}
	return n, isZero
}

// finish gives the file its owner, time and permissions, makes it durable and
// closes it.
func (f *outFile) finish() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.linked {
		return f.finishLink()
	}
	if f.file == nil {
		if err := f.openLocked(); err != nil {
			return err
		}
	}
	mode := f.entry.Mode.Perm()
	if mode == 0 {
		mode = defaultFileMode
	}
	err := f.st.ops.dress(f.st.root, f.file, f.entry.name, f.st.stands.owner, mode, f.entry.ModTime)
	if err == nil {
		err = f.st.ops.sync(f.file)
	}
	if err = errors.Join(err, f.close()); err != nil {
		return fmt.Errorf("%q: %w", f.entry.Path, err)
	}
	f.st.track.add(1, 0)
	return nil
}

// close closes the file. The caller holds mu.
func (f *outFile) close() error {
	err := f.file.Close()
	f.file = nil
	f.st.open.remove(f)
	return err
}

// openFiles is the files that are open, longest first. It is safe for concurrent use.
type openFiles struct {
	mu    sync.Mutex
	files []*outFile
}

func (o *openFiles) add(f *outFile) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files = append(o.files, f)
}

func (o *openFiles) remove(f *outFile) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i := slices.Index(o.files, f); i >= 0 {
		o.files = slices.Delete(o.files, i, i+1)
	}
}

// makeRoom closes a file that nobody writes to at the moment, if too many are open. It
// is synced before: what the system cannot write after a file is closed, it may tell
// nobody.
func (o *openFiles) makeRoom() error {
	o.mu.Lock()
	var idle *outFile
	if len(o.files) >= maxOpen {
		for _, f := range o.files {
			if f.mu.TryLock() {
				idle = f
				break
			}
		}
	}
	o.mu.Unlock()
	if idle == nil {
		return nil
	}
	defer idle.mu.Unlock()
	if idle.file == nil {
		return nil
	}
	err := errors.Join(idle.st.ops.sync(idle.file), idle.close())
	if err != nil {
		return fmt.Errorf("%q: %w", idle.entry.Path, err)
	}
	return nil
}

// closeAll closes what a failure left open. Nobody writes any more.
func (o *openFiles) closeAll() error {
	var errs []error
	for len(o.files) > 0 {
		errs = append(errs, o.files[0].close())
	}
	return errors.Join(errs...)
}
