package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
	"golang.org/x/time/rate"
)

// store is the bucket as the rest of the package uses it: whole objects and
// ranges, with errors that name the key. Nothing else talks to the bucket.
type store struct {
	bucket *blob.Bucket
	// write is how the bucket's driver wants objects written.
	write   WriteHints
	retry   Retry
	reading *rate.Limiter
	writing *rate.Limiter
	traffic *trafficCounter
	log     *slog.Logger
	// keys seal what create writes and open what readAll reads; nil seals nothing. Ranges
	// are those of what is stored.
	keys *keyring
}

// newStore takes options that have their defaults.
func newStore(bucket *blob.Bucket, opts Options) store {
	return store{
		bucket: bucket, write: drivers.writeHints(bucket), retry: opts.Retry,
		reading: opts.ReadLimiter, writing: opts.WriteLimiter,
		traffic: new(trafficCounter), log: opts.Logger,
	}
}

// errKeyExists means that a conditional create lost to another writer.
var errKeyExists = errors.New("key exists already")

// errKeyMissing means that the bucket says there is no such key.
var errKeyMissing = errors.New("key does not exist")

// errNoSize means that the store answers a read without the length of the object.
var errNoSize = errors.New("the store does not say how long the object is, and so cannot hold a repository")

// errSamePage means that a listing would go on for ever.
var errSamePage = errors.New("the store sends the same page again and again, and so cannot hold a repository")

// create writes an object that must not exist yet. The object is durable when
// create returns nil. It fails with errKeyExists when the key is taken. Other
// failures leave open whether the object was written.
func (s store) create(ctx context.Context, key string, data []byte) error {
	data = s.keys.sealObject(key, data)
	q := request{"create", key, int64(len(data)), s.writing}
	return s.try(ctx, q, func(ctx context.Context, failures int) error {
		err := s.put(ctx, key, data)
		class := classify(err)
		if failures == 0 || class != ClassExists && class != ClassUnavailable {
			return err
		}
		// It may be that an attempt before this one took effect, and only its answer was
		// lost. Where this cannot be found out, nobody must hear that the key is another's.
		// And a server that refuses an object may break the connection while the rest of it
		// is still being sent: then the refusal looks like a bad line every time.
		got, readErr := s.readOnce(ctx, key, int64(len(data)))
		damage := (*CorruptError)(nil)
		other := readErr == nil || errors.As(readErr, &damage)
		switch {
		case readErr == nil && bytes.Equal(got, data):
			return nil
		case class == ClassExists && !other:
			return readErr
		case class == ClassUnavailable && other:
			return fmt.Errorf("%w: %w", errKeyExists, err)
		}
		return err
	})
}

// put is one attempt to create.
func (s store) put(ctx context.Context, key string, data []byte) (err error) {
	// Cancelling its context before the end is what discards a half-written object.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opts := &blob.WriterOptions{
		IfNotExist:                  true,
		ContentType:                 "application/octet-stream",
		DisableContentTypeDetection: true,
		// One request, not parts: either all of an object appears or nothing.
		BufferSize:     len(data) + 1,
		MaxConcurrency: 1,
	}
	body := data
	if s.write.Prepare != nil {
		if done := s.write.Prepare(data, opts); done != nil {
			defer done()
			body = nil
		}
	}
	if s.write.Upload {
		s.traffic.sent.Add(int64(len(data)))
		return s.bucket.Upload(ctx, key, bytes.NewReader(body), opts)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the bucket's driver panicked, and the server must not go down with it: %v; for a container of Azure also import %s", p, driverImports["azureblob"])
		}
	}()
	w, err := s.bucket.NewWriter(ctx, key, opts)
	if err != nil {
		return err
	}
	n, err := w.Write(data)
	s.traffic.sent.Add(int64(n))
	if err != nil {
		cancel()
		if again := ignoreCancelled(w.Close()); again != nil && again.Error() != err.Error() {
			err = errors.Join(err, again)
		}
		return err
	}
	return w.Close()
}

// ignoreCancelled drops the error that a writer reports when its own context was
// cancelled on purpose.
func ignoreCancelled(err error) error {
	if errors.Is(err, context.Canceled) || gcerrors.Code(err) == gcerrors.Canceled {
		return nil
	}
	return err
}

// absent returns the error of a bucket that seems to hold no repository. Some stores
// say of what they do not show, or of a bucket that is not there, what they say of a
// missing object; a listing tells.
func (s store) absent(ctx context.Context, err error) error {
	listed := s.try(ctx, request{verb: "list", key: configKey}, func(ctx context.Context, _ int) error {
		_, _, err := s.bucket.ListPage(ctx, blob.FirstPageToken, 1, &blob.ListOptions{Prefix: configKey})
		return err
	})
	if listed != nil {
		return listed
	}
	return fmt.Errorf("%w: %w", ErrNotRepository, err)
}

