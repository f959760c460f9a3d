package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func randomBytes(n int) []byte {
	r := rand.New(rand.NewPCG(3, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestBody(t *testing.T) {
	for _, n := range []int{0, 1, 511, 70_000} {
		data := randomBytes(n)
		if err := iotest.TestReader(&body{data: data}, data); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	b := &body{data: randomBytes(10)}
	if _, err := b.Seek(-1, io.SeekStart); err == nil {
		t.Error("a seek to before the beginning succeeded")
	}
	b.detach()
	if _, err := b.Read(make([]byte, 4)); !errors.Is(err, errDetached) {
		t.Errorf("Read after detach: %v, want %v", err, errDetached)
	}
	if _, err := b.Seek(0, io.SeekStart); !errors.Is(err, errDetached) {
		t.Errorf("Seek after detach: %v, want %v", err, errDetached)
	}
	b.detach() // again does nothing
}

// TestBodyIsLeftAlone: an HTTP client that goes on reading when the call is over never sees what its buffer is used for
// next.
func TestBodyIsLeftAlone(t *testing.T) {
	for range 50 {
		data := randomBytes(4096)
		want := bytes.Clone(data)
		b := &body{data: data}
		var late sync.WaitGroup
		late.Go(func() {
			got, err := io.ReadAll(iotest.OneByteReader(b))
			if err != nil && !errors.Is(err, errDetached) || !bytes.HasPrefix(want, got) {
				t.Errorf("a late reader got %d bytes that are not those sent, or the error %v", len(got), err)
			}
		})
		b.detach()
		clear(data)
		late.Wait()
	}
}

// TestNoEmptyObject: should the transfer manager ever divide the empty body that it is given, the write fails instead of
// storing nothing.
func TestNoEmptyObject(t *testing.T) {
	c := &directClient{body: &body{data: randomBytes(9)}}
	if _, err := c.CreateMultipartUpload(context.Background(), &s3.CreateMultipartUploadInput{}); err == nil {
		t.Error("a write in parts was begun with the empty body")
	}
}
