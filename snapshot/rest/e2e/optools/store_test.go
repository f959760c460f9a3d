package optools_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/snapshot/rest/optools/docsource"
)

var databases = []string{"athena_components", "athena_sessions", "athena_system"}

// store keeps documents in Pebble, with revisions as CouchDB has them. Every write passes the gate.
type store struct {
	dir  string
	gate *lock.Gate
	kv   *pebble.DB
}

func openStore(t *testing.T, dir string) *store {
	t.Helper()
	s := &store{dir: dir, gate: lock.New(lock.Options{})}
	var err error
	s.kv, err = pebble.Open(filepath.Join(dir, "documents"), &pebble.Options{MemTableSize: 1 << 20, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func documentKey(database, id string) []byte { return []byte("d\x00" + database + "\x00" + id) }
func sequenceKey(database string) []byte     { return []byte("s\x00" + database) }

func (s *store) Databases(context.Context) ([]string, error) { return databases, nil }

// write makes documents current in one transaction, each with the next revision of its own.
func (s *store) write(ctx context.Context, documents map[string][]json.RawMessage) error {
	ctx, tx, err := s.gate.BeginContext(ctx)
	if err != nil {
		return err
	}
	defer tx.End()
	b := s.kv.NewIndexedBatch()
	for database, docs := range documents {
		for _, d := range docs {
			if err := put(b, database, d); err != nil {
				return errors.Join(err, b.Close())
			}
		}
	}
	if err := context.Cause(ctx); err != nil {
		return errors.Join(err, b.Close())
	}
	return b.Commit(pebble.Sync)
}

func put(b *pebble.Batch, database string, raw json.RawMessage) error {
	var fields map[string]json.RawMessage
	var id string
	if err := errors.Join(json.Unmarshal(raw, &fields), json.Unmarshal(fields["_id"], &id)); err != nil {
		return err
	}
	key := documentKey(database, id)
	revision := 0
	if old, closer, err := b.Get(key); err == nil {
		var was struct {
			Revision string `json:"_rev"`
		}
		if err := errors.Join(json.Unmarshal(old, &was), closer.Close()); err != nil {
			return err
		}
		number, _, _ := strings.Cut(was.Revision, "-")
		if revision, err = strconv.Atoi(number); err != nil {
			return err
		}
	} else if !errors.Is(err, pebble.ErrNotFound) {
		return err
	}
	delete(fields, "_rev")
	body, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	fields["_rev"], _ = json.Marshal(fmt.Sprintf("%d-%x", revision+1, sum[:16]))
	if body, err = json.Marshal(fields); err != nil {
		return err
	}
	sequence, err := number(b, sequenceKey(database))
	if err != nil {
		return err
	}
	return errors.Join(b.Set(key, body, nil), b.Set(sequenceKey(database), fmt.Append(nil, sequence+1), nil))
}

func number(r pebble.Reader, key []byte) (int, error) {
	value, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(value))
	return n, errors.Join(err, closer.Close())
}

func (s *store) Put(ctx context.Context, database string, documents []json.RawMessage) error {
	return s.write(ctx, map[string][]json.RawMessage{database: documents})
}

// remove deletes a document.
func (s *store) remove(ctx context.Context, database, id string) error {
	_, tx, err := s.gate.BeginContext(ctx)
	if err != nil {
		return err
	}
	defer tx.End()
	return s.kv.Delete(documentKey(database, id), pebble.Sync)
}

func (s *store) Pin(context.Context) (docsource.Reader, error) {
	return &reader{s.kv.NewSnapshot()}, nil
}

type reader struct{ *pebble.Snapshot }

func (r *reader) Sequence(database string) string {
	n, err := number(r.Snapshot, sequenceKey(database))
	if err != nil || n == 0 {
		return ""
	}
	return fmt.Sprintf("%d-g1AAAAG", n)
}

func (r *reader) Documents(ctx context.Context, database string) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		prefix := documentKey(database, "")
		end := bytes.Clone(prefix)
		end[len(end)-1]++
		it, err := r.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: prefix, UpperBound: end})
		if err != nil {
			yield(nil, err)
			return
		}
		defer it.Close()
		for it.First(); it.Valid(); it.Next() {
			value, err := it.ValueAndErr()
			if !yield(value, err) || err != nil {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(nil, err)
		}
	}
}

// rows returns all documents of a database without their revisions, as they stand in Pebble.
func (s *store) rows(t *testing.T, database string) map[string]map[string]any {
	t.Helper()
	pinned, err := s.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer pinned.Close()
	rows := map[string]map[string]any{}
	for raw, err := range pinned.Documents(t.Context(), database) {
		if err != nil {
			t.Fatal(err)
		}
		var d map[string]any
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Fatal(err)
		}
		delete(d, "_rev")
		rows[d["_id"].(string)] = d
	}
	return rows
}
