package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/repo"
)

// RegisterOptions say how the other repository is opened. The zero value works for locations
// that Config.Locations names. Nothing of them is stored.
type RegisterOptions struct {
	// Locations configures the sections that the location may name, in place of
	// Config.Locations. The section "local" is always there.
	Locations repo.LocationConfig
	// Key opens the other repository if it is encrypted. Default: the engine's own key.
	Key repo.KeySource
	// Plain says that the other repository is not encrypted, though this one is.
	Plain bool
}

// Register makes a snapshot that another repository holds known to this one, without its
// data, after making sure that it is there. List shows it where Filter.Registered asks for it, and Get
// returns it, with Snapshot.Location set. Restore fetches what it needs from there; Download
// brings it here, and from then on the snapshot here is the one that is used. Delete
// removes the registration, never what the other repository holds.
//
// Only the location is stored, which names a section of the configuration: no secret.
//
// It fails with a *repo.LocationError, with ErrConfig for options that exclude each other, with repo.ErrExists if a snapshot with this ID is here
// or registered, with ErrNotFound if it is not there, with repo.ErrNotRepository, or with an error of
// either repository.
func (e *Engine) Register(ctx context.Context, id, location string, opts RegisterOptions) (_ *Snapshot, err error) {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	other, err := e.openAt(ctx, location, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, other.close()) }()
	m, err := other.repo.Manifest(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("snapshot: register what %s holds: %w", other.where, err)
	}
	if err := e.repo.PutRemote(ctx, repo.Remote{Location: other.where.String(), Snapshot: m}); err != nil {
		return nil, err
	}
	m.Location = other.where.String()
	return m, nil
}

// otherRepository is one that was opened for a call.
type otherRepository struct {
	where  repo.Location
	bucket *blob.Bucket
	repo   *repo.Repository
}

func (o *otherRepository) close() error { return errors.Join(o.repo.Close(), o.bucket.Close()) }

// openAt opens the repository at a location, which must exist.
func (e *Engine) openAt(ctx context.Context, location string, opts RegisterOptions) (*otherRepository, error) {
	if opts.Plain && opts.Key != nil {
		return nil, fmt.Errorf("%w: RegisterOptions.Plain and Key exclude each other", ErrConfig)
	}
	locations := opts.Locations
	if locations == nil {
		locations = e.config.Locations
	}
	where, err := repo.ParseLocation(location, withLocal(locations))
	if err != nil {
		return nil, err
	}
	bucket, err := repo.OpenLocation(ctx, where, repo.OpenLocationOptions{})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", repo.ErrNotRepository, err)
	}
	if err != nil {
		return nil, err
	}
	r, err := e.openOther(ctx, bucket, TransferOptions{MustExist: true, Key: opts.Key, Plain: opts.Plain})
	if err != nil {
		return nil, errors.Join(err, bucket.Close())
	}
	return &otherRepository{where, bucket, r}, nil
}

// known returns a snapshot that is here or registered.
func (e *Engine) known(ctx context.Context, id string) (*Snapshot, error) {
	m, err := e.repo.Manifest(ctx, id)
	if !errors.Is(err, ErrNotFound) {
		return m, err
	}
	remote, remoteErr := e.repo.Remote(ctx, id)
	if errors.Is(remoteErr, ErrNotFound) {
		return nil, err
	}
	if remoteErr != nil {
		return nil, remoteErr
	}
	return located(remote), nil
}

func located(r *repo.Remote) *Snapshot {
	r.Snapshot.Location = r.Location
	return r.Snapshot
}

// forget deletes a snapshot that is here, or else a registration.
func (e *Engine) forget(ctx context.Context, id string) error {
	err := e.repo.DeleteManifest(ctx, id)
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if remoteErr := e.repo.DeleteRemote(ctx, id); !errors.Is(remoteErr, ErrNotFound) {
		return remoteErr
	}
	return err
}

// withRegistered adds to a listing in the order of IDs, or against it, what is registered
// and not in it. The IDs of the first are all that are here.
func (e *Engine) withRegistered(ctx context.Context, f *Filter, here iter.Seq2[*Snapshot, error]) iter.Seq2[*Snapshot, error] {
	return func(yield func(*Snapshot, error) bool) {
		var there []*Snapshot
		for r, err := range e.repo.Remotes(ctx) {
			switch {
			case err != nil:
				if !yield(nil, err) {
					return
				}
			case f.wanted(r.Snapshot.ID):
				there = append(there, located(r))
			}
		}
		if f.NewestFirst {
			slices.Reverse(there)
		}
		before := func(a, b string) bool { return f.NewestFirst && a > b || !f.NewestFirst && a < b }
		for s, err := range here {
			for err == nil && len(there) > 0 && !before(s.ID, there[0].ID) {
				if there[0].ID != s.ID && !yield(there[0], nil) {
					return
				}
				there = there[1:]
			}
			if !yield(s, err) {
				return
			}
		}
		for _, s := range there {
			if ctx.Err() != nil || !yield(s, nil) {
				return
			}
		}
	}
}
