package localblob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/drivertest"
)

type harness struct{ dir string }

func newHarness(_ context.Context, t *testing.T) (drivertest.Harness, error) {
	return &harness{dir: t.TempDir()}, nil
}

func (h *harness) MakeDriver(context.Context) (driver.Bucket, error) {
	return openBucket(h.dir, nil, osFileOps())
}

// MakeDriverForNonexistentBucket has nothing to offer: OpenBucket itself refuses a missing folder.
func (h *harness) MakeDriverForNonexistentBucket(context.Context) (driver.Bucket, error) {
	return nil, nil
}

func (h *harness) HTTPClient() *http.Client         { return nil }
func (h *harness) SupportsCopy() bool               { return true }
func (h *harness) SupportsNonSlashDelimiters() bool { return true }
func (h *harness) Close()                           {}

func TestConformance(t *testing.T) {
	drivertest.RunConformanceTests(t, newHarness, []drivertest.AsTest{asFiles{}})
}

// TestConformanceBelowPrefix runs the suite once more in a folder of the bucket.
func TestConformanceBelowPrefix(t *testing.T) {
	drivertest.RunConformanceTests(t, func(ctx context.Context, t *testing.T) (drivertest.Harness, error) {
		h, err := newHarness(ctx, t)
		return &prefixHarness{h}, err
	}, nil)
}

type prefixHarness struct{ drivertest.Harness }

func (h *prefixHarness) MakeDriver(ctx context.Context) (driver.Bucket, error) {
	b, err := h.Harness.MakeDriver(ctx)
	if err != nil {
		return nil, err
	}
	return driver.NewPrefixedBucket(b, "some/folder/pre-"), nil
}

func BenchmarkDriver(b *testing.B) {
	bkt, err := OpenBucket(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer bkt.Close()
	drivertest.RunBenchmarks(b, bkt)
}

// asFiles checks the types that As hands out.
type asFiles struct{}

func (asFiles) Name() string { return "files" }

func (asFiles) BucketCheck(b *blob.Bucket) error {
	var root *os.Root
	if b.As(&root) {
		return errors.New("Bucket.As handed out the root")
	}
	return nil
}

func (asFiles) ErrorCheck(b *blob.Bucket, err error) error {
	var perr *fs.PathError
	if !b.ErrorAs(err, &perr) {
		return fmt.Errorf("ErrorAs found no *fs.PathError in %v", err)
	}
	var other *net.DNSError
	if b.ErrorAs(err, &other) {
		return errors.New("ErrorAs matched a foreign type")
	}
	return nil
}

func wantFile(as func(any) bool) error {
	var f *os.File
	if !as(&f) || f == nil {
		return errors.New("As(**os.File) failed")
	}
	return nil
}

func wantNothing(as func(any) bool) error {
	var f *os.File
	if as(&f) {
		return errors.New("As handed out a file")
	}
	return nil
}

func (asFiles) BeforeRead(as func(any) bool) error   { return wantFile(as) }
func (asFiles) BeforeWrite(as func(any) bool) error  { return wantFile(as) }
func (asFiles) BeforeCopy(as func(any) bool) error   { return wantNothing(as) }
func (asFiles) BeforeDelete(as func(any) bool) error { return wantNothing(as) }
func (asFiles) BeforeList(as func(any) bool) error   { return wantNothing(as) }
func (asFiles) BeforeSign(as func(any) bool) error   { return wantNothing(as) }

func (asFiles) AttributesCheck(attrs *blob.Attributes) error {
	var info os.FileInfo
	if !attrs.As(&info) || info == nil {
		return errors.New("Attributes.As(*os.FileInfo) failed")
	}
	return nil
}

func (asFiles) ReaderCheck(r *blob.Reader) error { return wantFile(r.As) }

func (asFiles) ListObjectCheck(o *blob.ListObject) error {
	if o.As(new(os.FileInfo)) {
		return errors.New("ListObject.As handed something out")
	}
	return nil
}
