package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

// codedError is an error with the methods that clouds' errors have.
type codedError struct {
	code   string
	status int
}

func (e codedError) Error() string       { return fmt.Sprintf("%s (%d)", e.code, e.status) }
func (e codedError) ErrorCode() string   { return e.code }
func (e codedError) HTTPStatusCode() int { return e.status }

func TestClassify(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want ErrorClass
	}{
		{nil, ClassUnknown},
		{errors.New("no idea"), ClassUnknown},
		{context.Canceled, ClassUnknown},
		{context.DeadlineExceeded, ClassUnavailable}, // not the caller's: that is told apart before
		{codedError{"InvalidAccessKeyId", 403}, ClassAuthentication},
		{codedError{"SignatureDoesNotMatch", 403}, ClassAuthentication},
		{codedError{"AccessDenied", 403}, ClassPermission},
		{codedError{"AuthorizationFailure", 403}, ClassPermission},
		{codedError{"", 401}, ClassAuthentication},
		{codedError{"", 403}, ClassPermission},
		{codedError{"NoSuchBucket", 404}, ClassNoBucket},
		{codedError{"ContainerNotFound", 404}, ClassNoBucket},
		{codedError{"NoSuchKey", 404}, ClassNotFound},
		{codedError{"PreconditionFailed", 412}, ClassExists},
		{codedError{"ConditionalRequestConflict", 409}, ClassUnavailable},
		{codedError{"SlowDown", 503}, ClassUnavailable},
		{codedError{"Surprise", 500}, ClassUnavailable},
		{codedError{"", 429}, ClassUnavailable},
		{codedError{"", 507}, ClassNoSpace},
		{codedError{"XMinioStorageFull", 500}, ClassNoSpace},
		{codedError{"InvalidRange", 416}, ClassRange},
		{codedError{"NotImplemented", 501}, ClassUnknown},
		{&fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}, ClassNoSpace},
		{&fs.PathError{Op: "write", Path: "/x", Err: syscall.EDQUOT}, ClassNoSpace},
		{&fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}, ClassPermission},
		{&fs.PathError{Op: "open", Path: "/x", Err: syscall.EROFS}, ClassPermission},
		{&fs.PathError{Op: "read", Path: "/x", Err: syscall.EIO}, ClassUnknown},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, ClassUnavailable},
		{&net.DNSError{Name: "nowhere"}, ClassUnavailable},
		{&url.Error{Op: "Put", URL: "http://x", Err: errors.New("server closed idle connection")}, ClassUnavailable},
		{&url.Error{Op: "Put", URL: "http://x", Err: context.Canceled}, ClassUnknown},
		{io.ErrUnexpectedEOF, ClassUnavailable},
	} {
		if got := classify(tc.err); got != tc.want {
			t.Errorf("%v: class %d, want %d", tc.err, got, tc.want)
		}
		if got := classify(fmt.Errorf("wrapped: %w", tc.err)); tc.err != nil && got != tc.want {
			t.Errorf("%v, wrapped: class %d, want %d", tc.err, got, tc.want)
		}
	}
}

// retryRepo is a repository with a snapshot "s", opened under a clock that tests own.
func retryRepo(t *testing.T, opts Options) (*testDriver, *Repository, map[string][]byte) {
	t.Helper()
	d := newTestDriver()
	files := smallFiles(3)
	r := newTestRepo(t, d, opts)
	mustSnapshot(t, r, "s", files, fixedCutter(t, 512))
	return d, openTestRepo(t, d.bucket(t), opts), files
}

// Every request fails twice before it gets through, before its effect or after it, and nobody notices.
func TestTriedAgain(t *testing.T) {
	for _, after := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d, r, _ := retryRepo(t, Options{})
			failures := make(map[string]int)
			fail := func(_ context.Context, o op) error {
				d.mu.Lock()
				defer d.mu.Unlock()
				if failures[o.String()]++; failures[o.String()]%3 != 0 {
					return codedError{"SlowDown", 503}
				}
				return nil
			}
			if after {
				d.after.set(fail)
			} else {
				d.before.set(fail)
			}
			more := smallFiles(4)
			if err := takeSnapshot(t.Context(), r, "more", more, fixedCutter(t, 512)); err != nil {
				t.Fatalf("after=%v: %v", after, err)
			}
			if err := r.DeleteManifest(t.Context(), "s"); err != nil {
				t.Fatalf("after=%v: delete: %v", after, err)
			}
			wantSnapshot(t, r, "more", more)
			disarm(d)
			wantSound(t, r)
			if ids := listIDs(t, r); len(ids) != 1 || ids[0] != "more" {
				t.Errorf("after=%v: listed %q", after, ids)
			}
			if traffic := r.Traffic(); traffic.Retries < 10 || traffic.Requests < traffic.Retries {
				t.Errorf("after=%v: %+v", after, traffic)
			}
		})
	}
}

