package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

// op is one request to a testDriver.
type op struct {
	kind           string // create, read, size, list or delete
	key            string
	offset, length int64
}

func (o op) String() string { return o.kind + " " + o.key }

// testDriver is a bucket in memory that records what is asked of it and can be
// told to fail, before or after a request has had its effect. Listings come in
// pages of three.
type testDriver struct {
	mu      sync.Mutex
	objects map[string][]byte // the values are never written to
	log     []op

	// schedule, if set, decides when each request has its effect, and what its answer is.
	schedule func(ctx context.Context, o op, effect func() error) error
	// before and after are called without mu; an error is the request's answer.
	before, after hook
}

// hook is what a test puts in the way of requests. It may be changed while some are under way.
type hook struct {
	f atomic.Pointer[func(context.Context, op) error]
}

// set takes nil for none.
func (h *hook) set(f func(context.Context, op) error) { h.f.Store(&f) }

func (h *hook) call(ctx context.Context, o op) error {
	if f := h.f.Load(); f != nil && *f != nil {
		return (*f)(ctx, o)
	}
	return nil
}

func newTestDriver() *testDriver { return &testDriver{objects: make(map[string][]byte)} }

func (d *testDriver) bucket(t testing.TB) *blob.Bucket {
	b := blob.NewBucket(d)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (d *testDriver) copy() *testDriver {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &testDriver{objects: maps.Clone(d.objects)}
}

func (d *testDriver) keys(prefix string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for k := range d.objects {
		if strings.HasPrefix(k, prefix) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func (d *testDriver) get(key string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.objects[key]
}

func (d *testDriver) put(key string, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.objects[key] = data
}

func (d *testDriver) remove(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.objects, key)
}

// take returns what was asked since the last take.
func (d *testDriver) take() []op {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.log
	d.log = nil
	return out
}

var (
	errNoObject = errors.New("no such object")
	errTaken    = errors.New("object exists")
)

// do runs one request.
func (d *testDriver) do(ctx context.Context, o op, effect func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.schedule != nil {
		return d.schedule(ctx, o, func() error {
			d.mu.Lock()
			defer d.mu.Unlock()
			return effect()
		})
	}
	d.mu.Lock()
	d.log = append(d.log, o)
	d.mu.Unlock()
	if err := d.before.call(ctx, o); err != nil {
		return err
	}
	d.mu.Lock()
	err := effect()
	d.mu.Unlock()
	if err == nil {
		err = d.after.call(ctx, o)
	}
	return err
}

func (d *testDriver) ErrorCode(err error) gcerrors.ErrorCode {
	switch {
	case errors.Is(err, errNoObject):
		return gcerrors.NotFound
	case errors.Is(err, errTaken):
		return gcerrors.FailedPrecondition
	case errors.Is(err, context.Canceled):
		return gcerrors.Canceled
	}
	return gcerrors.Unknown
}

func (d *testDriver) As(any) bool             { return false }
func (d *testDriver) ErrorAs(error, any) bool { return false }
func (d *testDriver) Close() error            { return nil }

func (d *testDriver) Copy(context.Context, string, string, *driver.CopyOptions) error {
	return errors.ErrUnsupported
}

func (d *testDriver) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", errors.ErrUnsupported
}

func (d *testDriver) Attributes(ctx context.Context, key string) (attrs *driver.Attributes, err error) {
	err = d.do(ctx, op{kind: "size", key: key}, func() error {
		data, ok := d.objects[key]
		if !ok {
			return errNoObject
		}
		attrs = &driver.Attributes{Size: int64(len(data)), ModTime: time.Unix(1, 0).UTC()}
		return nil
	})
	return attrs, err
}

func (d *testDriver) ListPaged(ctx context.Context, opts *driver.ListOptions) (page *driver.ListPage, err error) {
	if opts.Delimiter != "" {
		return nil, errors.ErrUnsupported
	}
	err = d.do(ctx, op{kind: "list", key: opts.Prefix}, func() error {
		page = &driver.ListPage{}
		for _, key := range slices.Sorted(maps.Keys(d.objects)) {
			if !strings.HasPrefix(key, opts.Prefix) || key <= string(opts.PageToken) {
				continue
			}
			if len(page.Objects) == 3 {
				page.NextPageToken = []byte(page.Objects[2].Key)
				break
			}
			page.Objects = append(page.Objects, &driver.ListObject{Key: key, Size: int64(len(d.objects[key]))})
		}
		return nil
	})
	return page, err
}

func (d *testDriver) NewRangeReader(ctx context.Context, key string, offset, length int64, opts *driver.ReaderOptions) (r driver.Reader, err error) {
	err = d.do(ctx, op{"read", key, offset, length}, func() error {
		data, ok := d.objects[key]
		if !ok {
			return errNoObject
		}
		size := int64(len(data))
		if offset > size {
			return fmt.Errorf("range %d is not satisfiable", offset)
		}
		data = data[offset:]
		if length >= 0 && length < int64(len(data)) {
			data = data[:length]
		}
		r = &testReader{bytes.NewReader(data), size}
		return nil
	})
	return r, err
}

type testReader struct {
	*bytes.Reader
	size int64
}

func (r *testReader) Close() error { return nil }
func (r *testReader) As(any) bool  { return false }
func (r *testReader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{Size: r.size}
}

func (d *testDriver) NewTypedWriter(ctx context.Context, key, _ string, opts *driver.WriterOptions) (driver.Writer, error) {
	return &testWriter{d: d, ctx: ctx, key: key, exclusive: opts.IfNotExist}, nil
}

type testWriter struct {
	d         *testDriver
	ctx       context.Context
	key       string
	exclusive bool
	buf       []byte
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	return len(p), nil
}

func (w *testWriter) Close() error {
	return w.d.do(w.ctx, op{"create", w.key, 0, int64(len(w.buf))}, func() error {
		if _, ok := w.d.objects[w.key]; ok && w.exclusive {
			return errTaken
		}
		w.d.objects[w.key] = w.buf
		return nil
	})
}

func (d *testDriver) Delete(ctx context.Context, key string, opts *driver.DeleteOptions) error {
	return d.do(ctx, op{kind: "delete", key: key}, func() error {
		if _, ok := d.objects[key]; !ok {
			return errNoObject
		}
		delete(d.objects, key)
		return nil
	})
}

var (
	_ driver.Bucket = (*testDriver)(nil)
	_ io.Reader     = (*testReader)(nil)
)

// pathError is what a file system reports.
func pathError(o op, err error) error { return &fs.PathError{Op: o.kind, Path: o.key, Err: err} }
