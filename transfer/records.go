package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The folder of records:
//
//	lock        empty; held, in the sense of flock(2), by the process that uses the folder
//	sequence    the next free number, as digits and a line feed; written when records go
//	114.json    the record of job 114: {"sha256":"<64 hex digits>","job":{...}}
//	*.tmp       a record being written; removed at the next start
//	*.damaged   a record that could not be read
//
// The checksum is of the bytes of the job as they stand. Every file is written under
// another name, synced, renamed, and the folder synced, so that it is whole or as before.

const (
	lockName      = "lock"
	sequenceName  = "sequence"
	recordSuffix  = ".json"
	tempSuffix    = ".tmp"
	damagedSuffix = ".damaged"

	// maxRecordSize bounds a record in bytes.
	maxRecordSize = 1 << 20
	// maxErrorText bounds the message in a record, in bytes.
	maxErrorText = 16 << 10
)

// records is the folder of records.
type records struct {
	root *os.Root
	lock *os.File
	path string
	// mu is held while files change.
	mu sync.Mutex
}

func openRecords(dir string) (*records, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	lock, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := tryLock(lock); err != nil {
		err = fmt.Errorf("transfer: lock the folder of job records %s: %w", dir, err)
		return nil, errors.Join(err, lock.Close(), root.Close())
	}
	return &records{root: root, lock: lock, path: dir}, nil
}

func (r *records) close() error { return errors.Join(r.lock.Close(), r.root.Close()) }

// load returns what the records say, and the next free number.
func (r *records) load(ctx context.Context) (found []Status, next uint64, damaged []error, err error) {
	dir, err := r.root.Open(".")
	if err != nil {
		return nil, 0, nil, err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return nil, 0, nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := context.Cause(ctx); err != nil {
			return nil, 0, nil, err
		}
		number, suffix, _ := strings.Cut(name, ".")
		n, numberErr := strconv.ParseUint(number, 10, 63)
		if numberErr == nil {
			next = max(next, n+1)
		}
		switch {
		case strings.HasSuffix(name, tempSuffix):
			if err := r.root.Remove(name); err != nil {
				return nil, 0, nil, err
			}
		case name == sequenceName:
			n, err := r.sequence()
			if err != nil {
				damaged = append(damaged, r.setAside(name, err))
			}
			next = max(next, n)
		case numberErr == nil && "."+suffix == recordSuffix:
			s, err := r.read(name, n)
			if err != nil {
				damaged = append(damaged, r.setAside(name, err))
				continue
			}
			found = append(found, s)
		}
	}
	return found, next, damaged, nil
}

func (r *records) readFile(name string) ([]byte, error) {
	f, err := r.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRecordSize+1))
}

func (r *records) sequence() (uint64, error) {
	data, err := r.readFile(sequenceName)
	if err != nil {
		return 0, err
	}
	text, ok := bytes.CutSuffix(data, []byte("\n"))
	n, err := strconv.ParseUint(string(text), 10, 63)
	if err != nil || !ok || strconv.FormatUint(n, 10) != string(text) {
		return 0, errors.New("it holds no number")
	}
	return n, nil
}

func (r *records) read(name string, n uint64) (Status, error) {
	data, err := r.readFile(name)
	if err != nil {
		return Status{}, err
	}
	s, err := parseRecord(data)
	if err == nil && s.ID != strconv.FormatUint(n, 10) {
		err = fmt.Errorf("it is the record of job %.40q", s.ID)
	}
	return s, err
}

// setAside gives a file that cannot be used another name, and says why.
func (r *records) setAside(name string, err error) error {
	return &RecordError{Path: filepath.Join(r.path, name), Err: errors.Join(err, r.root.Rename(name, name+damagedSuffix))}
}

// write makes the record of a job durable.
func (r *records) write(s *Status) error {
	data, err := renderRecord(s)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.replace(s.ID+recordSuffix, data)
}

// replace writes a file durably. The caller holds mu.
func (r *records) replace(name string, data []byte) error {
	temp := name + tempSuffix
	f, err := r.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = r.root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, r.remove(temp))
	}
	return r.syncDir()
}

func (r *records) remove(name string) error {
	if err := r.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (r *records) syncDir() error {
	dir, err := r.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(syncFolder(dir), dir.Close())
}

// forget removes records, and makes sure first that their numbers are not used again.
func (r *records) forget(numbers []uint64, next uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.replace(sequenceName, []byte(strconv.FormatUint(next, 10)+"\n")); err != nil {
		return err
	}
	var errs []error
	for _, n := range numbers {
		errs = append(errs, r.remove(strconv.FormatUint(n, 10)+recordSuffix))
	}
	return errors.Join(errs...)
}

const (
	recordHead = `{"sha256":"`
	recordJob  = `","job":`
	recordTail = "}\n"
)

// renderRecord renders the record of a job.
func renderRecord(s *Status) ([]byte, error) {
	if len(s.Error) > maxErrorText {
		c := s.clone()
		c.Error = strings.ToValidUTF8(c.Error[:maxErrorText], "") + "..."
		for name, one := range c.Servers {
			one.Error = one.Error[:min(len(one.Error), maxErrorText/16)]
			c.Servers[name] = one
		}
		s = &c
	}
	doc, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(doc)
	out := []byte(recordHead + hex.EncodeToString(sum[:]) + recordJob)
	out = append(append(out, doc...), recordTail...)
	if len(out) > maxRecordSize {
		return nil, fmt.Errorf("transfer: the record of job %s has %d bytes, more than the %d allowed", s.ID, len(out), maxRecordSize)
	}
	return out, nil
}

// parseRecord reads what renderRecord has written, and nothing else.
func parseRecord(data []byte) (s Status, err error) {
	if len(data) > maxRecordSize {
		return s, fmt.Errorf("it has more than %d bytes", maxRecordSize)
	}
	rest, ok := bytes.CutPrefix(data, []byte(recordHead))
	if !ok || len(rest) < 64 {
		return s, errors.New("it does not begin as a record")
	}
	want := string(rest[:64])
	doc, ok := bytes.CutPrefix(rest[64:], []byte(recordJob))
	if !ok {
		return s, errors.New("its head is damaged")
	}
	if doc, ok = bytes.CutSuffix(doc, []byte(recordTail)); !ok {
		return s, errors.New("its end is cut off or damaged")
	}
	if sum := sha256.Sum256(doc); hex.EncodeToString(sum[:]) != want {
		return s, errors.New("its checksum does not match")
	}
	if err := json.Unmarshal(doc, &s); err != nil {
		return Status{}, fmt.Errorf("its job cannot be decoded: %w", err)
	}
	if n, err := strconv.ParseUint(s.ID, 10, 63); err != nil || strconv.FormatUint(n, 10) != s.ID || s.Kind == "" || s.State == "" {
		return Status{}, errors.New("its job has no number, kind or state")
	}
	if s.Servers == nil {
		s.Servers = make(map[string]ServerStatus)
	}
	return s, nil
}