// The store is gone for good: each call is tried as often as allowed, with growing pauses, and says so.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r, _ := retryRepo(t, Options{Retry: Retry{Attempts: 4, Base: time.Second, Max: 3 * time.Second}})
		d.before.set(func(context.Context, op) error { return codedError{"InternalError", 500} })
		d.take()
		start := time.Now()
		_, err := r.Manifest(t.Context(), "s")
		var coded codedError
		if !errors.Is(err, ErrUnavailable) || !errors.As(err, &coded) || errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if n := len(d.take()); n != 4 {
			t.Errorf("%d attempts, want 4", n)
		}
		// Pauses of 1, 2 and 3 seconds, each shortened by up to the half.
		if waited := time.Since(start); waited < 3*time.Second || waited > 6*time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

// What will not change is asked once.
func TestFinalErrors(t *testing.T) {
	for _, tc := range []struct {
		cause, want error
	}{
		{pathError(op{kind: "read", key: "k"}, syscall.ENOSPC), ErrNoSpace},
		{pathError(op{kind: "read", key: "k"}, syscall.EACCES), ErrPermission},
		{pathError(op{kind: "read", key: "k"}, syscall.EIO), syscall.EIO},
		{codedError{"InvalidAccessKeyId", 403}, ErrAuthentication},
		{codedError{"AccessDenied", 403}, ErrPermission},
		{codedError{"NoSuchBucket", 404}, ErrNoBucket},
	} {
		d, r, _ := retryRepo(t, Options{})
		d.before.set(func(context.Context, op) error { return tc.cause })
		d.take()
		err := r.store.create(t.Context(), "k", []byte("data"))
		if !errors.Is(err, tc.want) || !errors.Is(err, tc.cause) {
			t.Errorf("%v: got %v, want %v", tc.cause, err, tc.want)
		}
		if n := len(d.take()); n != 1 {
			t.Errorf("%v: %d attempts", tc.cause, n)
		}
	}
}

// A context that ends while a call waits for its next try ends the call at once.
func TestCancelledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r, _ := retryRepo(t, Options{Retry: Retry{Base: time.Hour, Max: time.Hour}})
		d.before.set(func(context.Context, op) error { return codedError{"SlowDown", 503} })
		cause := errors.New("the caller's reason")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		start := time.Now()
		_, err := r.Manifest(ctx, "s")
		if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) || errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("returned after %v", waited)
		}
	})
}

// A store that does not answer is given up attempt by attempt, and an attempt has the longer the more there is to send.
func TestAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r, _ := retryRepo(t, Options{Retry: Retry{Attempts: 2, Base: 1, Max: 1, AttemptTimeout: 10 * time.Second, MinRate: 1000}})
		d.before.set(func(ctx context.Context, _ op) error {
			<-ctx.Done()
			return ctx.Err()
		})
		start := time.Now()
		err := r.store.create(t.Context(), "k", noiseData(1, 5000))
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(start).Round(time.Second); waited != 30*time.Second {
			t.Errorf("two attempts of 10 s and 5000 bytes at 1000 bytes/s took %v", waited)
		}
	})
}

// The answer to a create was lost, and what stands at the key is another's: the caller must hear that.
func TestLostRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r, _ := retryRepo(t, Options{})
		first := true
		d.before.set(func(_ context.Context, o op) error {
			if o.kind == "create" && first {
				first = false
				d.put("k", []byte("theirs"))
				return codedError{"", 500}
			}
			return nil
		})
		if err := r.store.create(t.Context(), "k", []byte("mine!!")); !errors.Is(err, errKeyExists) {
			t.Errorf("got %v", err)
		}
		if got := d.get("k"); !bytes.Equal(got, []byte("theirs")) {
			t.Errorf("the key holds %q", got)
		}
	})
}

