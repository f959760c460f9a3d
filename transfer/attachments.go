package transfer

import (
	"bytes"
	"context"
	"errors"

	"github.com/holdstill/holdstill/repo"
)

// attach copies what is attached to the snapshot: with the session, so that it is there
// when the snapshot is, and goes if that does not come.
func (c *copying) attach(ctx context.Context) error {
	// What stands there already under the ID may be of another copy, and go with it.
	return c.attachAll(ctx, nil, c.session.PutAttachment)
}

// attachMissing copies to the snapshot that is there what is not attached to it.
func (c *copying) attachMissing(ctx context.Context) error {
	there := make(map[string]int64)
	for a, err := range c.dst.Attachments(ctx, c.manifest.ID) {
		if err != nil {
			return err
		}
		there[a.Name] = a.Size
	}
	return c.attachAll(ctx, there, c.dst.PutAttachment)
}

// attachAll copies what is attached to the snapshot, unless it is there in the same form.
func (c *copying) attachAll(ctx context.Context, there map[string]int64, put func(ctx context.Context, id, name string, data []byte) error) error {
	id := c.manifest.ID
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
