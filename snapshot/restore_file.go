package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdstill/holdstill/repo"
)

const (
	// restoreSegment is how much of a large file one worker restores, in bytes.
	restoreSegment = 32 << 20
	// bufferSize is how much a worker reads at once, in bytes.
	bufferSize = 4 << 20
	// holeSize is the smallest run of zeros that is left out, in bytes. It is a
	// multiple of the block size of every common file system.
	holeSize = 64 << 10
)

var zeros [holeSize]byte

// An outFile is a file being restored, by one worker or several.
type outFile struct {
	st     *stager
	entry  entry
	file   *os.File
	reader *repo.ContentReader

	// mu guards what follows.
	mu sync.Mutex
	// left is how many segments are not finished; the last one closes the file.
	left int64
	// failed is set once a segment failed.
	failed bool
}

// startFile has a file written by the group, in as many parts as it is worth.
func (st *stager) startFile(ctx context.Context, g *errgroup.Group, e *entry) error {
	if e.Size <= restoreSegment {
		one := *e
		g.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			f, err := st.open(ctx, &one)
			if err != nil {
				return err
			}
			return f.segment(ctx, 0)
		})
		return nil
	}
	f, err := st.open(ctx, e)
	if err != nil {
		return err
	}
	// All segments are started, also when one has failed: the last one closes the
	// file.
	for start := int64(0); start < e.Size; start += restoreSegment {
		g.Go(func() error { return f.segment(ctx, start) })
	}
	return nil
}

// open makes a file in its full length, all of it a hole.
func (st *stager) open(ctx context.Context, e *entry) (*outFile, error) {
	file, err := st.ops.create(st.root, e.name)
	if err == nil && e.Size > 0 {
		if err = st.ops.truncate(file, e.Size); err != nil {
			err = errors.Join(err, file.Close())
		}
	}
	if err != nil {
		return nil, st.explain(e, err)
	}
	return &outFile{
		st:     st,
		entry:  *e,
		file:   file,
		reader: st.repo.NewReader(ctx, e.Content),
		left:   max(1, (e.Size+restoreSegment-1)/restoreSegment),
	}, nil
}

// segment restores the part of the file that begins at start, and finishes the
// file if it is the last to end.
func (f *outFile) segment(ctx context.Context, start int64) error {
	err := f.copy(ctx, start, min(f.entry.Size, start+restoreSegment))
	f.mu.Lock()
	f.left--
	f.failed = f.failed || err != nil
	last, failed := f.left == 0, f.failed
	f.mu.Unlock()
	switch {
	case last && failed:
		err = errors.Join(err, f.file.Close())
	case last:
		err = f.finish()
	}
	if err != nil {
		return fmt.Errorf("%q: %w", f.entry.Path, err)
	}
	if last {
		f.st.track.add(1, 0)
	}
	return nil
}

// copy writes the bytes from start to end, but for zeros.
func (f *outFile) copy(ctx context.Context, start, end int64) error {
	if start == end {
		return nil
	}
	var buf []byte
	select {
	case buf = <-f.st.buffers:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if buf == nil {
		buf = make([]byte, bufferSize)
	}
	defer func() { f.st.buffers <- buf }()
	for start < end {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), end-start)]
		n, err := f.reader.ReadAt(p, start)
		if n < len(p) && (err == nil || err == io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if n < len(p) {
			return err
		}
		if err := f.writeSparse(p, start); err != nil {
			return err
		}
		start += int64(len(p))
		f.st.track.add(0, int64(len(p)))
	}
	return nil
}

// writeSparse writes p at offset at of a file that is all zeros there, and leaves
// out what is zeros.
func (f *outFile) writeSparse(p []byte, at int64) error {
	from := 0 // where what has to be written begins
	for i := 0; i < len(p); i += holeSize {
		block := p[i:min(len(p), i+holeSize)]
		if !bytes.Equal(block, zeros[:len(block)]) {
			continue
		}
		if from < i {
			if err := f.st.ops.writeAt(f.file, p[from:i], at+int64(from)); err != nil {
				return err
			}
		}
		from = i + len(block)
	}
	if from == len(p) {
		return nil
	}
	return f.st.ops.writeAt(f.file, p[from:], at+int64(from))
}

// finish gives the file its owner, time and permissions, makes it durable and
// closes it.
func (f *outFile) finish() error {
	mode := f.entry.Mode.Perm()
	if mode == 0 {
		mode = defaultFileMode
	}
	err := f.st.ops.dress(f.st.root, f.file, f.entry.name, f.st.stands.owner, mode, f.entry.ModTime)
	if err == nil {
		err = f.st.ops.sync(f.file)
	}
	return errors.Join(err, f.file.Close())
}
