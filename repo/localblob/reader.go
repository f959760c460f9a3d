package localblob

import (
	"context"
	"io"
	"os"

	"gocloud.dev/blob/driver"
)

// reader reads one range of one object. The file it holds never changes: a write to the key replaces the file. One
// goroutine uses it at a time.
type reader struct {
	ctx      context.Context
	f        *os.File
	off, end int64
	attrs    driver.ReaderAttributes
}

// downloadStep is how much Download moves between two looks at the context.
const downloadStep = 16 << 20 // bytes

// NewRangeReader implements driver.Bucket. A range that starts past the end reads as empty, as it does for a file.
func (b *bucket) NewRangeReader(ctx context.Context, key string, offset, length int64, opts *driver.ReaderOptions) (driver.Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, err := pathOfKey(key)
	if err != nil {
		return nil, err
	}
	f, info, err := b.openObject(name)
	if err != nil {
		return nil, err
	}
	size, attrs, err := readAttributes(f, info.Size())
	if err == nil && opts.BeforeRead != nil {
		err = opts.BeforeRead(asFile(f))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	end := size
	if length >= 0 && length < size-offset {
		end = offset + length
	}
	return &reader{ctx: ctx, f: f, off: offset, end: end, attrs: driver.ReaderAttributes{
		ContentType: attrs.contentType(),
		ModTime:     info.ModTime().UTC(),
		Size:        size,
	}}, nil
}

// asFile hands out the open file. Behind the content the file may hold attributes.
func asFile(f *os.File) func(any) bool {
	return func(target any) bool {
		p, ok := target.(**os.File)
		if ok && p != nil {
			*p = f
		}
		return ok && p != nil
	}
}

// Read implements driver.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.off >= r.end {
		return 0, io.EOF
	}
	if int64(len(p)) > r.end-r.off {
		p = p[:r.end-r.off]
	}
	n, err := r.f.ReadAt(p, r.off)
	r.off += int64(n)
	if err == io.EOF && r.off < r.end {
		err = io.ErrUnexpectedEOF // somebody cut the file while it was open
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}

// Download implements driver.Downloader; it lets the kernel copy where source and target allow it.
func (r *reader) Download(w io.Writer) error {
	if _, err := r.f.Seek(r.off, io.SeekStart); err != nil {
		return err
	}
	for r.off < r.end {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(w, r.f, min(downloadStep, r.end-r.off))
		r.off += n
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Close implements driver.Reader.
func (r *reader) Close() error { return r.f.Close() }

// Attributes implements driver.Reader.
func (r *reader) Attributes() *driver.ReaderAttributes { return &r.attrs }

// As implements driver.Reader for **os.File.
func (r *reader) As(target any) bool { return asFile(r.f)(target) }
