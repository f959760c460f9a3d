package repotest_test

import (
	"path/filepath"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo/localblob"
	"github.com/holdstill/holdstill/repo/repotest"
)

func TestLocal(t *testing.T) {
	repotest.Run(t, func(t *testing.T) *blob.Bucket {
		b, err := localblob.OpenBucket(filepath.Join(t.TempDir(), "bucket"), &localblob.Options{CreateDir: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	})
}

func TestMemory(t *testing.T) {
	repotest.Run(t, func(t *testing.T) *blob.Bucket {
		b := memblob.OpenBucket(nil)
		t.Cleanup(func() { _ = b.Close() })
		return blob.PrefixedBucket(b, "some/prefix/")
	})
}
