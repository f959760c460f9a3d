package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

// remotePrefix is where the records of snapshots stand that other repositories hold.
const remotePrefix = "remote/"

// A Remote says that another repository holds a snapshot.
type Remote struct {
	// Location is that of the other repository, as section:path. It holds no secret.
	Location string `json:"location"`
	// Snapshot is the description as it was when it was registered.
	Snapshot *Manifest `json:"snapshot"`
}

// PutRemote registers a snapshot that another repository holds, under its ID. It fails with
// ErrExists if a snapshot with this ID is here or registered, with ErrBadID or ErrInvalid, or
// with an error of the bucket.
func (r *Repository) PutRemote(ctx context.Context, remote Remote) error {
	if err := r.use(); err != nil {
		return err
	}
	if remote.Snapshot == nil || remote.Location == "" {
		return fmt.Errorf("%w: a Remote needs a Location and a Snapshot", ErrInvalid)
	}
	id := remote.Snapshot.ID
	if err := CheckID(id); err != nil {
		return err
	}
	data, err := remote.render()
	if err != nil {
		return err
	}
	if _, err := r.Manifest(ctx, id); err == nil {
		return fmt.Errorf("%w: %s", ErrExists, id)
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	err = r.store.create(ctx, remotePrefix+id, data)
	if errors.Is(err, errKeyExists) {
		return fmt.Errorf("%w: %s is registered", ErrExists, id)
	}
	return err
}

// render returns what is stored, which can be read back.
func (r Remote) render() ([]byte, error) {
	invalid := func(err error) error {
		return fmt.Errorf("%w: registration of snapshot %s: %w", ErrInvalid, r.Snapshot.ID, err)
	}
	if !utf8.ValidString(r.Location) {
		return nil, invalid(fmt.Errorf("location %.100q is not UTF-8", r.Location))
	}
	if err := r.Snapshot.checkText(); err != nil {
		return nil, err
	}
	if err := r.Snapshot.Table.check(r.Snapshot.Table.Size()); err != nil {
		return nil, invalid(err)
	}
	data, err := seal(r)
	if err != nil {
		return nil, invalid(err)
	}
	if len(data) > maxManifestSize {
		return nil, invalid(fmt.Errorf("its %d bytes are more than the %d allowed", len(data), maxManifestSize))
	}
	return data, nil
}

// Remote returns what is registered under an ID. It fails with ErrNotFound, ErrBadID, with an
// error that matches ErrCorrupt or ErrFormat, or with one of the bucket.
func (r *Repository) Remote(ctx context.Context, id string) (*Remote, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	if err := CheckID(id); err != nil {
		return nil, err
	}
	var remote Remote
	key := remotePrefix + id
	err := r.readDocument(ctx, key, maxManifestSize, &remote)
	switch {
	case errors.Is(err, errKeyMissing):
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	case err != nil:
		return nil, err
	case remote.Snapshot == nil || remote.Snapshot.ID != id || remote.Location == "":
		return nil, corrupt(key, "it does not describe snapshot %s elsewhere", id)
	}
	return &remote, nil
}

// Remotes lists what is registered, in the byte order of the IDs. A record that cannot be
// read comes as an error that names it, and the listing goes on; an error of the listing
// itself, or of the context, ends it.
func (r *Repository) Remotes(ctx context.Context) iter.Seq2[*Remote, error] {
	return func(yield func(*Remote, error) bool) {
		if err := r.use(); err != nil {
			yield(nil, err)
			return
		}
		err := r.store.list(ctx, remotePrefix, func(o object) error {
			id := strings.TrimPrefix(o.key, remotePrefix)
			if CheckID(id) != nil {
				return nil
			}
			remote, err := r.Remote(ctx, id)
			if errors.Is(err, ErrNotFound) {
				return nil // deleted meanwhile
			}
			ended := ctx.Err() != nil && errors.Is(err, ctx.Err())
			if !yield(remote, err) || ended {
				return errStopWalk
			}
			return nil
		})
		if err != nil && err != errStopWalk {
			yield(nil, err)
		}
	}
}

// DeleteRemote removes a registration, and nothing else. It fails with ErrNotFound or
// ErrBadID, or with an error of the bucket.
func (r *Repository) DeleteRemote(ctx context.Context, id string) error {
	if err := r.use(); err != nil {
		return err
	}
	if err := CheckID(id); err != nil {
		return err
	}
	err := r.store.removeExisting(ctx, remotePrefix+id)
	if errors.Is(err, errKeyMissing) {
		return fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return err
}

// checkRemotes looks at the records of snapshots elsewhere. A damaged one harms no snapshot
// here.
func (c *checker) checkRemotes(ctx context.Context) error {
	for _, err := range c.repo.Remotes(ctx) {
		var ce *CorruptError
		var fe *FormatError
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &ce):
			c.add(Damage{Object: ce.Object, Err: err})
		case errors.As(err, &fe):
			c.add(Damage{Object: fe.Object, Err: err})
		default:
			return err
		}
	}
	return nil
}
