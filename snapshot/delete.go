package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Delete removes a snapshot. Other snapshots are not harmed, those that have it
// as their parent included. Of one that is registered the registration is removed, unless
// there is a snapshot with its ID here. The space is freed by the next Collect.
// It fails with ErrNotFound, ErrBadID, ErrClosed, or an error of the repository.
func (e *Engine) Delete(ctx context.Context, id string) error {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	return e.forget(ctx, id)
}

// DeleteOptions say how DeleteTree works. The zero value works.
type DeleteOptions struct {
	// DryRun returns what would be deleted, and deletes nothing.
	DryRun bool
	// Check, if set, is called with each snapshot before any is deleted. An error from it
	// ends the call, and nothing is deleted.
	Check func(*Snapshot) error
}

// DeleteTree removes a snapshot with all that were made with it as their parent, and with
// those as theirs, children first. It returns the IDs of what is gone, in the order in
// which it went, also when it fails halfway; the snapshot itself is the last. One that
// somebody else deletes meanwhile is left out of the list, and so is one that is being
// made meanwhile, which stays. A damaged snapshot has no known parent and stays, too.
//
// It fails with ErrNotFound, ErrBadID, ErrClosed, the error of DeleteOptions.Check,
// or an error of the repository.
func (e *Engine) DeleteTree(ctx context.Context, id string, opts DeleteOptions) ([]string, error) {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	tree, err := e.tree(ctx, id)
	if err != nil {
		return nil, err
	}
	if opts.Check != nil {
		for _, s := range tree {
			if err := opts.Check(s); err != nil {
				return nil, fmt.Errorf("snapshot: %s is not deleted, nor what belongs to it: %w", id, err)
			}
		}
	}
	var gone []string
	for _, s := range tree {
		if opts.DryRun {
			gone = append(gone, s.ID)
			continue
		}
		err := e.forget(ctx, s.ID)
		switch {
		case err == nil:
			gone = append(gone, s.ID)
		case !errors.Is(err, ErrNotFound) || s.ID == id:
			return gone, fmt.Errorf("snapshot: delete %s with what was made from it: %w", id, err)
		}
	}
	return gone, nil
}

// tree returns a snapshot and its descendants, each after all of its own.
func (e *Engine) tree(ctx context.Context, id string) ([]*Snapshot, error) {
	root, err := e.known(ctx, id)
	if err != nil {
		return nil, err
	}
	children := make(map[string][]*Snapshot)
	for s, err := range e.candidates(ctx, &Filter{Registered: true}) {
		switch {
		case err == nil:
			children[s.Parent] = append(children[s.Parent], s)
		case damaged(err):
			e.log.Warn("skipped a snapshot that cannot be read while looking for the children of another", "error", err)
		default:
			return nil, err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	// Level by level, then turned round. Nobody but a forger makes a circle, which must
	// not be gone round for ever.
	out, seen := []*Snapshot{root}, map[string]bool{id: true}
	for n := 0; n < len(out); n++ {
		for _, s := range children[out[n].ID] {
			if !seen[s.ID] {
				seen[s.ID] = true
				out = append(out, s)
			}
		}
	}
	slices.Reverse(out)
	return out, nil
}
