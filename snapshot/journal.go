package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// The files that a restore keeps beside a target named base:
//
//	.base.holdstill-lock                  held, in the sense of flock(2), by whoever
//	                                      changes the target
//	.base.holdstill-restoring-<16 hex>    the restored folder until it takes the
//	                                      target's place; afterwards, for a moment,
//	                                      what stood there
//	.base.holdstill-restore.json          the journal: there while the target and
//	                                      another folder are about to change names
//	.base.holdstill-restore.json.tmp      a journal being written
//	base.previous-20060102T150405Z        the failsafe: what stood there before
const (
	targetLockSuffix = ".holdstill-lock"
	journalSuffix    = ".holdstill-restore.json"
	stagingInfix     = ".holdstill-restoring-"
	stagingDigits    = 16
	tempSuffix       = ".tmp"
	previousInfix    = ".previous-"
	previousStamp    = "20060102T150405Z"
)

// A journal says which two folders change names, so that whoever finds it after a
// crash can tell from where they are what was done and what was not. Where a
// folder is says more than the state: the state only tells which way to go.
type journal struct {
	Version int `json:"version"`
	// Snapshot is what is restored; empty in Undo.
	Snapshot string `json:"snapshot,omitempty"`
	// Staged is the name of the folder that is to take the target's place.
	Staged string `json:"staged"`
	// Discard is set when the staged folder is a copy that can be made again, and
	// is to be removed if it does not stay at the target.
	Discard bool `json:"discard"`
	// Previous is the name that what stood at the target gets in the end.
	Previous string `json:"previous"`
	// New is the staged folder itself.
	New identity `json:"new"`
	// Live is the folder that stood at the target. Zero when nothing did.
	Live identity `json:"live"`
	// State is how far it went.
	State journalState `json:"state"`
}

type journalState string

const (
	// statePrepared: the names may have changed or not. Nothing has used the new
	// folder.
	statePrepared journalState = "prepared"
	// stateExchanged: the new folder is the target, and the database may have been
	// started on it.
	stateExchanged journalState = "exchanged"
	// stateUndoing: the old folder is to be put back.
	stateUndoing journalState = "undoing"
	// stateUndone: the old folder is the target, and the database may have been
	// started on it.
	stateUndone journalState = "undone"
)

// An identity tells a folder from every other one in the same parent folder,
// whatever its name. Device numbers can change when the machine starts again, so
// only inodes are compared; both are kept for whoever reads the journal.
type identity struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

func (i identity) isZero() bool { return i == identity{} }

func (i identity) same(other identity) bool { return i.Inode == other.Inode && !i.isZero() }

const (
	journalVersion = 1
	// maxJournalSize bounds the journal in bytes.
	maxJournalSize = 16 << 10
)

// parseJournal reads the journal of a target named base. It takes nothing that a
// restore of that target could not have written: the names in it are moved and
// removed later.
func parseJournal(data []byte, base string) (*journal, error) {
	var j journal
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is more after its end")
	}
	if j.Version != journalVersion {
		return nil, fmt.Errorf("it has version %d, this library reads version %d", j.Version, journalVersion)
	}
	switch j.State {
	case statePrepared, stateExchanged, stateUndoing, stateUndone:
	default:
		return nil, fmt.Errorf("it has the unknown state %q", j.State)
	}
	switch {
	case j.Discard && !isStaging(j.Staged, base), !j.Discard && checkSibling(j.Staged, base) != nil:
		return nil, fmt.Errorf("it names %q as the restored folder", j.Staged)
	case !isPrevious(j.Previous, base) || j.Previous == j.Staged:
		return nil, fmt.Errorf("it names %q as the failsafe", j.Previous)
	case j.New.isZero() || j.New.same(j.Live):
		return nil, errors.New("it does not tell the two folders apart")
	}
	return &j, nil
}

// isStaging says whether a name is one that a staging folder of base can have.
func isStaging(name, base string) bool {
	digits, ok := strings.CutPrefix(name, "."+base+stagingInfix)
	return ok && len(digits) == stagingDigits && strings.Trim(digits, "0123456789abcdef") == ""
}

// isPrevious says whether a name is one that a failsafe of base can have.
func isPrevious(name, base string) bool {
	stamp, ok := strings.CutPrefix(name, base+previousInfix)
	return ok && stamp != "" && len(stamp) < 40 && strings.Trim(stamp, "0123456789TZ-") == ""
}

// checkSibling says whether a name can be that of a folder beside base.
func checkSibling(name, base string) error {
	switch {
	case !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "/\\\x00"):
		return fmt.Errorf("%w: %q is not the name of a folder beside %s", ErrTarget, name, base)
	case name == base || strings.HasPrefix(name, "."+base+".holdstill-"):
		return fmt.Errorf("%w: %s cannot be a failsafe of %s", ErrTarget, name, base)
	}
	return nil
}

// readJournal returns the journal of s, or nil if there is none.
func (s *site) readJournal() (*journal, error) {
	name := "." + s.base + journalSuffix
	f, err := s.parent.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxJournalSize+1))
	if err != nil {
		return nil, err
	}
	var j *journal
	if len(data) > maxJournalSize {
		err = errors.New("it is too large")
	} else {
		j, err = parseJournal(data, s.base)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w: find out which of the folders beside it is the right one, then remove it", ErrJournal, s.join(name), err)
	}
	return j, nil
}

// writeJournal makes the journal durable in a new state.
func (s *site) writeJournal(j *journal, state journalState) error {
	next := *j
	next.State = state
	data, err := json.MarshalIndent(next, "", "\t")
	if err != nil {
		return err
	}
	if err := s.ops.writeFile(s, "."+s.base+journalSuffix, append(data, '\n')); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	j.State = state
	return nil
}

// removeJournal ends what the journal was for. Everything that it spoke of must
// be durable.
func (s *site) removeJournal() error {
	err := s.ops.remove(s.parent, "."+s.base+journalSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the journal: %w", err)
	}
	return s.ops.syncDir(s.dir)
}
