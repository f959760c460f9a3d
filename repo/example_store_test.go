package repo_test

import (
	"context"
	"errors"
	"fmt"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
)

// Drivers for stores in the cloud are linked in by an import, such as
//
//	import _ "github.com/holdstill/holdstill/repo/cloud/s3"
//
// and the error of a program that lacks one says so.
func ExampleOpenLocation() {
	ctx := context.Background()
	config := repo.LocationConfig{"scratch": {"type": "memory"}, "S3": {"type": "s3", "env_auth": "true"}}
	for _, where := range []string{"scratch:", "S3:bucket/path"} {
		location, err := repo.ParseLocation(where, config)
		if err != nil {
			fmt.Println(err)
			return
		}
		bucket, err := repo.OpenLocation(ctx, location, repo.OpenLocationOptions{})
		if errors.Is(err, repo.ErrLocation) {
			fmt.Println(err)
			continue
		}
		fmt.Println(where, repo.Init(ctx, bucket, repo.InitOptions{}))
		_ = bucket.Close()
	}
	// Output:
	// scratch: <nil>
	// repo: bad location "S3:bucket/path", section "S3", key "type": rule "driver is linked in": the driver for this type is not linked in; add import _ "github.com/holdstill/holdstill/repo/cloud/s3" to the program
}

// A store of one's own is tried before it is trusted.
func ExampleValidate() {
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	err := repo.Validate(context.Background(), bucket, repo.ValidateOptions{
		LargeSize: 1 << 20,
		Report:    func(property string, err error) { fmt.Println(property+":", err == nil) },
	})
	fmt.Println(err)
	// Output:
	// read after write: true
	// create is conditional: true
	// create is exclusive: true
	// large objects: true
	// ranges: true
	// list after write and delete: true
	// delete: true
	// characters of keys: true
	// <nil>
}