// A server that refuses what exists may break the connection while the object is still being sent. That must not
// read as a server that is away, and still less as success.
func TestLostRaceOverABrokenLine(t *testing.T) {
	for name, test := range map[string]struct {
		there string
		want  error
	}{
		"another's":         {"theirs", errKeyExists},
		"another's, longer": {"theirs, and much longer", errKeyExists},
		"one's own":         {"", nil},
		"nothing":           {"", ErrUnavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, r, _ := retryRepo(t, Options{})
			if test.there != "" {
				d.put("k", []byte(test.there))
			}
			reset := func(_ context.Context, o op) error {
				if o.kind == "create" {
					return syscall.ECONNRESET
				}
				return nil
			}
			d.before.set(reset)
			if test.want == nil {
				// The first attempt takes effect.
				d.before.set(nil)
				d.after.set(func(ctx context.Context, o op) error {
					d.before.set(reset)
					return reset(ctx, o)
				})
			}
			if err := r.store.create(t.Context(), "k", []byte("mine!!")); !errors.Is(err, test.want) || test.want == errKeyExists && errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
}

// A limiter bounds both ways, and waiting for it is no failure of the store.
func TestLimiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDriver()
		limiter := rate.NewLimiter(1000, 500)
		opts := Options{WriteLimiter: limiter, ReadLimiter: limiter, Retry: Retry{AttemptTimeout: 1, MinRate: 1 << 40}}
		r := newTestRepo(t, d, Options{})
		r = openTestRepo(t, r.store.bucket, Options{})
		var err error
		if r.opts, err = opts.withDefaults(); err != nil {
			t.Fatal(err)
		}
		r.store = newStore(r.store.bucket, r.opts)
		data := noiseData(9, 20_500)
		start := time.Now()
		if err := r.store.create(t.Context(), "k", data); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start).Round(time.Second); took != 20*time.Second {
			t.Errorf("20,500 bytes at 1000 bytes/s, 500 of them at once, were written in %v", took)
		}
		start = time.Now()
		if got, err := r.store.readAll(t.Context(), "k", 1<<20); err != nil || !bytes.Equal(got, data) {
			t.Fatal(err)
		}
		if took := time.Since(start).Round(time.Second); took < 20*time.Second || took > 21*time.Second {
			t.Errorf("they were read in %v", took)
		}
		if got := r.Traffic(); got.BytesSent != 20_500 || got.BytesReceived != 20_500 || got.Requests != 2 || got.Retries != 0 {
			t.Errorf("%+v", got)
		}
	})
	for _, limiter := range []*rate.Limiter{rate.NewLimiter(1000, 0), rate.NewLimiter(0, 10)} {
		if _, err := (Options{WriteLimiter: limiter}).withDefaults(); !errors.Is(err, ErrInvalid) {
			t.Errorf("a limiter that lets nothing pass: %v", err)
		}
	}
}

func TestRetryOptions(t *testing.T) {
	for _, bad := range []Retry{{Attempts: -1}, {Attempts: 101}, {Base: -1}, {Base: 2, Max: 1}, {AttemptTimeout: -1}, {Stall: -1}, {MinRate: -1}} {
		if _, err := bad.withDefaults(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
		if err := Init(t.Context(), newTestDriver().bucket(t), InitOptions{Retry: bad}); !errors.Is(err, ErrInvalid) {
			t.Errorf("Init with %+v: %v", bad, err)
		}
	}
	r, err := Retry{}.withDefaults()
	if err != nil || r.Attempts != 6 || r.timeout(0) != 30*time.Second || r.timeout(1<<20) != 46*time.Second {
		t.Errorf("%+v, %v", r, err)
	}
	for n := 1; n < 100; n++ {
		want := min(r.Base<<min(n-1, 20), r.Max)
		if p := r.pause(n); p > want || p < want/2 {
			t.Errorf("pause %d is %v, want at most %v and at least the half", n, p, want)
		}
	}
}

// azureblob panics when a write through a pipe fails.
func TestDriverPanics(t *testing.T) {
	d := newTestDriver()
	d.before.set(func(_ context.Context, o op) error {
		if o.kind == "create" {
			panic("nil pointer in the driver")
		}
		return nil
	})
	err := Init(t.Context(), d.bucket(t), InitOptions{})
	if err == nil || !strings.Contains(err.Error(), "repo/cloud/azure") || !strings.Contains(err.Error(), "nil pointer in the driver") {
		t.Errorf("got %v", err)
	}
}
