package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Reserve prepares for attachments of a snapshot that this session is to make: it makes
// sure that the ID is free, and removes what an earlier attempt may have left under it, unless
// another session is under way whose it may be. It
// fails with ErrExists, ErrBadID, with the session's error or the bucket's. It
// does not keep others from using the ID.
func (s *Session) Reserve(ctx context.Context, id string) error {
	if err := s.state(); err != nil {
		return err
	}
	if err := s.free(ctx, id); err != nil {
		return err
	}
	left, err := s.repo.listAttachments(ctx, id, "")
	if err != nil || len(left) == 0 {
		return err
	}
	// After the attachments: who has stored one of these holds a lease still, or has ended.
	held, _, err := s.repo.leases(ctx)
	if delete(held, s.lease.id); err != nil || len(held) > 0 {
		return err
	}
	// One that has ended since the first look may have made the snapshot.
	if err := s.free(ctx, id); err != nil {
		return err
	}
	return s.repo.removeAttachments(ctx, left)
}

func (s *Session) free(ctx context.Context, id string) error {
	_, err := s.repo.Manifest(ctx, id)
	switch {
	case err == nil:
		return fmt.Errorf("%w: %s", ErrExists, id)
	case errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

// PutAttachment stores an attachment of the snapshot that this session is to make, under
// the ID that it will be committed with. If the session ends otherwise the attachment
// is deleted. Commit, Checkpoint and Abort wait for it. It fails with ErrExists if there
// is such a snapshot, with ErrClosed after the session's end, and else as
// Repository.PutAttachment. Of an earlier one of the same name it replaces only its own: where
// several sessions are to make the same snapshot, each keeps what it has stored until it has
// ended, and the newest is read.
func (s *Session) PutAttachment(ctx context.Context, id, name string, data []byte) error {
	if err := checkAttachment(id, name); err != nil {
		return err
	}
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if err := s.state(); err != nil {
		return err
	}
	if err := s.free(ctx, id); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })()
	// Others may be about to make the same snapshot: theirs stay.
	key, err := s.repo.putAttachment(ctx, id, name, data, func(key string) bool { return slices.Contains(s.attached, key) })
	if key != "" {
		// Also after a failure: it may have been stored.
		s.attached = append(s.attached, key)
	}
	return err
}

// detach deletes the attachments that the session has stored, unless it may have made its
// snapshot. The caller holds commitMu and has ended the session.
func (s *Session) detach(ctx context.Context) error {
	attached := s.attached
	s.attached = nil
	if s.lease.unsure.Load() {
		return nil // the next collection knows
	}
	for _, key := range attached {
		if err := s.repo.store.remove(ctx, key); err != nil {
			return fmt.Errorf("repo: clean up after an aborted session: %w", err)
		}
	}
	return nil
}

// detachOthers deletes the attachments that the session has stored under other IDs than that of
// the snapshot which it has made.
func (s *Session) detachOthers(ctx context.Context, id string) {
	for _, key := range s.attached {
		if strings.HasPrefix(key, attachmentPrefix+id+"/") {
			continue
		}
		if err := s.repo.store.remove(ctx, key); err != nil {
			s.repo.opts.Logger.Warn("an attachment stays under an ID that was taken", "object", key, "error", err)
		}
	}
	s.attached = nil
}

// strayAttachments deletes the attachments of snapshots that there are not, and those that
// were replaced. It comes before the snapshots are looked at: see "Attachments" in
// FORMAT.md.
func (c *collector) strayAttachments(ctx context.Context) error {
	found := make(map[string][]string)
	before := make(map[string]string) // the last key of a name, by snapshot and name
	var replaced []string
	err := c.repo.store.list(ctx, attachmentPrefix, func(o object) error {
		key, ok := parseAttachmentKey(o.key)
		if !ok {
			return nil
		}
		found[key.snapshot] = append(found[key.snapshot], o.key)
		name := key.snapshot + "/" + key.name
		if older := before[name]; older != "" {
			replaced = append(replaced, older)
		}
		before[name] = o.key
		return nil
	})
	if err != nil || len(found) == 0 {
		return err
	}
	held, _, err := c.repo.leases(ctx)
	if err != nil || len(held) > 0 {
		// One of them may be about to make a snapshot, and what is newest may go with another.
		return err
	}
	gone := replaced
	for id, keys := range found {
		if _, err := c.repo.Manifest(ctx, id); errors.Is(err, ErrNotFound) {
			gone = append(gone, keys...)
		} else if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	seen := make(map[string]bool, len(gone))
	for _, key := range gone {
		if seen[key] {
			continue
		}
		seen[key] = true
		if !c.opts.DryRun {
			if err := c.repo.store.remove(ctx, key); err != nil {
				return err
			}
		}
		c.result.AttachmentsDeleted++
	}
	return nil
}

// checkAttachments looks at the attachments of the snapshots that there are.
func (c *checker) checkAttachments(ctx context.Context, manifests []*Manifest) error {
	for _, m := range manifests {
		for a, err := range c.repo.Attachments(ctx, m.ID) {
			if err != nil {
				return err
			}
			c.report.Attachments++
			if !c.opts.ReadData && a.Size > 0 {
				continue
			}
			_, err := c.repo.readAttachment(ctx, a.key)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err == nil || errors.Is(err, errKeyMissing) {
				continue // replaced or deleted since the listing
			}
			c.add(Damage{Object: a.key, Err: outward(err)}).harms(m.ID, "attachment "+a.Name)
		}
	}
	return nil
}
