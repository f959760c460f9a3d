package transfer

import (
	"bytes"
	"context"
	"errors"

	"github.com/holdstill/holdstill/repo"
)

// attach copies what is attached to the snapshot: with the session, so that it is there
// when the snapshot is, and goes if that does not come; or to a snapshot that is there.
func (c *copying) attach(ctx context.Context, put func(ctx context.Context, id, name string, data []byte) error) error {
	id := c.manifest.ID
	there := make(map[string]int64)
	for a, err := range c.dst.Attachments(ctx, id) {
		if err != nil {
			return err
		}
		there[a.Name] = a.Size
	}
	for a, err := range c.src.Attachments(ctx, id) {
		if err != nil {
			return err
		}
		data, err := c.src.ReadAttachment(ctx, id, a.Name)
		if errors.Is(err, repo.ErrNoAttachment) {
			continue // taken away meanwhile
		}
		if err != nil {
			return err
		}
		if size, ok := there[a.Name]; ok && size == int64(len(data)) {
			// A damaged one is replaced.
			if old, err := c.dst.ReadAttachment(ctx, id, a.Name); err == nil && bytes.Equal(old, data) {
				continue
			}
		}
		if err := put(ctx, id, a.Name, data); err != nil {
			return err
		}
	}
	return nil
}
