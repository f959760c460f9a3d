package repo

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"golang.org/x/time/rate"
)

// A limiter that cannot let a request pass before the caller's deadline says so at once. To the
// caller that is the deadline, like any other.
func TestLimiterBeyondTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := rate.NewLimiter(10, 10)
		_, r, _ := retryRepo(t, Options{})
		r.store.writing, r.store.reading = limiter, limiter
		calls := map[string]func(context.Context) error{
			"create": func(ctx context.Context) error { return r.store.create(ctx, "k", noiseData(1, 1000)) },
			"range": func(ctx context.Context) error {
				return r.store.readRange(ctx, configKey, make([]byte, 100), 0)
			},
			"read": func(ctx context.Context) error {
				_, err := r.store.readAll(ctx, configKey, maxConfigSize)
				return err
			},
		}
		for name, call := range calls {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			err := call(ctx)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want one that is context.DeadlineExceeded", name, err)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("%s: ended after %v", name, took)
			}
		}
	})
}

// sizeDriver answers reads without saying how long the object is, as a server does that
// sends it in pieces, or with a length that is none.
type sizeDriver struct {
	*testDriver
	size int64
}

func (d sizeDriver) NewRangeReader(ctx context.Context, key string, offset, length int64, opts *driver.ReaderOptions) (driver.Reader, error) {
	r, err := d.testDriver.NewRangeReader(ctx, key, offset, length, opts)
	if err == nil {
		r.(*testReader).size = d.size
	}
	return r, err
}

func TestStoreWithoutSizes(t *testing.T) {
	d, _, _ := retryRepo(t, Options{})
	for size, want := range map[int64]error{-1: errNoSize, math.MinInt64: errNoSize, math.MaxInt64: ErrCorrupt} {
		b := blob.NewBucket(sizeDriver{d, size})
		if _, err := Open(t.Context(), b, variant(Options{})); !errors.Is(err, want) {
			t.Errorf("size %d: %v", size, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Who sets a time so long that it means none at all gets none.
func TestLongestTimes(t *testing.T) {
	retry, err := Retry{AttemptTimeout: math.MaxInt64, Stall: math.MaxInt64, Base: math.MaxInt64, Max: math.MaxInt64, Attempts: 100}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{0, 1, 64 << 10, 8 << 20, math.MaxInt64} {
		if got := retry.timeout(size); got != math.MaxInt64 {
			t.Errorf("the time for %d bytes is %v", size, got)
		}
	}
	// Shifted by 31 bits the second one's low bit is all that is left.
	for _, base := range []time.Duration{math.MaxInt64, 1<<33 + 1} {
		retry := Retry{Base: base, Max: math.MaxInt64}
		for n := 40; n < 100; n++ {
			if got := retry.pause(n); got < math.MaxInt64/2 {
				t.Errorf("base %v: pause %d is %v", base, n, got)
			}
		}
		if got := (Retry{Base: base, Max: max(base, time.Hour)}).pause(32); got < time.Hour/2 {
			t.Errorf("base %v: pause 32 is %v", base, got)
		}
	}
	if opts, err := (CollectOptions{LeaseTimeout: math.MaxInt64}).withDefaults(); err != nil || opts.MaxWait != math.MaxInt64 {
		t.Errorf("a session that is never given up is waited for %v, %v", opts.MaxWait, err)
	}
	d, r, _ := retryRepo(t, Options{Retry: Retry{AttemptTimeout: math.MaxInt64, Stall: math.MaxInt64, MinRate: 1}})
	data := noiseData(5, 100)
	if err := r.store.create(t.Context(), "k", data); err != nil || !bytes.Equal(d.get("k"), data) && !encryptedVariant() {
		t.Error(err)
	}
	if _, err := r.store.readAll(t.Context(), "k", 1<<20); err != nil {
		t.Error(err)
	}
}

// pagesDriver sends the first page of a listing again and again, as a server does that does not
// know page tokens.
type pagesDriver struct{ *testDriver }

func (d pagesDriver) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	again := *opts
	again.PageToken = nil
	return d.testDriver.ListPaged(ctx, &again)
}

func TestListingThatDoesNotGoOn(t *testing.T) {
	d, r, _ := retryRepo(t, Options{})
	for n := range 5 {
		d.put(snapshotPrefix+"other"+string(rune('a'+n)), []byte("x"))
	}
	r.store.bucket = blob.NewBucket(pagesDriver{d})
	defer r.store.bucket.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := 0
	for id, err := range r.IDs(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				t.Errorf("listed %d IDs: %v", seen, err)
			}
			return
		}
		if seen++; seen > 5000 { // what is asked for at once is a thousand
			t.Fatalf("%s and others come without end", id)
		}
	}
	t.Error("a listing that was cut short is taken for all there is")
}
