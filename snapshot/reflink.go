package snapshot

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
)

// cloneMemory remembers on which devices files cannot be cloned, so that each is
// asked only once. The zero value is ready, and safe for concurrent use.
type cloneMemory struct {
	lacking sync.Map // device number -> true
}

// duplicate makes h.at a file with the content of src: a clone, which shares its
// blocks until one of the two is written to, or else a copy.
func (m *cloneMemory) duplicate(ctx context.Context, src *os.File, h heldFile) (holding, error) {
	if m.worthTrying(h.stamp.dev) {
		err := cloneFile(src, h.at)
		if err == nil {
			return byClone, nil
		}
		m.learn(h.stamp.dev, err)
	}
	return byCopy, copyFile(ctx, src, h.at, h.stamp.size)
}

func (m *cloneMemory) worthTrying(dev uint64) bool {
	_, lacks := m.lacking.Load(dev)
	return !lacks
}

// learn remembers an error that says something of the file system. One that may
// concern a single file only, such as EINVAL for a swap file or one with other
// attributes, is forgotten.
func (m *cloneMemory) learn(dev uint64, err error) {
	if cloneUnsupported(err) {
		m.lacking.Store(dev, true)
	}
}

// copyStep is how many bytes are copied between two looks at the context.
const copyStep = 4 << 20

// copyFile copies size bytes to a new file, in the kernel where it can. What is not
// allocated in src is not written. The copy is not synced: it does not have to
// survive a crash. It returns errMoved if src is shorter.
func copyFile(ctx context.Context, src *os.File, to string, size int64) (err error) {
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		off = min(nextData(src, off), size)
		if off == size {
			break
		}
		if _, err := src.Seek(off, io.SeekStart); err != nil {
			return err
		}
		if _, err := dst.Seek(off, io.SeekStart); err != nil {
			return err
		}
		n, err := dst.ReadFrom(io.LimitReader(src, min(copyStep, size-off)))
		if err != nil {
			return err
		}
		if n == 0 {
			return errMoved
		}
		off += n
	}
	return dst.Truncate(size)
}
