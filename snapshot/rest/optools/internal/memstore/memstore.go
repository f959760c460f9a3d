// Package memstore is a document store in memory, for tests.
package memstore

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/holdstill/holdstill/snapshot/rest/optools/docsource"
)

// A Store keeps documents in memory. It is safe for concurrent use.
type Store struct {
	names []string

	mu        sync.Mutex
	databases map[string]map[string]string
	changes   int
	sequence  map[string]int

	// Hooks, set before use. OnPut is called before documents are written and may fail;
	// OnRead before a document is read.
	OnPut  func(ctx context.Context, database string, documents []json.RawMessage) error
	OnRead func(ctx context.Context, database, id string) error
}

// New returns a store with databases of these names, all empty.
func New(names ...string) *Store {
	s := &Store{names: names, databases: map[string]map[string]string{}, sequence: map[string]int{}}
	for _, name := range names {
		s.databases[name] = map[string]string{}
	}
	return s
}

// Databases implements docsource.Store.
func (s *Store) Databases(context.Context) ([]string, error) { return slices.Clone(s.names), nil }

// Set makes documents as they are written.
func (s *Store) Set(database string, documents ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range documents {
		var fields struct {
			ID string `json:"_id"`
		}
		if err := json.Unmarshal([]byte(d), &fields); err != nil {
			panic(fmt.Sprintf("memstore: %v in %s", err, d))
		}
		s.databases[database][fields.ID] = d
		s.changes++
		s.sequence[database] = s.changes
	}
}

// Delete removes documents.
func (s *Store) Delete(database string, ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.databases[database], id)
		s.changes++
		s.sequence[database] = s.changes
	}
}

// All returns the documents of a database by their IDs.
func (s *Store) All(database string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.databases[database])
}

// Put implements docsource.Store.
func (s *Store) Put(ctx context.Context, database string, documents []json.RawMessage) error {
	if s.OnPut != nil {
		if err := s.OnPut(ctx, database, documents); err != nil {
			return err
		}
	}
	for _, d := range documents {
		s.Set(database, string(d))
	}
	return nil
}

// Pin implements docsource.Store.
func (s *Store) Pin(context.Context) (docsource.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &reader{store: s, databases: map[string]map[string]string{}, sequence: maps.Clone(s.sequence)}
	for name, docs := range s.databases {
		r.databases[name] = maps.Clone(docs)
	}
	return r, nil
}

type reader struct {
	store     *Store
	databases map[string]map[string]string
	sequence  map[string]int
}

func (r *reader) Close() error { return nil }

func (r *reader) Sequence(database string) string {
	if r.sequence[database] == 0 {
		return ""
	}
	return fmt.Sprintf("%d-g1AAAA", r.sequence[database])
}

func (r *reader) Documents(ctx context.Context, database string) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		docs := r.databases[database]
		for _, id := range slices.Sorted(maps.Keys(docs)) {
			if r.store.OnRead != nil {
				if err := r.store.OnRead(ctx, database, id); err != nil {
					yield(nil, err)
					return
				}
			}
			if !yield(json.RawMessage(docs[id]), nil) {
				return
			}
		}
	}
}
