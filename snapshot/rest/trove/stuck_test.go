package trove_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"
)

// stuckBucket is a bucket in memory that deletes no snapshot while stuck is set.
type stuckBucket struct {
	inner *blob.Bucket
	stuck atomic.Bool
}

func (d *stuckBucket) ErrorCode(err error) gcerrors.ErrorCode { return gcerrors.Code(err) }
func (d *stuckBucket) As(any) bool                            { return false }
func (d *stuckBucket) ErrorAs(error, any) bool                { return false }
func (d *stuckBucket) Close() error                           { return d.inner.Close() }

func (d *stuckBucket) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	a, err := d.inner.Attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{Size: a.Size, ModTime: a.ModTime, ContentType: a.ContentType}, nil
}

func (d *stuckBucket) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
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

type stuckReader struct{ *blob.Reader }

func (r stuckReader) As(any) bool { return false }
func (r stuckReader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{ContentType: r.ContentType(), ModTime: r.ModTime(), Size: r.Size()}
}

func (d *stuckBucket) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	r, err := d.inner.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return nil, err
	}
	return stuckReader{r}, nil
}

func (d *stuckBucket) NewTypedWriter(ctx context.Context, key, contentType string, opts *driver.WriterOptions) (driver.Writer, error) {
	return d.inner.NewWriter(ctx, key, &blob.WriterOptions{ContentType: contentType, IfNotExist: opts.IfNotExist})
}

func (d *stuckBucket) Copy(context.Context, string, string, *driver.CopyOptions) error {
	return errors.ErrUnsupported
}

func (d *stuckBucket) Delete(ctx context.Context, key string, _ *driver.DeleteOptions) error {
	if d.stuck.Load() && strings.HasPrefix(key, "snapshot/") {
		return errors.New("the store does not let go of it")
	}
	return d.inner.Delete(ctx, key)
}

func (d *stuckBucket) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", errors.ErrUnsupported
}

// What cannot be deleted says so, and can be deleted later.
func TestDeleteFails(t *testing.T) {
	d := &stuckBucket{inner: memblob.OpenBucket(nil)}
	bucket := blob.NewBucket(d)
	t.Cleanup(func() { bucket.Close() })
	f := newFixtureOn(t, bucket, nil)
	root := f.completed("root", nil)
	child := f.completed("child", map[string]any{"parent_id": root})
	d.stuck.Store(true)
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+root, nil)
	if got := f.wait(child); got["status"] != "DELETE_FAILED" {
		t.Errorf("%v", got)
	}
	if got := f.wait(root); got["status"] != "COMPLETED" {
		t.Errorf("%v", got)
	}
	f.open()
	if got := f.wait(child); got["status"] != "DELETE_FAILED" {
		t.Errorf("after a restart: %v", got)
	}
	d.stuck.Store(false)
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+root, nil)
	if r := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil); r.names() != "" {
		t.Error(r.raw)
	}
}
