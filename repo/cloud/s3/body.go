package s3

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// directClient puts the one object that it was made for. The transfer manager, which makes the request, would read all
// of a body into a buffer that it grows on the way, although a pack is in memory already. So it is given an empty body, and
// the real one is put in its place here.
type directClient struct {
	*s3.Client
	body *body
}

// PutObject implements transfermanager.S3APIClient.
func (c *directClient) PutObject(ctx context.Context, in *s3.PutObjectInput, opts ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	in.Body = c.body
	return c.Client.PutObject(ctx, in, opts...)
}

// CreateMultipartUpload implements transfermanager.S3APIClient. It is not called as long as that puts a small body in one
// request; otherwise an empty object would be stored.
func (c *directClient) CreateMultipartUpload(context.Context, *s3.CreateMultipartUploadInput, ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	return nil, errors.New("repo/cloud/s3: the transfer manager is not of the version that this driver knows: it divides an empty body")
}

var errDetached = errors.New("repo/cloud/s3: the request is over")

// body reads data until it is detached from them. An HTTP client may go on reading a request's body after the call for
// it has returned, when it was cancelled or the server answered early; by then the data may be those of another pack.
type body struct {
	// mu guards the fields below.
	mu   sync.Mutex
	data []byte
	at   int64
	over bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, errDetached
	}
	if b.at >= int64(len(b.data)) {
		return 0, io.EOF
	}
	n := copy(p, b.data[b.at:])
	b.at += int64(n)
	return n, nil
}

// Seek implements io.Seeker, by which the SDK finds out the length, and begins again.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += int64(len(b.data))
	}
	if b.over {
		return 0, errDetached
	}
	if offset < 0 {
		return 0, errors.New("repo/cloud/s3: a seek to before the beginning")
	}
	b.at = offset
	return offset, nil
}

// detach ends all reading. The data are not looked at any more when it returns.
func (b *body) detach() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data, b.over = nil, true
}
