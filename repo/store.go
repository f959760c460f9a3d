package repo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// store is the bucket as the rest of the package uses it: whole objects and
// ranges, with errors that name the key.
type store struct {
	bucket *blob.Bucket
}

// errKeyExists means that a conditional create lost to another writer.
var errKeyExists = errors.New("key exists already")

// errKeyMissing means that the bucket says there is no such key.
var errKeyMissing = errors.New("key does not exist")

// objectError names the key and keeps both the cause and what it means here, so
// that callers can ask for either.
func objectError(verb, key string, err error) error {
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return fmt.Errorf("repo: %s %s: %w: %w", verb, key, errKeyMissing, err)
	case gcerrors.FailedPrecondition:
		return fmt.Errorf("repo: %s %s: %w: %w", verb, key, errKeyExists, err)
	}
	return fmt.Errorf("repo: %s %s: %w", verb, key, err)
}

// create writes an object that must not exist yet. The object is durable when
// create returns nil. It fails with errKeyExists when the key is taken.
func (s store) create(ctx context.Context, key string, data []byte) error {
	// Upload takes the bytes without hashing them twice, and cancelling its
	// context before the end is what discards a half-written object.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := s.bucket.NewWriter(ctx, key, &blob.WriterOptions{
		IfNotExist:                  true,
		ContentType:                 "application/octet-stream",
		DisableContentTypeDetection: true,
	})
	if err != nil {
		return objectError("create", key, err)
	}
	if _, err := w.Write(data); err != nil {
		cancel()
		return objectError("create", key, errors.Join(err, ignoreCancelled(w.Close())))
	}
	if err := w.Close(); err != nil {
		return objectError("create", key, err)
	}
	return nil
}

// ignoreCancelled drops the error that a writer reports when its own context was
// cancelled on purpose.
func ignoreCancelled(err error) error {
	if errors.Is(err, context.Canceled) || gcerrors.Code(err) == gcerrors.Canceled {
		return nil
	}
	return err
}

// readAll returns the whole object. An object larger than limit bytes is an
// error: nothing is allocated for it.
func (s store) readAll(ctx context.Context, key string, limit int64) ([]byte, error) {
	r, err := s.bucket.NewReader(ctx, key, nil)
	if err != nil {
		return nil, objectError("read", key, err)
	}
	defer r.Close()
	if r.Size() > limit {
		return nil, corrupt(key, "its %d bytes are more than the %d allowed", r.Size(), limit)
	}
	data := make([]byte, r.Size())
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, s.explain(ctx, key, r.Size(), err)
	}
	return data, nil
}

// readRange fills p from the object's bytes at offset.
func (s store) readRange(ctx context.Context, key string, p []byte, offset int64) error {
	r, err := s.bucket.NewRangeReader(ctx, key, offset, int64(len(p)), nil)
	if err != nil {
		return s.explain(ctx, key, offset+int64(len(p)), err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, p); err != nil {
		return s.explain(ctx, key, offset+int64(len(p)), err)
	}
	return nil
}

// readSome fills p from the object's bytes at offset, as far as there are any, and
// returns how many there were. Fewer than atLeast are an error.
func (s store) readSome(ctx context.Context, key string, p []byte, offset int64, atLeast int) (int, error) {
	r, err := s.bucket.NewRangeReader(ctx, key, offset, int64(len(p)), nil)
	if err != nil {
		return 0, s.explain(ctx, key, offset+int64(atLeast), err)
	}
	defer r.Close()
	n, err := io.ReadFull(r, p)
	if err == nil || n >= atLeast && (err == io.ErrUnexpectedEOF || err == io.EOF) {
		return n, nil
	}
	return n, s.explain(ctx, key, offset+int64(atLeast), err)
}

// explain turns the failure to read an object up to a byte into an error that says
// whether the object is shorter than that. A connection that breaks looks the same
// to a reader, and stores differ in what they say of a range that is not there.
func (s store) explain(ctx context.Context, key string, end int64, err error) error {
	if out := objectError("read", key, err); errors.Is(out, errKeyMissing) || ctx.Err() != nil {
		return out
	}
	attrs, attrsErr := s.bucket.Attributes(ctx, key)
	if attrsErr == nil && attrs.Size < end {
		return corrupt(key, "it ends at byte %d, %d bytes before the end of what was read", attrs.Size, end-attrs.Size)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // the end of a stream is no error to most callers
	}
	return objectError("read", key, err)
}

// remove deletes an object; one that is not there is no error.
func (s store) remove(ctx context.Context, key string) error {
	if err := s.bucket.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return objectError("delete", key, err)
	}
	return nil
}

// object is one line of a listing.
type object struct {
	key  string
	size int64
}

// list calls yield with every object below prefix, in key order, until it
// returns an error.
func (s store) list(ctx context.Context, prefix string, yield func(object) error) error {
	it := s.bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		obj, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return objectError("list", prefix, err)
		}
		if obj.IsDir {
			continue
		}
		if err := yield(object{obj.Key, obj.Size}); err != nil {
			return err
		}
	}
}
