package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
)

// flawedDriver is a store that lacks one property.
type flawedDriver struct {
	*testDriver
	flaw  string
	calls atomic.Int64
}

func (d *flawedDriver) NewTypedWriter(ctx context.Context, key, kind string, opts *driver.WriterOptions) (driver.Writer, error) {
	switch d.flaw {
	case "replaces":
		opts.IfNotExist = false
	case "checks before it writes":
		// As a driver does that has no conditional create and looks first.
		d.mu.Lock()
		_, taken := d.objects[key]
		d.mu.Unlock()
		opts.IfNotExist = taken
	case "large ones replace":
		w, err := d.testDriver.NewTypedWriter(ctx, key, kind, opts)
		return &sizedWriter{w.(*testWriter)}, err
	}
	return d.testDriver.NewTypedWriter(ctx, key, kind, opts)
}

type sizedWriter struct{ *testWriter }

func (w *sizedWriter) Close() error {
	w.exclusive = w.exclusive && len(w.buf) < 1<<19
	return w.testWriter.Close()
}

func (d *flawedDriver) NewRangeReader(ctx context.Context, key string, offset, length int64, opts *driver.ReaderOptions) (driver.Reader, error) {
	if d.flaw == "ignores ranges" {
		offset = 0
	}
	return d.testDriver.NewRangeReader(ctx, key, offset, length, opts)
}

func (d *flawedDriver) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	page, err := d.testDriver.ListPaged(ctx, opts)
	switch {
	case err != nil:
	case d.flaw == "lists late" && d.calls.Add(1)%2 == 0:
		page = &driver.ListPage{}
	case d.flaw == "lists in no order":
		slices.Reverse(page.Objects)
	}
	return page, err
}

func TestValidateFindsFlaws(t *testing.T) {
	for flaw, want := range map[string]string{
		"":                        "",
		"replaces":                "create is conditional",
		"checks before it writes": "create is exclusive",
		"large ones replace":      "large objects",
		"ignores ranges":          "ranges",
		"lists late":              "list after write and delete",
		"lists in no order":       "list after write and delete",
	} {
		t.Run(flaw, func(t *testing.T) {
			d := &flawedDriver{testDriver: newTestDriver(), flaw: flaw}
			if flaw == "checks before it writes" {
				// All look before the first one writes.
				var waiting atomic.Int64
				release := make(chan struct{})
				d.before.set(func(_ context.Context, o op) error {
					if o.kind == "create" && strings.Contains(o.key, "/exclusive/0") {
						if waiting.Add(1) == 4 {
							close(release)
						}
						<-release
					}
					return nil
				})
			}
			b := blob.NewBucket(d)
			defer b.Close()
			var reported []string
			err := Validate(t.Context(), b, ValidateOptions{Writers: 4, Rounds: 1, LargeSize: 1 << 20, Report: func(p string, err error) {
				if err != nil {
					reported = append(reported, p)
				}
			}})
			var perr *PropertyError
			switch {
			case want == "" && err != nil:
				t.Error(err)
			case want != "" && (!errors.Is(err, ErrUnfit) || !errors.As(err, &perr) || !slices.Contains(reported, want)):
				t.Errorf("reported %q, error %v; want %q", reported, err, want)
			}
			if left := d.keys(""); flaw != "lists late" && len(left) > 0 {
				t.Errorf("left %q", left)
			}
		})
	}
}

func TestValidateStoreFails(t *testing.T) {
	d := newTestDriver()
	d.before.set(func(_ context.Context, o op) error {
		if o.kind == "create" {
			return codedError{"AccessDenied", 403}
		}
		return nil
	})
	if err := Validate(t.Context(), d.bucket(t), ValidateOptions{}); !errors.Is(err, ErrPermission) || errors.Is(err, ErrUnfit) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Validate(ctx, d.bucket(t), ValidateOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for _, bad := range []ValidateOptions{{Writers: 1}, {Rounds: -1}, {LargeSize: 1}, {Retry: Retry{Attempts: -1}}} {
		if err := Validate(t.Context(), d.bucket(t), bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", fmt.Sprint(bad.Writers, bad.Rounds, bad.LargeSize), err)
		}
	}
}
