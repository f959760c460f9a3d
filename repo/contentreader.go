package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxRun is how much is asked of the bucket at once, in bytes.
	maxRun = 8 << 20
	// maxGap is how many bytes that are not needed are read to save a request.
	maxGap = 128 << 10
	// minSplit is the least that one of several requests at the same time reads, in bytes.
	minSplit = 256 << 10
)

// A ContentReader reads the bytes of a Content. It is safe for concurrent use.
type ContentReader struct {
	ctx     context.Context
	repo    *Repository
	content Content
	size    int64
}

var _ io.ReaderAt = (*ContentReader)(nil)

// NewReader returns a reader of c, whose calls to the bucket end when ctx does.
// It reads nothing yet and holds nothing that has to be closed.
func (r *Repository) NewReader(ctx context.Context, c Content) *ContentReader {
	return &ContentReader{ctx: ctx, repo: r, content: c, size: c.Size()}
}

// Size returns the length of the content in bytes.
func (cr *ContentReader) Size() int64 { return cr.size }

// ReadAt implements io.ReaderAt. Chunks that lie near each other in a pack are
// fetched with one request. Every byte was checked against its chunk's ID; when a
// chunk cannot be read the error is a *ChunkError, and the bytes before it are
// good.
func (cr *ContentReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("repo: read at negative offset %d", off)
	}
	if err := cr.repo.use(); err != nil {
		return 0, err
	}
	if off >= cr.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > cr.size-off
	if short {
		p = p[:cr.size-off]
	}
	refs, first, err := cr.repo.dataRefs(cr.ctx, cr.content, off, off+int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err := cr.repo.readRefs(cr.ctx, refs, p, first-off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// readRefs fills p from consecutive data chunks, the first of which begins at
// offset at in p; that may be before p, as the last may end behind it. Where that takes
// several requests they are made at the same time.
func (r *Repository) readRefs(ctx context.Context, refs []Ref, p []byte, at int64) (int, error) {
	limit := int64(maxRun)
	if len(p) > minSplit {
		limit = max(int64(len(p))/DefaultFetches, minSplit)
	}
	var jobs []runJob
	for len(refs) > 0 {
		if data := r.cache.get(refs[0].ID); int64(len(data)) == refs[0].Span {
			copyAt(p, data, at)
			at += refs[0].Span
			refs = refs[1:]
			continue
		}
		run, err := r.nextRun(ctx, refs, limit)
		if err != nil {
			jobs = append(jobs, runJob{at: at, err: err})
			break
		}
		jobs = append(jobs, runJob{run: run, refs: refs[:len(run.places)], at: at})
		for range run.places {
			at += refs[0].Span
			refs = refs[1:]
		}
	}
	r.runJobs(ctx, jobs, p)
	for i := range jobs {
		if jobs[i].err != nil {
			return int(max(jobs[i].at, 0)), jobs[i].err
		}
	}
	return len(p), nil
}

// runJob is a run with the place of its bytes.
type runJob struct {
	run  run
	refs []Ref
	// at is where the first chunk begins in what is read, and after an error where the
	// chunk begins that could not be.
	at  int64
	err error
}

// runJobs reads runs, several at once. The first error in the order of the bytes ends
// those behind it.
func (r *Repository) runJobs(ctx context.Context, jobs []runJob, p []byte) {
	do := func(j *runJob) {
		if j.err != nil {
			return
		}
		rd, err := r.takeReader()
		if err != nil {
			j.err = err
			return
		}
		defer r.readers.Put(rd)
		j.at, j.err = r.readRun(ctx, rd, j.run, j.refs, p, j.at)
	}
	if len(jobs) == 1 {
		do(&jobs[0])
		return
	}
	// failed is the number of the first job that is known to have failed.
	var failed, next atomic.Int64
	failed.Store(int64(len(jobs)))
	var group sync.WaitGroup
	for range min(len(jobs), DefaultFetches) {
		group.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(len(jobs)) || n > failed.Load() {
					return
				}
				do(&jobs[n])
				for jobs[n].err != nil {
					if old := failed.Load(); n >= old || failed.CompareAndSwap(old, n) {
						break
					}
				}
			}
		})
	}
	group.Wait()
}

// run is a stretch of one pack that holds consecutive chunks of a content.
type run struct {
	places []location
	start  int64
	end    int64
}

// nextRun finds how many of the first refs can be fetched at once, in up to limit bytes.
func (r *Repository) nextRun(ctx context.Context, refs []Ref, limit int64) (run, error) {
	set, err := r.currentIndex(ctx)
	if err != nil {
		return run{}, err
	}
	var out run
	for i, ref := range refs {
		l, ok := set.locateOne(&ref.ID)
		if i == 0 && (!ok || int64(l.plain) != ref.Span) {
			if l, err = r.locateSpan(ctx, ref); err != nil {
				return run{}, err
			}
		} else if !ok || int64(l.plain) != ref.Span {
			break
		}
		start, end := int64(l.offset), int64(l.offset)+int64(l.stored)
		switch {
		case i == 0:
			out.start, out.end = start, end
		case l.pack != out.places[0].pack || start < out.start:
			return out, nil
		case end <= out.end:
			// Fetched already, as where one chunk is repeated.
		case start < out.end || start-out.end > maxGap || end-out.start > limit:
			return out, nil
		default:
			out.end = end
		}
		out.places = append(out.places, l)
	}
	return out, nil
}

