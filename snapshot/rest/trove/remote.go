package trove

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// record records a backup that another region has stored.
func (h *Handler) record(r *request, c *createRequest, b *record) error {
	from := c.restoreFrom
	known := false
	for _, d := range h.datastores() {
		if from.version != "" && strings.EqualFold(d.VersionID, from.version) {
			b.Datastore, known = d, true
			break
		}
	}
	if !known {
		return fail(http.StatusNotFound, "Datastore version '%s' cannot be found.", from.version)
	}
	s, err := h.remoteSnapshot(r.Context(), from.location)
	if err == nil && !r.caller.Admin && s.Metadata[metaProject] != r.project {
		err = ErrForbidden
	}
	if err != nil {
		// Not the location as it came: an address may have a password in it, which the error leaves out.
		h.opts.Logger.Warn("a backup of another region cannot be used", "project", r.project, "error", err)
		return fail(http.StatusBadRequest, "Failed to restore backup from %s", from.location)
	}
	b.State, b.Location, b.Snapshot = stateRestored, from.location, s.ID
	b.Size, b.Sized = from.size, from.sized
	if !b.Sized {
		b.Size, b.Sized = gibibytes(s.Stats.Bytes), true
	}
	_, err = h.enter(r.Context(), b)
	return err
}

// errNoSnapshot means that a locationRef names no snapshot.
var errNoSnapshot = errors.New("trove: a location is that of a repository, a slash and the ID of a snapshot")

// splitLocation returns the repository's location and the snapshot's ID of a locationRef.
func splitLocation(ref string) (location, id string, err error) {
	n := strings.LastIndexByte(ref, '/')
	if n < 0 || snapshot.CheckID(ref[n+1:]) != nil {
		return "", "", errNoSnapshot
	}
	return ref[:n], ref[n+1:], nil
}

// openRemote opens the repository of a locationRef, without sources: the caller closes the
// engine.
func (h *Handler) openRemote(ctx context.Context, ref string) (*snapshot.Engine, string, error) {
	location, id, err := splitLocation(ref)
	if err != nil {
		return nil, "", err
	}
	// The engine knows a section of its own, which nobody may name here.
	where, err := repo.ParseLocationWithin(location, h.opts.Locations, h.opts.LocalPrefix)
	if err != nil {
		return nil, "", err
	}
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Repository: where.String(), Locations: h.opts.Locations, MustExist: true, Key: h.opts.Key,
		JobsDir: snapshot.JobsInMemory, Logger: h.opts.Logger,
	})
	return engine, id, err
}

// remoteSnapshot returns the description of the snapshot of a locationRef.
func (h *Handler) remoteSnapshot(ctx context.Context, ref string) (*snapshot.Snapshot, error) {
	engine, id, err := h.openRemote(ctx, ref)
	if err != nil {
		return nil, err
	}
	s, err := engine.Get(ctx, id)
	return s, errors.Join(err, engine.Close())
}
