package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// whose tells which of a journal's two folders has a name.
type whose int

const (
	nobody whose = iota
	oldFolder
	newFolder
	stranger
)

// where tells which folders have the names that matter.
type where struct {
	target, staged, previous whose
}

// look finds out where a journal's folders are.
func (s *site) look(j *journal) (where, error) {
	var w where
	for _, place := range []struct {
		name string
		who  *whose
	}{{s.base, &w.target}, {j.Staged, &w.staged}, {j.Previous, &w.previous}} {
		id, err := identify(s.parent, place.name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			*place.who = nobody
		case errors.Is(err, ErrTarget):
			*place.who = stranger
		case err != nil:
			return w, err
		case id.same(j.New):
			*place.who = newFolder
		case id.same(j.Live):
			*place.who = oldFolder
		default:
			*place.who = stranger
		}
	}
	if w.target == stranger {
		return w, fmt.Errorf("%w: %s is neither the folder that stood there nor the restored one: it was replaced meanwhile", ErrJournal, s.target())
	}
	return w, nil
}

// bringNew makes the new folder the target, from wherever the two are. When it
// fails, bringOld can tell how far it came. The old folder is then under the
// staged name or, after two renames instead of an exchange, under the previous one.
func (s *site) bringNew(j *journal) error {
	w, err := s.look(j)
	if err != nil || w.target == newFolder {
		return err
	}
	if w.staged != newFolder {
		return fmt.Errorf("%w: %s is gone", ErrJournal, s.join(j.Staged))
	}
	if w.target == oldFolder {
		err := s.ops.exchange(s, s.base, j.Staged)
		if err == nil {
			return s.confirm(j, func() error { return s.ops.exchange(s, s.base, j.Staged) })
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		if err := s.ops.move(s, s.base, j.Previous); err != nil {
			return err
		}
	}
	if err := s.ops.move(s, j.Staged, s.base); err != nil {
		return err
	}
	return s.confirm(j, func() error { return s.ops.move(s, s.base, j.Staged) })
}

// confirm makes sure that it was the new folder that came to the target. Names can
// be given to something else between a look at them and the call that uses them;
// then that call is taken back.
func (s *site) confirm(j *journal, takeBack func() error) error {
	id, err := identify(s.parent, s.base)
	if err == nil && !id.same(j.New) {
		err = fmt.Errorf("%w: %s was replaced by something else", ErrTarget, s.join(j.Staged))
	}
	if err != nil {
		return errors.Join(err, takeBack())
	}
	return nil
}

// bringOld makes the old folder the target, or nothing if nothing stood there,
// and leaves the new one under the staged name. It does nothing where that is so.
func (s *site) bringOld(j *journal) error {
	w, err := s.look(j)
	if err != nil {
		return err
	}
	if w.target == newFolder {
		if w, err = s.unseat(j, w); err != nil {
			return err
		}
	}
	if w.target == nobody && !j.Live.isZero() {
		from := j.Previous
		if w.staged == oldFolder {
			from = j.Staged
		} else if w.previous != oldFolder {
			return fmt.Errorf("%w: what stood at %s is gone", ErrJournal, s.target())
		}
		if err := s.ops.move(s, from, s.base); err != nil {
			return err
		}
	}
	if w.previous == newFolder {
		return s.ops.move(s, j.Previous, j.Staged)
	}
	return nil
}

// unseat takes the new folder from the target: in exchange for the old one, or
// else to whichever name is free.
func (s *site) unseat(j *journal, w where) (where, error) {
	park, old := j.Staged, j.Previous
	if w.staged == oldFolder {
		park, old = old, park
	}
	if !j.Live.isZero() {
		if w.staged != oldFolder && w.previous != oldFolder {
			return w, fmt.Errorf("%w: what stood at %s is gone", ErrJournal, s.target())
		}
		err := s.ops.exchange(s, s.base, old)
		if err == nil {
			w.target = oldFolder
			park = old
		} else if !errors.Is(err, errors.ErrUnsupported) {
			return w, err
		}
	}
	if w.target == newFolder {
		if err := s.ops.move(s, s.base, park); err != nil {
			return w, err
		}
		w.target = nobody
	}
	if park == j.Previous {
		w.previous = newFolder
	}
	return w, nil
}

// keepOld gives the old folder its name as the failsafe, makes that durable and
// ends the journal. The new folder is the target. It returns the failsafe's path,
// empty if nothing stood there.
func (s *site) keepOld(j *journal) (string, error) {
	w, err := s.look(j)
	if err != nil {
		return "", err
	}
	previous := ""
	if w.staged == oldFolder {
		previous = s.join(j.Staged)
		if w.previous == stranger {
			// Somebody took the name after it was chosen.
			if j.Previous, err = s.previousName(time.Now()); err != nil {
				return previous, err
			}
		}
		if err := s.ops.move(s, j.Staged, j.Previous); err != nil {
			return previous, fmt.Errorf("name the failsafe: %w", err)
		}
		w.previous = oldFolder
	}
	if w.previous == oldFolder {
		previous = s.join(j.Previous)
	}
	if err := s.ops.syncDir(s.dir); err != nil {
		return previous, err
	}
	return previous, s.removeJournal()
}

// dropNew removes the new folder, if it is one to be discarded, and ends the
// journal. The old folder is the target.
func (s *site) dropNew(j *journal) error {
	// The names first: a crash must not find the old folder elsewhere once the
	// journal is gone.
	if err := s.ops.syncDir(s.dir); err != nil {
		return err
	}
	if j.Discard {
		if err := s.ops.removeAll(s.parent, j.Staged); err != nil {
			return err
		}
	}
	return s.removeJournal()
}
