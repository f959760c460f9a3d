package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// segmentSize is how much of a large file one worker reads at a time, in bytes,
// so that all cores work on one file. It is a multiple of every fixed cut, and so
// much larger than a content-defined chunk that the forced cut at its end costs
// next to nothing.
const segmentSize = 32 << 20

// segment is a piece of work: part of a file.
type segment struct {
	file   *sourceFile
	number int
	offset int64
	length int64
}

// ingest reads all files that have no content yet and stores it.
func (c *creation) ingest(ctx context.Context, files []*sourceFile) error {
	work := c.plan(files)
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(c.engine.config.Workers, len(work)) {
		group.Go(func() error {
			w, err := c.newWorker()
			if err != nil {
				return err
			}
			defer w.close()
			for {
				n := int(next.Add(1)) - 1
				if n >= len(work) {
					return w.writer.Flush(ctx)
				}
				if err := w.do(ctx, work[n]); err != nil {
					// A file that is shared with other workers is closed by the last
					// of them, which now never comes.
					return err
				}
			}
		})
	}
	err := group.Wait()
	if err != nil {
		for _, f := range files {
			f.close()
		}
	}
	return err
}

// plan divides the files into segments and announces how much there is to do.
func (c *creation) plan(files []*sourceFile) []segment {
	var work []segment
	for _, f := range files {
		if f.IsDir() {
			continue
		}
		c.track.filesTotal.Add(1)
		c.track.bytesTotal.Add(f.Size)
		if f.cut == nil || f.Size == 0 {
			c.track.add(1, f.Size)
			continue
		}
		count := int((f.Size + segmentSize - 1) / segmentSize)
		f.segments = make([][]repo.Ref, count)
		f.left.Store(int32(count))
		for n := range count {
			offset := int64(n) * segmentSize
			work = append(work, segment{f, n, offset, min(segmentSize, f.Size-offset)})
		}
	}
	return work
}

// worker is one goroutine that reads, cuts and stores. Data never leaves it.
type worker struct {
	creation *creation
	writer   *repo.Writer
	buf      []byte
}

func (c *creation) newWorker() (*worker, error) {
	writer, err := c.session.NewWriter()
	if err != nil {
		return nil, err
	}
	return &worker{creation: c, writer: writer}, nil
}

func (w *worker) close() {
	w.writer.Close()
}

// do reads one segment. Whoever finishes the last segment of a file finishes the
// file.
func (w *worker) do(ctx context.Context, s segment) error {
	f := s.file
	f.open.Do(func() { f.file, f.openErr = f.view.FS.Open(f.name) })
	err := f.openErr
	if err == nil {
		err = w.segment(ctx, s)
	}
	if err == nil && f.left.Add(-1) == 0 {
		err = w.finish(ctx, f)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if promise := (*BrokenPromiseError)(nil); errors.As(err, &promise) {
		return err
	}
	return &SourceError{Source: f.source, Op: "read", Path: f.name, Err: err}
}

// segment reads a segment, or the whole of a file that cannot be read in parts.
func (w *worker) segment(ctx context.Context, s segment) error {
	f := s.file
	at, ok := f.file.(io.ReaderAt)
	if ok {
		refs, err := w.cut(ctx, io.NewSectionReader(at, s.offset, s.length), s.offset, s.length, f)
		f.segments[s.number] = refs
		return err
	}
	if s.number > 0 {
		return nil // the worker that has the first segment reads all of it
	}
	// The same forced cuts as if it could be read in parts, so that it does not
	// matter to the repository through which FS a file comes.
	for n := range f.segments {
		offset := int64(n) * segmentSize
		refs, err := w.cut(ctx, f.file, offset, min(segmentSize, f.Size-offset), f)
		if err != nil {
			return err
		}
		f.segments[n] = refs
	}
	return nil
}

// readAhead is how much more than one chunk a worker reads at once, in bytes.
const readAhead = 1 << 20

// cut reads exactly length bytes, which begin at an offset in f, and stores them as
// chunks.
func (w *worker) cut(ctx context.Context, r io.Reader, offset, length int64, f *sourceFile) ([]repo.Ref, error) {
	bases, err := w.basesOf(ctx, f, offset, length)
	if err != nil {
		return nil, err
	}
	if need := f.cut.Max() + readAhead; len(w.buf) < need {
		w.buf = make([]byte, need)
	}
	refs := make([]repo.Ref, 0, length/pagedCut+1)
	if fixed, ok := f.cut.(chunk.Fixed); ok {
		refs = make([]repo.Ref, 0, length/int64(fixed.Max())+1)
	}
	start, end := 0, 0
	for length > 0 || start < end {
		if length > 0 && end-start < f.cut.Max() {
			end = copy(w.buf, w.buf[start:end])
			start = 0
			n := int(min(length, int64(len(w.buf)-end)))
			if _, err := io.ReadFull(r, w.buf[end:end+n]); err != nil {
				return nil, readError(err, length)
			}
			end += n
			length -= int64(n)
			if f.before != nil {
				w.creation.verified.Add(int64(n))
			} else {
				w.creation.read.Add(int64(n))
			}
		}
		n := f.cut.Next(w.buf[start:end], length == 0)
		id, err := w.add(ctx, w.buf[start:start+n], bases, offset)
		if err != nil {
			return nil, err
		}
		refs = append(refs, repo.Ref{ID: id, Span: int64(n)})
		start += n
		offset += int64(n)
		w.creation.track.add(0, int64(n))
		// The server's transactions share these cores, and a goroutine that never
		// waits keeps them from theirs until the scheduler steps in, after 10 ms.
		runtime.Gosched()
	}
	return refs, context.Cause(ctx)
}

// readError says what the end of a file before its size means.
func readError(err error, left int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ended up to %d bytes early", ErrChanged, left)
	}
	return err
}

// finish closes a file that was read to its end and gives it its content.
func (w *worker) finish(ctx context.Context, f *sourceFile) error {
	if err := f.close(); err != nil {
		return err
	}
	content, err := w.creation.session.PutContent(ctx, slices.Concat(f.segments...))
	if err != nil {
		return err
	}
	f.segments = nil
	if f.before != nil && !sameContent(*f.before, content) {
		return &BrokenPromiseError{Path: f.Path, Identity: f.Identity, Parent: w.creation.parent.ID}
	}
	f.Content = content
	w.creation.track.add(1, 0)
	return nil
}

func sameContent(a, b repo.Content) bool {
	return a.Depth == b.Depth && slices.Equal(a.Refs, b.Refs)
}

// close closes the file, once, if it was opened.
func (f *sourceFile) close() error {
	var file fs.File
	file, f.file = f.file, nil
	if file == nil {
		return nil
	}
	return file.Close()
}
