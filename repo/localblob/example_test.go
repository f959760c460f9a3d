package localblob_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/holdstill/holdstill/repo/localblob"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

func ExampleOpenBucket() {
	ctx := context.Background()
	parent, err := os.MkdirTemp("", "localblob")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(parent)

	bucket, err := localblob.OpenBucket(filepath.Join(parent, "backups"), &localblob.Options{CreateDir: true})
	if err != nil {
		log.Fatal(err)
	}
	defer bucket.Close()

	// When WriteAll returns, a power failure cannot take the object away.
	opts := &blob.WriterOptions{ContentType: "application/octet-stream", IfNotExist: true}
	if err := bucket.WriteAll(ctx, "snapshot/2025-01-01_nightly", []byte("manifest"), opts); err != nil {
		log.Fatal(err)
	}
	err = bucket.WriteAll(ctx, "snapshot/2025-01-01_nightly", []byte("another"), opts)
	fmt.Println(gcerrors.Code(err) == gcerrors.FailedPrecondition)

	content, err := bucket.ReadAll(ctx, "snapshot/2025-01-01_nightly")
	fmt.Println(string(content), err)
	// Output:
	// true
	// manifest <nil>
}
