package repo

import (
	"context"
	"path/filepath"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo/localblob"
)

// localDriver opens folders of this machine. rclone's settings of how files are read mean nothing to objects.
var localDriver = Driver{
	Type: localType,
	Open: func(_ context.Context, s *Settings) (*blob.Bucket, error) {
		s.Ignore("nounc", "links", "copy_links", "skip_links", "no_sparse", "one_file_system", "no_check_updated",
			"case_sensitive", "case_insensitive", "no_preallocate", "no_set_modtime", "zero_size_links", "unicode_normalization",
			"encoding", "description")
		if err := s.Err(); err != nil {
			return nil, err
		}
		bucket, err := localblob.OpenBucket(filepath.FromSlash(s.location.Path()), &localblob.Options{CreateDir: s.create})
		return bucket, err
	},
}

var memoryDriver = Driver{
	Type: "memory",
	Open: func(_ context.Context, s *Settings) (*blob.Bucket, error) {
		s.Ignore("description")
		if err := s.Err(); err != nil {
			return nil, err
		}
		return memblob.OpenBucket(nil), nil
	},
}
