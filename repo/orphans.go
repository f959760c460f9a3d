package repo

import (
	"context"
	"errors"
	"fmt"

	"gocloud.dev/blob"
)

// orphans returns an error if the bucket holds snapshots that were encrypted under a configuration
// which is lost. With a new one in its place nobody could put the old one back, and nothing
// else opens them. Those that are not encrypted do not need it.
func (s store) orphans(ctx context.Context) error {
	key := ""
	err := s.try(ctx, request{verb: "list", key: snapshotPrefix}, func(ctx context.Context, _ int) error {
		page, _, err := s.bucket.ListPage(ctx, blob.FirstPageToken, 1, &blob.ListOptions{Prefix: snapshotPrefix})
		if err == nil && len(page) > 0 {
			key = page[0].Key
		}
		return err
	})
	if err != nil || key == "" {
		return err
	}
	head := make([]byte, len(envelopeMagic))
	n, err := s.readSome(ctx, key, head, 0, 0)
	switch {
	case errors.Is(err, errKeyMissing):
		return nil // deleted since
	case err != nil:
		return err
	case string(head[:n]) != envelopeMagic:
		return nil
	}
	// Another process may have made the repository, and a snapshot, since it was looked for.
	if _, err := s.readAll(ctx, configKey, maxConfigSize); !errors.Is(err, errKeyMissing) {
		if err == nil {
			err = ErrRepositoryExists
		}
		return err
	}
	return fmt.Errorf("%w: %s, and there are encrypted snapshots that nothing opens without it: put a copy of the very same file back, or choose an empty place for a new repository", ErrMissing, configKey)
}
