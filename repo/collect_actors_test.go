package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdstill/holdstill/chunk"
)

// worldFiles are few, and share much: collisions are what this is about.
func worldFiles(n int) map[string][]byte {
	return map[string][]byte{
		"a": noiseData(uint64(n%3), 900),
		"b": noiseData(uint64(10+n%5), 600),
	}
}

func (w *world) startWriter() {
	n, seed := len(w.actors), w.next(16)
	id := fmt.Sprint("w", n)
	w.start("writer of "+id, func(ctx context.Context, r *Repository, a *worldActor) {
		take := takeSnapshot
		if seed%2 == 1 {
			take = takeSharing
		}
		if err := take(ctx, r, id, worldFiles(seed), fixedCutter(w.t, 512)); err == nil {
			w.committed(id, a)
		}
	})
}

// takeSharing is takeSnapshot in two parts: between them it shows others what it has, and
// looks at what they have.
func takeSharing(ctx context.Context, r *Repository, id string, files map[string][]byte, c chunk.Cutter) error {
	s, err := r.NewSession(ctx)
	if err != nil {
		return err
	}
	defer s.Abort(ctx)
	if _, err := stageFiles(ctx, s, id, map[string][]byte{"a": files["a"]}, c); err != nil {
		return err
	}
	if err := errors.Join(s.Sync(ctx), s.Checkpoint(ctx), s.Refresh(ctx)); err != nil {
		return err
	}
	m, err := stageFiles(ctx, s, id, files, c)
	if err != nil {
		return err
	}
	return s.Commit(ctx, m)
}

// startEditor makes a snapshot of what another one holds with a few bytes changed, as
// differences to that.
func (w *world) startEditor() {
	n, at := len(w.actors), w.next(500)
	id := fmt.Sprint("w", n)
	w.start("editor "+id, func(ctx context.Context, r *Repository, a *worldActor) {
		parent := newestOf(ctx, r)
		if parent == nil {
			return
		}
		files, err := readSnapshot(ctx, r, parent.ID)
		if err != nil {
			return
		}
		for path := range files {
			files[path] = edited(files[path], at)
		}
		s, err := r.NewSession(ctx)
		if err != nil {
			return
		}
		defer s.Abort(ctx)
		m, err := stageDeltas(ctx, r, s, id, files, parent.ID, fixedCutter(w.t, 512))
		if err == nil && s.Commit(ctx, m) == nil {
			w.committed(id, a)
			w.saw(worldEvents{deltas: int(min(s.BytesDelta(), 1))})
		}
	})
}

// startPauser makes a snapshot with a checkpoint on the way. Some give up after that and keep
// what they have stored, for others to go on from.
func (w *world) startPauser() {
	n, seed, stays := len(w.actors), w.next(16), w.next(3) > 0
	id := fmt.Sprint("w", n)
	w.start("pauser "+id, func(ctx context.Context, r *Repository, a *worldActor) {
		s, err := r.NewSession(ctx)
		if err != nil {
			return
		}
		defer s.Abort(ctx)
		m, err := stageFiles(ctx, s, id, worldFiles(seed), fixedCutter(w.t, 512))
		if err != nil || s.Checkpoint(ctx) != nil {
			return
		}
		w.saw(worldEvents{checkpoints: 1})
		if !stays {
			if s.Suspend(ctx) == nil {
				w.saw(worldEvents{suspended: 1})
			}
		} else if s.Commit(ctx, m) == nil {
			w.committed(id, a)
		}
	})
}

func newestOf(ctx context.Context, r *Repository) *Manifest {
	for m, err := range r.ManifestsReverse(ctx) {
		if err != nil {
			return nil
		}
		return m
	}
	return nil
}

// startHeir makes a snapshot of what another one holds, without looking at a chunk.
func (w *world) startHeir() {
	n := len(w.actors)
	id := fmt.Sprint("w", n)
	w.start("heir "+id, func(ctx context.Context, r *Repository, a *worldActor) {
		parent := newestOf(ctx, r)
		if parent == nil {
			return
		}
		s, err := r.NewSession(ctx)
		if err != nil {
			return
		}
		defer s.Abort(ctx)
		if s.UseSnapshot(ctx, parent) != nil {
			return
		}
		m := *parent
		m.ID = id
		if s.Commit(ctx, &m) == nil {
			w.committed(id, a)
		}
	})
}

// committed notes a snapshot that was acknowledged to the living.
func (w *world) committed(id string, a *worldActor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.met.commits++
	if !a.dead && !w.doomed[id] {
		w.made[id] = true
	}
}

func (w *world) startDeleter() {
	ids := w.driver.keys(snapshotPrefix)
	if len(ids) == 0 {
		return
	}
	id := strings.TrimPrefix(ids[w.next(len(ids))], snapshotPrefix)
	w.mu.Lock()
	delete(w.made, id)
	w.doomed[id] = true // also if its commit is acknowledged only later
	w.mu.Unlock()
	w.start("deleter of "+id, func(ctx context.Context, r *Repository, _ *worldActor) {
		_ = r.DeleteManifest(ctx, id)
	})
}

func (w *world) startCollector() {
	w.start("collector", func(ctx context.Context, r *Repository, _ *worldActor) {
		c, err := r.Collect(ctx, CollectOptions{LeaseTimeout: time.Minute, MaxWait: 2 * time.Minute, MinDead: 0.01})
		if err == nil {
			w.saw(worldEvents{deleted: c.PacksDeleted, repacked: c.PacksRepacked, givenUp: len(c.GivenUp)})
		}
	})
}
