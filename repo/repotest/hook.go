package repotest

import (
	"context"
	"errors"
	"sync/atomic"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

// Verb is a kind of request to a bucket.
type Verb string

// The verbs of a [Request].
const (
	VerbSize   Verb = "size"   // attributes are read
	VerbList   Verb = "list"   // a page of a listing; the key is the prefix
	VerbRead   Verb = "read"   // a reader is opened; the length is -1 for all that is left
	VerbWrite  Verb = "write"  // some bytes are given to a writer
	VerbCreate Verb = "create" // a writer is closed, which makes the object
	VerbDelete Verb = "delete"
)

// Request is one request to a [HookedBucket].
type Request struct {
	Verb Verb
	Key  string
	// Length is how many bytes a read asks for, a write gives, or a created object has.
	Length int64
}

// HookedBucket passes requests on to another bucket, once a function has seen them. It shows what a program does when
// its store is slow, breaks off or is full. It is safe for concurrent use.
type HookedBucket struct {
	*blob.Bucket
	d *hookDriver
}

// NewHooked returns a bucket in front of inner. Closing it leaves inner open.
func NewHooked(inner *blob.Bucket) *HookedBucket {
	d := &hookDriver{inner: inner}
	return &HookedBucket{blob.NewBucket(d), d}
}

// Hook sets what is called first in each request that begins from now on; nil calls nothing. The request fails with the
// error that it returns, without an effect. An object is made when its writer is closed: neither a refused write nor a
// refused creation leaves a part of one. f is called concurrently.
func (b *HookedBucket) Hook(f func(context.Context, Request) error) {
	if f == nil {
		b.d.hook.Store(nil)
		return
	}
	b.d.hook.Store(&f)
}

type hookDriver struct {
	inner *blob.Bucket
	hook  atomic.Pointer[func(context.Context, Request) error]
}

func (d *hookDriver) ask(ctx context.Context, r Request) error {
	if f := d.hook.Load(); f != nil {
		if err := (*f)(ctx, r); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (d *hookDriver) ErrorCode(err error) gcerrors.ErrorCode { return gcerrors.Code(err) }
func (d *hookDriver) As(any) bool                            { return false }
func (d *hookDriver) ErrorAs(err error, target any) bool     { return d.inner.ErrorAs(err, target) }
func (d *hookDriver) Close() error                           { return nil }

func (d *hookDriver) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	if err := d.ask(ctx, Request{VerbSize, key, 0}); err != nil {
		return nil, err
	}
	a, err := d.inner.Attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{ContentType: a.ContentType, Metadata: a.Metadata, Size: a.Size, ModTime: a.ModTime, MD5: a.MD5, ETag: a.ETag}, nil
}

func (d *hookDriver) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	if err := d.ask(ctx, Request{VerbList, opts.Prefix, 0}); err != nil {
		return nil, err
	}
	token, size := opts.PageToken, opts.PageSize
	if len(token) == 0 {
		token = blob.FirstPageToken
	}
	if size == 0 {
		size = 1000
	}
	objects, next, err := d.inner.ListPage(ctx, token, size, &blob.ListOptions{Prefix: opts.Prefix, Delimiter: opts.Delimiter})
	if err != nil {
		return nil, err
	}
	page := &driver.ListPage{NextPageToken: next}
	for _, o := range objects {
		page.Objects = append(page.Objects, &driver.ListObject{Key: o.Key, ModTime: o.ModTime, Size: o.Size, MD5: o.MD5, IsDir: o.IsDir})
	}
	return page, nil
}

func (d *hookDriver) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	if err := d.ask(ctx, Request{VerbRead, key, length}); err != nil {
		return nil, err
	}
	r, err := d.inner.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return nil, err
	}
	return hookReader{r}, nil
}

type hookReader struct{ *blob.Reader }

func (r hookReader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{ContentType: r.ContentType(), ModTime: r.ModTime(), Size: r.Size()}
}

func (hookReader) As(any) bool { return false }

func (d *hookDriver) NewTypedWriter(ctx context.Context, key, contentType string, opts *driver.WriterOptions) (driver.Writer, error) {
	return &hookWriter{d: d, ctx: ctx, key: key, opts: blob.WriterOptions{
		ContentType: contentType, DisableContentTypeDetection: true, IfNotExist: opts.IfNotExist, Metadata: opts.Metadata,
	}}, nil
}

// hookWriter keeps an object until it is closed: what is refused must leave nothing.
type hookWriter struct {
	d    *hookDriver
	ctx  context.Context
	key  string
	opts blob.WriterOptions
	data []byte
	err  error // of a write that was refused
}

func (w *hookWriter) Write(p []byte) (int, error) {
	if w.err == nil {
		w.err = w.d.ask(w.ctx, Request{VerbWrite, w.key, int64(len(p))})
	}
	if w.err != nil {
		return 0, w.err
	}
	w.data = append(w.data, p...)
	return len(p), nil
}

func (w *hookWriter) Close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.d.ask(w.ctx, Request{VerbCreate, w.key, int64(len(w.data))}); err != nil {
		return err
	}
	out, err := w.d.inner.NewWriter(w.ctx, w.key, &w.opts)
	if err != nil {
		return err
	}
	_, err = out.Write(w.data)
	return errors.Join(err, out.Close())
}

func (d *hookDriver) Copy(context.Context, string, string, *driver.CopyOptions) error {
	return errors.ErrUnsupported
}

func (d *hookDriver) Delete(ctx context.Context, key string, _ *driver.DeleteOptions) error {
	if err := d.ask(ctx, Request{VerbDelete, key, 0}); err != nil {
		return err
	}
	return d.inner.Delete(ctx, key)
}

func (d *hookDriver) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", errors.ErrUnsupported
}
