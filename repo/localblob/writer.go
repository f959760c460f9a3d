package localblob

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"gocloud.dev/blob/driver"
)

const (
	copyBufferSize  = 1 << 20  // bytes; one read and one write each in Upload
	maxWriterBuffer = 16 << 20 // bytes; bounds WriterOptions.BufferSize
)

// writer puts one object into the bucket. What Close does is drawn here and pinned by TestWriteTrace:
//
//	mkdirat(".%tmp")                        once
//	openat(".%tmp/RANDOM", O_CREAT|O_EXCL)  in NewTypedWriter
//	flock(LOCK_EX|LOCK_NB)                  tells living writers from dead ones
//	write...                                content, then attributes if there are any
//	fsync(FILE)                             content before name
//	close(FILE)
//	mkdirat(A); fsync(".")                  for each folder of the key, from the top, the first time it is used
//	mkdirat(A/B); fsync(A)
//	linkat(".%tmp/RANDOM", A/B/KEY)         with IfNotExist; EEXIST is the lost race
//	   or renameat(".%tmp/RANDOM", A/B/KEY)
//	fsync(A/B)                              only now is the write acknowledged
//	unlinkat(".%tmp/RANDOM")                after linkat
//
// An error before linkat or renameat leaves the key as it was. A failed fsync is never tried again: the kernel may
// have dropped the pages and would report success. One goroutine uses a writer at a time.
type writer struct {
	b          *bucket
	ctx        context.Context
	key, name  string
	ifNotExist bool
	raw        bool // what is written carries its attributes already
	attrs      storedAttributes

	f      *os.File
	temp   string
	buffer int           // the size of the buffer that the caller asked for, in bytes, 0 if none
	buf    *bufio.Writer // nil before the first small write
	size   int64
	tail   []byte // the last bytes written, at most len(attrMagic)
	err    error  // the first failure; Close then discards
	closed bool
}

// NewTypedWriter implements driver.Bucket.
func (b *bucket) NewTypedWriter(ctx context.Context, key, contentType string, opts *driver.WriterOptions) (driver.Writer, error) {
	w, err := b.newWriter(ctx, key)
	if err != nil {
		return nil, err
	}
	w.ifNotExist = opts.IfNotExist
	w.attrs = newStoredAttributes(contentType, opts)
	w.buffer = min(opts.BufferSize, maxWriterBuffer)
	if opts.BeforeWrite != nil {
		if err := opts.BeforeWrite(asFile(w.f)); err != nil {
			w.fail(err)
			_ = w.Close()
			return nil, err
		}
	}
	return w, nil
}

// newWriter opens a temporary file for the key.
func (b *bucket) newWriter(ctx context.Context, key string) (*writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, err := pathOfKey(key)
	if err != nil {
		return nil, err
	}
	if err := b.retain(); err != nil {
		return nil, err
	}
	w := &writer{b: b, ctx: ctx, key: key, name: name, temp: tempDir + "/" + rand.Text()}
	w.f, err = b.ops.create(b.root, w.temp, b.fileMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err = b.ops.mkdir(b.root, tempDir, b.dirMode); err == nil || errors.Is(err, fs.ErrExist) {
			w.f, err = b.ops.create(b.root, w.temp, b.fileMode)
		}
	}
	if err != nil {
		_ = b.ops.remove(b.root, w.temp) // an error does not prove that there is no file
		b.release()
		return nil, err
	}
	// Without a lock the file is only protected by its age, which is enough: see removeStranded.
	_ = b.ops.lock(w.f)
	return w, nil
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Write implements driver.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.closed {
		return 0, fs.ErrClosed
	}
	if w.err == nil {
		w.fail(w.ctx.Err())
	}
	if w.err != nil {
		return 0, w.err
	}
	var n int
	var err error
	// A write that is large itself needs no buffer. To make one for it would cost as much memory as the object
	// takes, and a copy.
	if w.buf == nil && w.buffer > 0 && len(p) < copyBufferSize {
		w.buf = bufio.NewWriterSize(writerFunc(w.writeFile), w.buffer)
	}
	if w.buf != nil {
		n, err = w.buf.Write(p)
	} else {
		n, err = w.writeFile(p)
	}
	w.size += int64(n)
	w.keepTail(p[:n])
	if err != nil {
		w.fail(err)
	}
	return n, err
}