// readAll returns the whole object. An object larger than limit bytes is an
// error: nothing is allocated for it.
func (s store) readAll(ctx context.Context, key string, limit int64) (data []byte, err error) {
	limit += s.keys.objectRoom(key)
	err = s.try(ctx, request{"read", key, limit, nil}, func(ctx context.Context, _ int) error {
		data, err = s.readOnce(ctx, key, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	// How much it would be was not known before.
	if err := admit(ctx, s.reading, int64(len(data))); err != nil {
		return nil, endedError(ctx, "read", key, err)
	}
	return s.keys.openObject(key, data)
}

// readOnce is one attempt to read all of an object, as it is stored.
func (s store) readOnce(ctx context.Context, key string, limit int64) ([]byte, error) {
	ctx, watch := s.watch(ctx)
	defer watch.stop()
	r, err := s.bucket.NewReader(ctx, key, nil)
	if err != nil {
		return nil, watch.explain(err)
	}
	defer r.Close()
	size := r.Size()
	switch {
	case size < 0:
		return nil, errNoSize
	case size > limit:
		return nil, corrupt(key, "its %d bytes are more than the %d allowed", size, limit)
	}
	data := make([]byte, size)
	if _, err := s.fill(watch, r, data); err != nil {
		return nil, s.explain(ctx, key, size, watch.explain(err))
	}
	return data, nil
}

// readRange fills p from the object's bytes at offset.
func (s store) readRange(ctx context.Context, key string, p []byte, offset int64) error {
	_, err := s.readSome(ctx, key, p, offset, len(p))
	return err
}

// readSome fills p from the object's bytes at offset, as far as there are any, and
// returns how many there were. Fewer than atLeast are an error.
func (s store) readSome(ctx context.Context, key string, p []byte, offset int64, atLeast int) (n int, err error) {
	err = s.try(ctx, request{"read", key, int64(len(p)), s.reading}, func(ctx context.Context, _ int) error {
		n, err = s.rangeOnce(ctx, key, p, offset, atLeast)
		return err
	})
	return n, err
}

func (s store) rangeOnce(ctx context.Context, key string, p []byte, offset int64, atLeast int) (int, error) {
	ctx, watch := s.watch(ctx)
	defer watch.stop()
	r, err := s.bucket.NewRangeReader(ctx, key, offset, int64(len(p)), nil)
	if err != nil {
		return 0, s.explain(ctx, key, offset+int64(atLeast), watch.explain(err))
	}
	defer r.Close()
	n, err := s.fill(watch, r, p)
	switch {
	case err == nil:
		return n, nil
	case n >= atLeast && (err == io.ErrUnexpectedEOF || err == io.EOF) && offset+int64(n) == r.Size():
		// That is where the object ends.
		return n, nil
	}
	return n, s.explain(ctx, key, offset+int64(atLeast), watch.explain(err))
}

// fill is io.ReadFull that counts, and tells the watch of each piece that arrives.
func (s store) fill(watch *readWatch, r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = r.Read(p[n:])
		n += k
		s.traffic.received.Add(int64(k))
		if k > 0 {
			watch.timer.Reset(watch.limit)
		}
	}
	switch {
	case n == len(p):
		return n, nil
	case err == io.EOF && n > 0:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// readWatch ends a read through which nothing comes any more.
type readWatch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

func (s store) watch(ctx context.Context) (context.Context, *readWatch) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &readWatch{ctx, cancel, time.AfterFunc(s.retry.Stall, func() { cancel(errStalled) }), s.retry.Stall}
}

func (w *readWatch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// explain says if it was the watch that ended the read.
func (w *readWatch) explain(err error) error {
	if context.Cause(w.ctx) == errStalled {
		return fmt.Errorf("%w for %v: %v", errStalled, w.limit, err) // not as the caller's own cancelling
	}
	return err
}

// explain turns the failure to read an object up to a byte into an error that says
// whether the object is shorter than that. A connection that breaks looks the same
// to a reader, and stores differ in what they say of a range that is not there.
func (s store) explain(ctx context.Context, key string, end int64, err error) error {
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if class := classify(err); ctx.Err() != nil || !ended && class != ClassUnknown && class != ClassRange {
		return err
	}
	s.traffic.requests.Add(1)
	attrs, attrsErr := s.bucket.Attributes(ctx, key)
	switch {
	case attrsErr == nil && attrs.Size < end:
		return corrupt(key, "it ends at byte %d, %d bytes before the end of what was read", attrs.Size, end-attrs.Size)
	case ended:
		return fmt.Errorf("%w: %w", errTruncated, io.ErrUnexpectedEOF) // io.EOF is no error to most callers
	}
	return err
}

// remove deletes an object; one that is not there is no error.
func (s store) remove(ctx context.Context, key string) error {
	if err := s.removeExisting(ctx, key); err != nil && !errors.Is(err, errKeyMissing) {
		return err
	}
	return nil
}

// removeExisting deletes an object. One that is not there is errKeyMissing, unless it
// may be an earlier attempt of the same call that deleted it.
func (s store) removeExisting(ctx context.Context, key string) error {
	return s.try(ctx, request{verb: "delete", key: key}, func(ctx context.Context, failures int) error {
		err := s.bucket.Delete(ctx, key)
		if failures > 0 && classify(err) == ClassNotFound {
			return nil
		}
		return err
	})
}

// object is one line of a listing.
type object struct {
	key      string
	size     int64
	modified time.Time
}

// listPageSize is how many objects are asked for at a time: what S3 gives at most.
const listPageSize = 1000

// list calls yield with every object below prefix, in key order, until it
// returns an error.
func (s store) list(ctx context.Context, prefix string, yield func(object) error) error {
	for token := blob.FirstPageToken; ; {
		var page []*blob.ListObject
		var next []byte
		err := s.try(ctx, request{verb: "list", key: prefix}, func(ctx context.Context, _ int) (err error) {
			page, next, err = s.bucket.ListPage(ctx, token, listPageSize, &blob.ListOptions{Prefix: prefix})
			return err
		})
		if err != nil {
			return err
		}
		for _, obj := range page {
			if obj.IsDir {
				continue
			}
			if err := yield(object{obj.Key, obj.Size, obj.ModTime}); err != nil {
				return err
			}
		}
		if len(next) == 0 {
			return nil
		}
		if bytes.Equal(next, token) {
			return objectError("list", prefix, errSamePage)
		}
		token = next
	}
}
