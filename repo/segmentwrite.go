package repo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// cacheFile is a file of the cache that is being written.
type cacheFile interface {
	io.Writer
	io.WriterAt
	io.Closer
	Sync() error
	Name() string
}

// writeBuffer is how much of each part of a segment is gathered before it is
// written, in bytes. It is a multiple of segmentBlock.
const writeBuffer = 64 * segmentBlock

// partWriter writes one part of a segment front to back, and notes the checksums
// of its blocks.
type partWriter struct {
	f    cacheFile
	at   int64
	buf  []byte
	sums []byte
	err  error
}

func (w *partWriter) append(p ...byte) {
	w.buf = append(w.buf, p...)
	if len(w.buf) >= writeBuffer {
		w.flush(len(w.buf) / segmentBlock * segmentBlock)
	}
}

func (w *partWriter) flush(n int) {
	for at := 0; at < n; at += segmentBlock {
		w.sums = binary.LittleEndian.AppendUint32(w.sums, crc32.Checksum(w.buf[at:at+segmentBlock], castagnoli))
	}
	if w.err == nil {
		_, w.err = w.f.WriteAt(w.buf[:n], w.at)
	}
	w.at += int64(n)
	w.buf = append(w.buf[:0], w.buf[n:]...)
}

// finish writes what is left, up to the end of a block.
func (w *partWriter) finish() error {
	if over := len(w.buf) % segmentBlock; over > 0 {
		w.buf = append(w.buf, make([]byte, segmentBlock-over)...)
	}
	w.flush(len(w.buf))
	return w.err
}

// bucketWriter writes starts and filter along with the records.
type bucketWriter struct {
	starts, filter partWriter
	buckets        uint64
	open           uint64 // the bucket that is being filled
	block          [filterBlock]byte
	records        uint32
}

// add enters a record. Records come in the order of their IDs.
func (w *bucketWriter) add(id []byte) {
	w.fill(bucketOf(id, w.buckets))
	filterAdd(w.block[:], id)
	w.records++
}

// fill closes buckets until the given one is open.
func (w *bucketWriter) fill(bucket uint64) {
	for w.open < bucket {
		w.filter.append(w.block[:]...)
		w.block = [filterBlock]byte{}
		w.open++
		w.start()
	}
}

// start notes that the open bucket begins with the next record.
func (w *bucketWriter) start() {
	w.starts.append(binary.LittleEndian.AppendUint32(nil, w.records)...)
}

func (w *bucketWriter) finish() error {
	w.fill(w.buckets)
	return errors.Join(w.starts.finish(), w.filter.finish())
}

// writeSegment writes a segment of all that the sources hold to f. It needs memory
// for the tables of packs and a few buffers.
func writeSegment(ctx context.Context, f cacheFile, repository [32]byte, sources []recordSource, covers []indexInfo) error {
	packs, records, err := mergeSources(sources)
	if err != nil {
		return err
	}
	var most int64
	for _, s := range sources {
		most += int64(s.count())
	}
	if most > maxSegmentRecords {
		return fmt.Errorf("repo: %d records are too many for one file of the index cache", most)
	}
	coverBytes := appendCovers(nil, covers)
	l := segmentLayout{
		coverBytes: int64(len(coverBytes)),
		packs:      int64(len(packs)),
		buckets:    int64(filterBuckets(int(most))),
		records:    most, // unless some are equal
	}
	l.place()
	sums := make([]byte, 4)
	part := partWriter{f: f, at: l.coversAt, buf: coverBytes}
	if err := part.finish(); err != nil {
		return err
	}
	sums = append(sums, part.sums...)
	part = partWriter{f: f, at: l.packsAt}
	for _, p := range packs {
		part.append(p.id[:]...)
		part.append(binary.LittleEndian.AppendUint64(nil, uint64(p.size))...)
	}
	if err := part.finish(); err != nil {
		return err
	}
	sums = append(sums, part.sums...)
	buckets := bucketWriter{
		starts:  partWriter{f: f, at: l.startsAt},
		filter:  partWriter{f: f, at: l.filterAt},
		buckets: uint64(l.buckets),
	}
	buckets.start()
	part = partWriter{f: f, at: l.recordsAt}
	l.records = 0
	for r, err := range records {
		if err != nil {
			return err
		}
		if l.records%(16<<10) == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		buckets.add(r[:32])
		part.append(r[:]...)
		l.records++
	}
	if err := errors.Join(buckets.finish(), part.finish()); err != nil {
		return err
	}
	sums = append(sums, buckets.starts.sums...)
	sums = append(sums, buckets.filter.sums...)
	sums = append(sums, part.sums...)
	l.place()
	if _, err := f.WriteAt(sums, l.sumsAt); err != nil {
		return err
	}
	_, err = f.WriteAt(l.appendHead(repository, crc32.Checksum(sums, castagnoli)), 0)
	return err
}

// syncFolder makes the entries of a folder durable, where the system can.
func syncFolder(path string) error {
	d, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
