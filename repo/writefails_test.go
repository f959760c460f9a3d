package repo

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
)

// fullDriver is out of space when it is written to, and says so at the close once more, as a
// local folder does.
type fullDriver struct{ *testDriver }

func (d fullDriver) NewTypedWriter(context.Context, string, string, *driver.WriterOptions) (driver.Writer, error) {
	return fullWriter{}, nil
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) {
	return 0, pathError(op{kind: "write", key: "x"}, syscall.ENOSPC)
}
func (fullWriter) Close() error { return pathError(op{kind: "write", key: "x"}, syscall.ENOSPC) }

func TestFullStoreIsSaidOnce(t *testing.T) {
	b := blob.NewBucket(fullDriver{newTestDriver()})
	defer b.Close()
	err := Init(t.Context(), b, InitOptions{})
	if !errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if n := strings.Count(err.Error(), syscall.ENOSPC.Error()); n != 1 {
		t.Errorf("said %d times: %v", n, err)
	}
}
