package optools

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// maxTransactions is how many are kept. When there are more, those that ended first go.
const maxTransactions = 1000

// maxNotes is how many notes a transaction can have.
const maxNotes = 1000

var (
	errNoTransaction   = errors.New("optools: no such transaction")
	errTransactionID   = errors.New("optools: a tx_id has 1 to 240 of the characters A-Z a-z 0-9 . - _")
	errTransactionBusy = errors.New("optools: there is a transaction with this tx_id")
	errTooMany         = errors.New("optools: too many transactions are pending, or too much is noted in one")
)

// transactions are all that there are, in memory and, if there is a folder, in a file each.
type transactions struct {
	dir string
	log *slog.Logger
	now func() time.Time

	// mu guards all, and is held while a file is written.
	mu  sync.Mutex
	all map[string]*transaction
}

// The files of records end in recordExt. While one is written its name begins with newPrefix, which no ID of a
// transaction does.
const (
	recordExt = ".json"
	newPrefix = ".new-"
)

func openTransactions(dir string, log *slog.Logger, now func() time.Time) (*transactions, error) {
	t := &transactions{dir: dir, log: log, now: now, all: map[string]*transaction{}}
	if dir == "" {
		return t, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), newPrefix) {
			// What a crash left of a record that was being written.
			if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			continue
		}
		id, ok := strings.CutSuffix(entry.Name(), recordExt)
		if !ok {
			continue
		}
		tx, err := readRecord(filepath.Join(dir, entry.Name()), id)
		if err != nil {
			log.Error("optools: a record of a transaction is not used", "file", entry.Name(), "error", err)
			continue
		}
		t.all[id] = tx
	}
	return t, nil
}

func readRecord(path, id string) (*transaction, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	tx := &transaction{}
	if err := json.Unmarshal(data, tx); err != nil {
		return nil, err
	}
	if tx.ID != id || !slices.Contains(validStatus, tx.Status) {
		return nil, fmt.Errorf("it is not that of transaction %s", id)
	}
	return tx, nil
}

// store keeps a transaction, if there is a folder on disk first. The caller holds mu.
func (t *transactions) store(tx *transaction) error {
	if t.dir != "" {
		data, err := json.Marshal(tx)
		if err != nil {
			return err
		}
		if err := replaceFile(filepath.Join(t.dir, tx.ID+recordExt), data); err != nil {
			return err
		}
	}
	t.all[tx.ID] = tx
	return nil
}

// replaceFile writes a file that after a crash is the old one or the new one, and once it has returned the new one.
func replaceFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), newPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a folder durable, where the system can.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// create adds a transaction that begins now.
func (t *transactions) create(tx transaction) (transaction, error) {
	if repo.CheckID(tx.ID) != nil {
		return tx, errTransactionID
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all[tx.ID] != nil {
		return tx, errTransactionBusy
	}
	if err := t.makeRoom(); err != nil {
		return tx, err
	}
	if tx.Description == "" {
		tx.Description = "Unknown request"
	}
	if tx.By == "" {
		tx.By = "-"
	}
	if tx.UUID == "" {
		tx.UUID = "-"
	}
	if tx.Timeout <= 0 {
		tx.Timeout = defaultTimeout
	}
	if tx.Messages == nil {
		tx.Messages = []*string{}
	}
	tx.Status = statusPending
	tx.Started = milliseconds(t.now())
	tx.Updated = tx.Started
	return tx, t.store(&tx)
}

// makeRoom forgets the transaction that ended first, if there are as many as there may be.
// The caller holds mu.
func (t *transactions) makeRoom() error {
	if len(t.all) < maxTransactions {
		return nil
	}
	var first *transaction
	for _, tx := range t.all {
		if tx.final() && (first == nil || tx.Completed < first.Completed) {
			first = tx
		}
	}
	if first == nil {
		return errTooMany
	}
	if t.dir != "" {
		if err := os.Remove(filepath.Join(t.dir, first.ID+recordExt)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	delete(t.all, first.ID)
	return nil
}

// edit changes a transaction. ended says that it was not final before, and is now.
func (t *transactions) edit(id string, e edit) (after transaction, ended bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.change(id, e)
}

func (t *transactions) change(id string, e edit) (after transaction, ended bool, err error) {
	old := t.all[id]
	if old == nil {
		return transaction{}, false, errNoTransaction
	}
	tx := *old
	tx.Messages = slices.Clone(old.Messages)
	tx.Notes = slices.Clone(old.Notes)
	tx.apply(e, milliseconds(t.now()))
	if len(tx.Notes) > maxNotes {
		return transaction{}, false, errTooMany
	}
	if err := t.store(&tx); err != nil {
		return transaction{}, false, err
	}
	return tx, tx.final() && !old.final(), nil
}

// touch says that a transaction is alive. It is not worth a write: a Handler that comes later
// finds no restore under way, and lets it time out.
func (t *transactions) touch(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.all[id]; old != nil && old.Status == statusPending {
		tx := *old
		tx.Updated = milliseconds(t.now())
		t.all[id] = &tx
	}
}

// get returns a transaction, after it was given up if it has expired; then ended is set.
func (t *transactions) get(id string) (tx transaction, ended bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.all[id]
	if found == nil {
		return transaction{}, false, errNoTransaction
	}
	if found.expired(milliseconds(t.now())) {
		return t.change(id, timedOut())
	}
	return *found, false, nil
}

// list returns all transactions: those that have not ended first, then those that ended
// last. Those that have expired are given up; ended are these.
func (t *transactions) list() (all, ended []transaction) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := milliseconds(t.now())
	for id, tx := range t.all {
		if tx.expired(now) {
			after, _, err := t.change(id, timedOut())
			if err != nil {
				t.log.Error("optools: a transaction that timed out could not be recorded", "transaction", id, "error", err)
			} else {
				ended = append(ended, after)
			}
		}
	}
	for _, tx := range t.all {
		all = append(all, *tx)
	}
	slices.SortFunc(all, func(a, b transaction) int {
		if a.final() != b.final() {
			if b.final() {
				return -1
			}
			return 1
		}
		if a.Completed != b.Completed {
			return int(max(-1, min(1, b.Completed-a.Completed)))
		}
		if a.Started != b.Started {
			return int(max(-1, min(1, b.Started-a.Started)))
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, ended
}