// locateSpan returns a place of a chunk that is said to have a certain length, or any if
// that is 0.
func (r *Repository) locateSpan(ctx context.Context, ref Ref) (location, error) {
	places, err := r.locate(ctx, ref.ID)
	if err != nil {
		return location{}, err
	}
	for _, l := range places {
		if ref.Span == 0 || int64(l.plain) == ref.Span {
			return l, nil
		}
	}
	return location{}, chunkError(ref.ID, places[0], fmt.Errorf("%w: it has %d bytes where %d are expected", ErrCorrupt, places[0].plain, ref.Span))
}

// readRun fetches a run and decodes its chunks into their places in p. It returns where
// the chunk begins that it could not read.
func (r *Repository) readRun(ctx context.Context, rd *reader, run run, refs []Ref, p []byte, at int64) (int64, error) {
	if len(run.places) == 1 {
		// A chunk of which only a part is wanted will be wanted again.
		ref := refs[0]
		if at < 0 || at+ref.Span > int64(len(p)) {
			data, err := r.cachedChunk(ctx, ref.ID)
			if err == nil {
				err = placeWhole(ref, data, p, at)
			}
			return at, err
		}
	}
	stored := rd.room(int(run.end - run.start))
	key := packKey(run.places[0].pack)
	// A pack that was cut off has the chunks in front of the cut.
	got, fetchErr := r.store.readSome(ctx, key, stored, run.start, int(run.places[0].stored))
	for i, l := range run.places {
		ref := refs[i]
		err := fetchErr
		if err == nil {
			err = cutOff(key, run.start+int64(got), int64(l.offset)+int64(l.stored))
		}
		if err == nil {
			frame := stored[int64(l.offset)-run.start:][:l.stored]
			err = r.placeChunk(ctx, rd, ref, l, frame, p, at)
		}
		if err != nil {
			if err = r.placeElsewhere(ctx, ref, l, err, p, at); err != nil {
				return at, err
			}
		}
		at += ref.Span
	}
	return at, nil
}

// cutOff returns an error for a chunk that ends behind the byte to which its pack could be read.
func cutOff(key string, read, end int64) error {
	if end <= read {
		return nil
	}
	return corrupt(key, "it ends at byte %d, %d bytes before the end of the chunk", read, end-read)
}

// placeChunk decodes a chunk into p, directly where all of it belongs there.
func (r *Repository) placeChunk(ctx context.Context, rd *reader, ref Ref, l location, frame, p []byte, at int64) error {
	end := at + ref.Span
	if at >= 0 && end <= int64(len(p)) {
		_, err := r.decode(ctx, rd, nil, ref.ID, l, frame, p[at:at:end])
		return err
	}
	data, err := r.decode(ctx, rd, nil, ref.ID, l, frame, nil)
	if err != nil {
		return err
	}
	r.cache.put(ref.ID, data)
	copyAt(p, data, at)
	return nil
}

// placeElsewhere tries the other places of a chunk that could not be read from
// the first one, because of cause.
func (r *Repository) placeElsewhere(ctx context.Context, ref Ref, tried location, cause error, p []byte, at int64) error {
	data, err := r.readElsewhere(ctx, ref, tried, cause)
	if err != nil {
		return err
	}
	return placeWhole(ref, data, p, at)
}

// readElsewhere reads a chunk from other places than one that failed because of cause.
func (r *Repository) readElsewhere(ctx context.Context, ref Ref, tried location, cause error) ([]byte, error) {
	cause = chunkError(ref.ID, tried, cause)
	if ctx.Err() != nil {
		return nil, cause
	}
	misled := r.indexMisled(ctx, ref.ID)
	places, err := r.locate(ctx, ref.ID)
	if err != nil {
		return nil, cause
	}
	// The indexes may be newer by now than those that tried is from: another chunk of the same
	// stretch has had them read again, or another reader.
	if misled || slices.ContainsFunc(places, func(l location) bool { return l != tried }) {
		data, err := r.readFrom(ctx, ref.ID, places, nil)
		if err == nil {
			return data, nil
		}
		cause = errors.Join(cause, err)
	}
	now := r.moved(ctx, ref.ID, places, cause)
	if now == nil {
		return nil, cause
	}
	data, err := r.readFrom(ctx, ref.ID, now, nil)
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	return data, nil
}

// placeWhole copies a chunk's bytes to p, if they are as many as they should be.
func placeWhole(ref Ref, data, p []byte, at int64) error {
	err := checkSpan(ref, data)
	if err == nil {
		copyAt(p, data, at)
	}
	return err
}

// checkSpan fails if a chunk has not as many bytes as it should have.
func checkSpan(ref Ref, data []byte) error {
	if int64(len(data)) != ref.Span {
		return &ChunkError{ID: ref.ID, Err: fmt.Errorf("%w: it has %d bytes where %d are expected", ErrCorrupt, len(data), ref.Span)}
	}
	return nil
}

// copyAt copies data to p as if it began at offset at of p.
func copyAt(p, data []byte, at int64) {
	if at < 0 {
		data = data[-at:]
		at = 0
	}
	copy(p[at:], data)
}
