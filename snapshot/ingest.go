package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

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
	workers := min(c.engine.config.Workers, len(work))
	turns := &turns{start: time.Now()}
	writers := make([]*repo.Writer, workers)
	for i := range workers {
		group.Go(relay(func() error {
			w, err := c.newWorker(newGiveWay(workers, turns))
			if err != nil {
				return err
			}
			writers[i] = w.writer
			defer w.way.close()
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
		}))
	}
	err := group.Wait()
	// Not before all have ended: closing the writer of the one that failed makes the others
	// fail as well, and one of them might be the first to be heard.
	for _, w := range writers {
		if w != nil {
			w.Close()
		}
	}
	if err != nil {
		for _, f := range files {
			f.close()
		}
	}
	return relayed(err)
}

// plan divides the files into segments and announces how much there is to do.
func (c *creation) plan(files []*sourceFile) []segment {
	// All of them before any work counts as done: who is told a share sees it grow only.
	for _, f := range files {
		if !f.IsDir() {
			c.track.filesTotal.Add(1)
			c.track.bytesTotal.Add(f.Size)
		}
	}
	var work []segment
	for _, f := range files {
		if f.IsDir() {
			continue
		}
		if f.cut == nil || f.Size == 0 {
			c.track.add(1, f.Size)
			continue
		}
		f.chain = newChain(c.session, f.segments())
		for n := range f.segments() {
			work = append(work, f.segment(n))
		}
	}
	return work
}

// worker is one goroutine that reads, cuts and stores. Data never leaves it.
type worker struct {
	creation *creation
	writer   *repo.Writer
	buf      []byte
	// way lets the server's goroutines run: a goroutine that never waits keeps them
	// from their processors until the scheduler steps in, after 10 ms.
	way *giveWay
}

func (c *creation) newWorker(way *giveWay) (*worker, error) {
	writer, err := c.session.NewPausingWriter(way.yield)
	if err != nil {
		way.close()
		return nil, err
	}
	return &worker{creation: c, writer: writer, way: way}, nil
}

