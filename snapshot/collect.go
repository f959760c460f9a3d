package snapshot

import (
	"context"

	"github.com/holdstill/holdstill/repo"
)

// Collect frees the space of what no snapshot needs any more: of snapshots that were deleted,
// and of those that were never finished. Snapshots may be taken, restored and deleted
// meanwhile, by this process and by others. See repo.Repository.Collect for what it does
// about sessions that show no sign of life, and for its errors; after Close it fails with
// ErrClosed.
func (e *Engine) Collect(ctx context.Context, opts repo.CollectOptions) (*repo.CollectResult, error) {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return e.repo.Collect(ctx, opts)
}
