package snapshot_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

// failingBucket returns a bucket in memory whose writes fail as fault says, while
// the switch it returns is on.
func failingBucket(t testing.TB, fault func(key string) error) (*blob.Bucket, *bool) {
	d := &failingDriver{inner: newBucket(t), fault: fault}
	b := blob.NewBucket(d)
	t.Cleanup(func() { b.Close() })
	return b, &d.on
}

type failingDriver struct {
	inner *blob.Bucket
	fault func(key string) error
	on    bool
}

func (d *failingDriver) ErrorCode(err error) gcerrors.ErrorCode { return gcerrors.Code(err) }
func (d *failingDriver) As(any) bool                            { return false }
func (d *failingDriver) ErrorAs(error, any) bool                { return false }
func (d *failingDriver) Close() error                           { return nil }

func (d *failingDriver) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	a, err := d.inner.Attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{Size: a.Size, ModTime: a.ModTime, ContentType: a.ContentType}, nil
}

func (d *failingDriver) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	page := &driver.ListPage{}
	it := d.inner.List(&blob.ListOptions{Prefix: opts.Prefix, Delimiter: opts.Delimiter})
	for {
		o, err := it.Next(ctx)
		if err == io.EOF {
			return page, nil
		}
		if err != nil {
			return nil, err
		}
		page.Objects = append(page.Objects, &driver.ListObject{Key: o.Key, Size: o.Size, ModTime: o.ModTime, IsDir: o.IsDir})
	}
}

func (d *failingDriver) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	r, err := d.inner.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return nil, err
	}
	return rangeReader{r}, nil
}

type rangeReader struct{ *blob.Reader }

func (r rangeReader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{ContentType: r.ContentType(), ModTime: r.ModTime(), Size: r.Size()}
}
func (r rangeReader) As(any) bool { return false }

func (d *failingDriver) NewTypedWriter(ctx context.Context, key, contentType string, opts *driver.WriterOptions) (driver.Writer, error) {
	w, err := d.inner.NewWriter(ctx, key, &blob.WriterOptions{ContentType: contentType, IfNotExist: opts.IfNotExist})
	if err != nil {
		return nil, err
	}
	fw := &failingWriter{Writer: w}
	if d.on {
		fw.err = d.fault(key)
	}
	return fw, nil
}

type failingWriter struct {
	*blob.Writer
	err error
}

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return len(p) / 2, w.err
	}
	return w.Writer.Write(p)
}

func (w *failingWriter) Close() error {
	if w.err != nil {
		return w.err
	}
	return w.Writer.Close()
}

func (d *failingDriver) Copy(context.Context, string, string, *driver.CopyOptions) error {
	return errors.ErrUnsupported
}

func (d *failingDriver) Delete(ctx context.Context, key string, _ *driver.DeleteOptions) error {
	return d.inner.Delete(ctx, key)
}

func (d *failingDriver) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", errors.ErrUnsupported
}
