package docsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// A Store keeps JSON documents in named databases. Each document is an object whose "_id"
// is a string that is not empty, and names it in its database. A Store must be safe for
// concurrent use.
type Store interface {
	// Databases returns the names of the databases, in the order in which they are backed
	// up and restored. It is called outside of a freeze and may read.
	Databases(ctx context.Context) ([]string, error)
	// Pin returns the store as it stands now. It runs where snapshot.Source.Pin does, while
	// every transaction waits: its time must not grow with the documents.
	Pin(ctx context.Context) (Reader, error)
	// Put writes documents to a database and makes them current, whether or not they are
	// there in another revision. It writes nothing else and deletes nothing. No two of the
	// documents have one ID. It must not keep the slices. Where some of the documents were
	// changed by others meanwhile it may return a *ConflictError, and is called again.
	Put(ctx context.Context, database string, documents []json.RawMessage) error
}

// A Reader is a Store at one moment. What it returns is the same whatever the store does
// meanwhile. It must be safe for concurrent use.
type Reader interface {
	// Documents returns the documents of a database, each of them once and whenever it is
	// called in the same order. A document need only be valid until the next one.
	Documents(ctx context.Context, database string) iter.Seq2[json.RawMessage, error]
	// Sequence returns the store's own name for the state of a database, such as the number
	// of the last change. Empty if there is none.
	Sequence(database string) string
	// Close is called once, after the last read.
	Close() error
}

// ErrDocument means that something is not a document: not a JSON object in UTF-8, or
// without an "_id".
var ErrDocument = errors.New("docsource: not a document")

// ErrBackup means that a backup cannot be read.
var ErrBackup = errors.New("docsource: bad backup")

// ErrUnknownDatabase means that a backup has a database that the store has not.
var ErrUnknownDatabase = errors.New("docsource: the store has no such database")

// A ConflictError is returned by Store.Put where documents were changed by others while
// they were being written.
type ConflictError struct {
	// Database is where, and IDs are the documents that were not written. All others were.
	Database string
	IDs      []string
}

func (e *ConflictError) Error() string {
	first := ""
	if len(e.IDs) > 0 {
		first = fmt.Sprintf(", %q the first of them", e.IDs[0])
	}
	return fmt.Sprintf("docsource: database %q: %d documents in conflict%s", e.Database, len(e.IDs), first)
}

// A DatabaseError reports the database that an error is about.
type DatabaseError struct {
	Database string
	Err      error
}

func (e *DatabaseError) Error() string {
	return fmt.Sprintf("docsource: database %q: %v", e.Database, e.Err)
}

// Unwrap returns the cause.
func (e *DatabaseError) Unwrap() error { return e.Err }
