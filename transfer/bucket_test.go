package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"
)

// request is one request to a hookDriver.
type request struct {
	verb, key string
	size      int64
}

// hookDriver is a bucket in memory whose requests can be counted, held up and refused.
type hookDriver struct {
	inner *blob.Bucket
	// before is called first in each request; its error is the answer. May be nil.
	before atomic.Pointer[func(context.Context, request) error]
	// read and written count bytes, requests requests.
	read, written, requests atomic.Int64
}

func newHookDriver(t testing.TB) (*hookDriver, *blob.Bucket) {
	d := &hookDriver{inner: memblob.OpenBucket(nil)}
	b := blob.NewBucket(d)
	t.Cleanup(func() { b.Close(); d.inner.Close() })
	return d, b
}

func (d *hookDriver) hook(f func(context.Context, request) error) {
	if f == nil {
		d.before.Store(nil)
		return
	}
	d.before.Store(&f)
}

func (d *hookDriver) ask(ctx context.Context, r request) error {
	d.requests.Add(1)
	if f := d.before.Load(); f != nil {
		if err := (*f)(ctx, r); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (d *hookDriver) ErrorCode(err error) gcerrors.ErrorCode { return gcerrors.Code(err) }
func (d *hookDriver) As(any) bool                            { return false }
func (d *hookDriver) ErrorAs(error, any) bool                { return false }
func (d *hookDriver) Close() error                           { return nil }

func (d *hookDriver) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	if err := d.ask(ctx, request{"size", key, 0}); err != nil {
		return nil, err
	}
	a, err := d.inner.Attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{Size: a.Size, ModTime: a.ModTime, ContentType: a.ContentType}, nil
}

func (d *hookDriver) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	if err := d.ask(ctx, request{"list", opts.Prefix, 0}); err != nil {
		return nil, err
	}
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

func (d *hookDriver) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	if err := d.ask(ctx, request{"read", key, length}); err != nil {
		return nil, err
	}
	r, err := d.inner.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return nil, err
	}
	return hookReader{r, d}, nil
}

type hookReader struct {
	*blob.Reader
	d *hookDriver
}

func (r hookReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.d.read.Add(int64(n))
	return n, err
}

func (r hookReader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{ContentType: r.ContentType(), ModTime: r.ModTime(), Size: r.Size()}
}
func (r hookReader) As(any) bool { return false }

func (d *hookDriver) NewTypedWriter(ctx context.Context, key, contentType string, opts *driver.WriterOptions) (driver.Writer, error) {
	return &hookWriter{d: d, ctx: ctx, key: key, exclusive: opts.IfNotExist}, nil
}

type hookWriter struct {
	d         *hookDriver
	ctx       context.Context
	key       string
	exclusive bool
	data      []byte
}

func (w *hookWriter) Write(p []byte) (int, error) {
	w.data = append(w.data, p...)
	return len(p), nil
}

func (w *hookWriter) Close() error {
	if err := w.d.ask(w.ctx, request{"create", w.key, int64(len(w.data))}); err != nil {
		return err
	}
	out, err := w.d.inner.NewWriter(w.ctx, w.key, &blob.WriterOptions{IfNotExist: w.exclusive, DisableContentTypeDetection: true, ContentType: "x"})
	if err != nil {
		return err
	}
	n, err := out.Write(w.data)
	w.d.written.Add(int64(n))
	return errors.Join(err, out.Close())
}

func (d *hookDriver) Copy(context.Context, string, string, *driver.CopyOptions) error {
	return errors.ErrUnsupported
}

func (d *hookDriver) Delete(ctx context.Context, key string, _ *driver.DeleteOptions) error {
	if err := d.ask(ctx, request{"delete", key, 0}); err != nil {
		return err
	}
	return d.inner.Delete(ctx, key)
}

func (d *hookDriver) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", errors.ErrUnsupported
}

// nth refuses the n-th request of a kind, counted from 0, and all after it if onward is
// set.
func nth(n int64, onward bool, err error, picks func(request) bool) (hook func(context.Context, request) error, hit *atomic.Bool) {
	var seen atomic.Int64
	hit = new(atomic.Bool)
	return func(_ context.Context, r request) error {
		if !picks(r) {
			return nil
		}
		at := seen.Add(1) - 1
		if at == n || onward && at > n {
			hit.Store(true)
			return fmt.Errorf("%s %s: %w", r.verb, r.key, err)
		}
		return nil
	}, hit
}

func isPack(r request) bool { return strings.HasPrefix(r.key, "pack/") }
