package docsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// DefaultBatch is how many documents are written at once where RestoreOptions do not say.
const DefaultBatch = 512

// batchBytes ends a batch early, so that memory does not grow with the documents.
const batchBytes = 8 << 20

// putAttempts is how many times documents in conflict are written.
const putAttempts = 5

// RestoreOptions are the settings of Restore. The zero value restores everything.
type RestoreOptions struct {
	// Skip leaves out documents, if it is set.
	Skip func(database, id string) bool
	// Batch is how many documents are written at once, at most. Default DefaultBatch.
	Batch int
	// Progress, if set, is told after each batch how many documents were written so far. It
	// must return soon.
	Progress func(written int64)
}

// RestoreResult tells what a Restore did.
type RestoreResult struct {
	// Written is how many documents were written, Skipped how many RestoreOptions.Skip left
	// out, and Superseded how many were not written since the same batch had a later one with
	// their ID.
	Written, Skipped, Superseded int64
}

// Restore writes the documents of a backup to a store, database by database in the store's
// order. Documents that the store has are overwritten, others made, and none is deleted. Of
// several documents with one ID the last one wins.
//
// A database that fails does not keep the others from being restored: the error then is one
// for each, as *DatabaseError, with ErrUnknownDatabase among them for what the store has not,
// and ErrDocument for what is no document. What was written before an error, or before ctx
// ended, stays. The result counts it.
func Restore(ctx context.Context, store Store, from Contents, options RestoreOptions) (RestoreResult, error) {
	if options.Batch <= 0 {
		options.Batch = DefaultBatch
	}
	r := &restore{store: store, options: options}
	known, err := store.Databases(ctx)
	if err != nil {
		return r.result, fmt.Errorf("docsource: list of databases: %w", err)
	}
	names := from.Names()
	var errs []error
	for _, name := range known {
		if !slices.Contains(names, name) {
			continue
		}
		err := r.database(ctx, name, from)
		if ctx.Err() != nil {
			return r.result, context.Cause(ctx)
		}
		if err != nil {
			errs = append(errs, &DatabaseError{Database: name, Err: err})
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			errs = append(errs, &DatabaseError{Database: name, Err: ErrUnknownDatabase})
		}
	}
	return r.result, errors.Join(errs...)
}

// restore is a Restore under way.
type restore struct {
	store   Store
	options RestoreOptions
	result  RestoreResult
}

// batch is what is written at once. at says where a document with an ID is.
type batch struct {
	documents []json.RawMessage
	at        map[string]int
	bytes     int
}

func (r *restore) database(ctx context.Context, name string, from Contents) error {
	b := batch{at: map[string]int{}}
	number := 0
	for raw, err := range from.Documents(ctx, name) {
		if err != nil {
			return err
		}
		d, err := canonical(raw)
		if err != nil {
			return fmt.Errorf("document %d: %w", number, err)
		}
		number++
		if r.options.Skip != nil && r.options.Skip(name, d.id) {
			r.result.Skipped++
			continue
		}
		if i, twice := b.at[d.id]; twice {
			r.result.Superseded++
			b.documents[i] = d.json
			continue
		}
		b.at[d.id] = len(b.documents)
		b.documents = append(b.documents, d.json)
		if b.bytes += len(d.json); len(b.documents) >= r.options.Batch || b.bytes >= batchBytes {
			if err := r.put(ctx, name, b); err != nil {
				return err
			}
			b = batch{at: map[string]int{}}
		}
	}
	return r.put(ctx, name, b)
}

// put writes a batch, and what of it was in conflict again.
func (r *restore) put(ctx context.Context, name string, b batch) error {
	left := b.documents
	for attempt := 1; len(left) > 0; attempt++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := r.store.Put(ctx, name, left)
		var conflict *ConflictError
		if err != nil && (!errors.As(err, &conflict) || attempt == putAttempts) {
			return err
		}
		var again []json.RawMessage
		if conflict != nil {
			for _, id := range conflict.IDs {
				if i, ok := b.at[id]; ok {
					again = append(again, b.documents[i])
				}
			}
			if len(again) == 0 {
				return err
			}
		}
		r.result.Written += int64(len(left) - len(again))
		left = again
	}
	if r.options.Progress != nil {
		r.options.Progress(r.result.Written)
	}
	return nil
}