func (w *writer) writeFile(p []byte) (int, error) {
	n, err := w.b.ops.write(w.f, p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

func (w *writer) keepTail(p []byte) {
	if len(p) >= len(attrMagic) {
		w.tail = append(w.tail[:0], p[len(p)-len(attrMagic):]...)
		return
	}
	w.tail = append(w.tail, p...)
	if extra := len(w.tail) - len(attrMagic); extra > 0 {
		w.tail = append(w.tail[:0], w.tail[extra:]...)
	}
}

// Upload implements driver.Uploader. An error of r discards the object; without this method blob.Bucket.Upload would
// close the writer after such an error and so publish the part that was read. Errors are returned by Close, never here:
// blob.Bucket gives a code and the key to those of Close only.
func (w *writer) Upload(r io.Reader) error {
	pooled, ok := w.b.buffers.Get().(*[]byte)
	if !ok {
		b := make([]byte, copyBufferSize)
		pooled = &b
	}
	defer w.b.buffers.Put(pooled)
	buf := *pooled
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return nil
			}
		}
		if rerr == io.EOF {
			return nil
		}
		if rerr == nil && n == 0 {
			rerr = w.ctx.Err() // a reader that gives nothing must not hold a cancelled write
		}
		if rerr != nil {
			w.fail(rerr)
			return nil
		}
	}
}

// Close implements driver.Writer. It publishes the object, or discards it after any earlier error or if the context
// has ended. Nothing temporary is left in either case.
func (w *writer) Close() error {
	if w.closed {
		return fs.ErrClosed
	}
	w.closed = true
	defer w.b.release()
	if w.err == nil {
		w.fail(w.ctx.Err())
	}
	if w.err == nil {
		w.fail(w.complete())
	}
	if w.f != nil {
		if err := w.b.ops.close(w.f); err != nil {
			w.fail(err)
		}
		w.f = nil
	}
	if w.err == nil {
		w.fail(w.publish())
	}
	if w.temp != "" {
		// After linkat this only drops the second name. If it fails, a later OpenBucket removes the file.
		_ = w.b.ops.remove(w.b.root, w.temp)
	}
	return w.err
}

// complete writes what is buffered and the attributes, and makes the file's bytes durable.
func (w *writer) complete() error {
	if w.buf != nil {
		if err := w.buf.Flush(); err != nil {
			return err
		}
	}
	mistakable := looksAttributed(w.size) && string(w.tail) == attrMagic
	if !w.raw && (!w.attrs.plain() || mistakable) {
		tail, err := w.attrs.encode(w.size)
		if err != nil {
			return err
		}
		if _, err := w.writeFile(tail); err != nil {
			return err
		}
	}
	return w.b.ops.syncFile(w.f)
}

// publish gives the complete file its name and makes the name durable.
func (w *writer) publish() error {
	folder := parentOf(w.name)
	err := w.place(folder)
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody removed a folder that was known to be there. Once: a second time is an error.
		w.b.folders.clear()
		err = w.place(folder)
	}
	if err != nil {
		return w.placeError(err)
	}
	if !w.ifNotExist {
		w.temp = "" // renamed away
	}
	if err := w.b.ops.syncDir(w.b.root, folder); err != nil {
		return fmt.Errorf("%w: sync of the folder after writing: %w", ErrUncertain, err)
	}
	return nil
}

func (w *writer) place(folder string) error {
	if err := w.b.ensureFolder(folder); err != nil {
		return err
	}
	// The last look before the point of no return.
	if err := w.ctx.Err(); err != nil {
		return err
	}
	var err error
	if w.ifNotExist {
		err = w.b.ops.link(w.b.root, w.temp, w.name)
		if errors.Is(err, fs.ErrExist) && w.placedAlready() {
			err = nil
		}
	} else {
		err = w.b.ops.rename(w.b.root, w.temp, w.name)
	}
	if errors.Is(err, syscall.EIO) {
		err = fmt.Errorf("%w: %w", ErrUncertain, err) // it may have been done nevertheless
	}
	return err
}

// placedAlready tells a lost race from a link that was made but whose answer was lost, as happens over NFS: the second
// request then finds the first one's work.
func (w *writer) placedAlready() bool {
	ours, err := w.b.root.Lstat(w.temp)
	if err != nil {
		return false
	}
	theirs, err := w.b.root.Lstat(w.name)
	return err == nil && os.SameFile(ours, theirs)
}

// placeError tells a lost race from a folder or an object that stands in the way.
func (w *writer) placeError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return &KeyError{Key: w.key, Reason: "a shorter key, cut at a slash, is an object already", Err: ErrKeyConflict}
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", errInterfered, err)
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.EISDIR):
		if info, serr := w.b.root.Lstat(w.name); serr == nil && info.IsDir() {
			return &KeyError{Key: w.key, Reason: "the key followed by a slash begins other keys", Err: ErrKeyConflict}
		}
		if w.ifNotExist {
			return fmt.Errorf("%w: %w", ErrExists, err)
		}
	}
	return err
}