// do reads one segment. Whoever brings the last one that a file lacks finishes the file.
func (w *worker) do(ctx context.Context, s segment) error {
	f := s.file
	f.open.Do(func() {
		f.file, f.openErr = f.view.FS.Open(f.name)
		f.at, _ = f.file.(io.ReaderAt)
	})
	err := f.openErr
	complete := false
	if err == nil {
		complete, err = w.segment(ctx, s)
	}
	if err == nil && complete {
		err = w.finish(ctx, f)
	}
	if err == nil {
		w.creation.notes.note(ctx, w.creation.engine, w.creation.session)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if promise := (*BrokenPromiseError)(nil); errors.As(err, &promise) {
		return err
	}
	return &SourceError{Source: f.source, Op: "read", Path: f.name, Err: err}
}

// segments returns how many segments the file has.
func (f *sourceFile) segments() int { return int((f.Size + segmentSize - 1) / segmentSize) }

// segment returns the n-th segment.
func (f *sourceFile) segment(n int) segment {
	offset := int64(n) * segmentSize
	return segment{f, n, offset, min(segmentSize, f.Size-offset)}
}

// segment reads a segment, or the whole of a file that cannot be read in parts. It reports
// whether the file is complete with that.
func (w *worker) segment(ctx context.Context, s segment) (complete bool, err error) {
	f := s.file
	if f.at != nil {
		if err := f.chain.wait(ctx, s.number); err != nil {
			return false, err
		}
		refs, err := w.cut(ctx, input{at: f.at}, s)
		if err != nil {
			return false, err
		}
		return f.chain.put(ctx, s.number, refs)
	}
	if s.number > 0 {
		return false, nil // the worker that has the first segment reads all of it
	}
	// The same forced cuts as if it could be read in parts, so that it does not
	// matter to the repository through which FS a file comes.
	for n := range f.segments() {
		refs, err := w.cut(ctx, input{front: f.file}, f.segment(n))
		if err == nil {
			complete, err = f.chain.put(ctx, n, refs)
		}
		if err != nil {
			return false, err
		}
	}
	return complete, nil
}

// input is an open file: front is set where it can only be read front to back.
type input struct {
	at    io.ReaderAt
	front io.Reader
}

func (in input) read(p []byte, offset int64) error {
	if in.front != nil {
		return readFront(in.front, p)
	}
	n, err := in.at.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// maxEmptyReads is how many reads in a row may bring neither a byte nor an error.
const maxEmptyReads = 100

// readFront is io.ReadFull, but for a reader that brings nothing for ever.
func readFront(r io.Reader, p []byte) error {
	for n, empty := 0, 0; n < len(p); {
		m, err := r.Read(p[n:])
		if n += m; n == len(p) {
			return nil
		}
		if err != nil {
			return err
		}
		if empty++; m > 0 {
			empty = 0
		}
		if empty == maxEmptyReads {
			return io.ErrNoProgress
		}
	}
	return nil
}

// readAhead is how much more than one chunk a worker reads at once, in bytes.
const readAhead = 1 << 20

// cut reads what has to be read of a segment and stores it as chunks. It returns all
// chunks of the segment.
func (w *worker) cut(ctx context.Context, in input, s segment) ([]repo.Ref, error) {
	f := s.file
	b, err := w.basesOf(ctx, f, s.offset, s.length)
	if err != nil {
		return nil, err
	}
	kept := w.creation.kept(s, b, in.front != nil)
	if !f.bases {
		b = &bases{}
	}
	most := f.cut.Max()
	for _, k := range kept.chunks {
		most = max(most, int(k.Span))
	}
	if need := most + readAhead; len(w.buf) < need {
		w.buf = make([]byte, need)
	}
	refs := make([]repo.Ref, 0, s.length/pagedCut+1)
	if fixed, ok := f.cut.(chunk.Fixed); ok {
		refs = make([]repo.Ref, 0, s.length/int64(fixed.Max())+1)
	}
	// have are the bytes from offset on that were read.
	have := w.buf[:0]
	for offset, end := s.offset, s.offset+s.length; offset < end; {
		k := kept.at(offset)
		if k != nil && !k.verify {
			refs = append(refs, k.Ref)
			offset += k.Span
			have = have[min(k.Span, int64(len(have))):]
			w.creation.track.add(0, k.Span)
			continue
		}
		need := min(int64(f.cut.Max()), end-offset)
		if k != nil {
			need = k.Span
		}
		if int64(len(have)) < need {
			from := copy(w.buf, have)
			// As far as it will be needed in one piece.
			to := int(min(max(need, kept.skip(offset)-offset), end-offset, int64(len(w.buf))))
			have = w.buf[:to]
			if err := in.read(have[from:], offset+int64(from)); err != nil {
				return nil, readError(err, end-offset)
			}
			w.creation.read.Add(int64(to - from))
		}
		id, n, err := w.one(ctx, f, k, b, have, offset, offset+int64(len(have)) == end)
		if err != nil {
			return nil, err
		}
		refs = append(refs, repo.Ref{ID: id, Span: int64(n)})
		offset += int64(n)
		have = have[n:]
		w.creation.track.add(0, int64(n))
		w.way.yield()
	}
	return refs, context.Cause(ctx)
}

// one stores the chunk that begins at an offset, or verifies that it is the one that the
// parent has there, k. It returns its ID and length.
func (w *worker) one(ctx context.Context, f *sourceFile, k *keptChunk, b *bases, have []byte, offset int64, last bool) (chunk.ID, int, error) {
	if k == nil {
		n := f.cut.Next(have, last)
		id, err := w.add(ctx, have[:n], b, offset)
		return id, n, err
	}
	// The repository has this chunk: adding it stores nothing.
	id, _, err := w.writer.Add(ctx, have[:k.Span])
	w.creation.read.Add(-k.Span)
	w.creation.verified.Add(k.Span)
	if err == nil && id != k.ID {
		err = &BrokenPromiseError{Path: f.Path, Identity: f.Identity, Parent: w.creation.parent.ID, Offset: offset}
	}
	return id, int(k.Span), err
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
	content, err := f.chain.content.Finish(ctx)
	if err != nil {
		return err
	}
	f.chain = nil
	// Where it is nil already, workers with other segments of the file may still look at it.
	if f.at != nil {
		f.at = nil
	}
	f.Content = content
	w.creation.track.add(1, 0)
	return nil
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
