package docsource

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"time"
)

// Contents are the documents of a backup, wherever it comes from.
type Contents interface {
	// Names returns the databases that there are documents of, in order.
	Names() []string
	// Documents returns the documents of a database. One may be there more than once:
	// then the last one counts. A document need only be valid until the next one.
	Documents(ctx context.Context, database string) iter.Seq2[json.RawMessage, error]
}

// DatabaseInfo describes a database in a backup.
type DatabaseInfo struct {
	Name string `json:"name"`
	// File is the file of its documents within the source; empty if it was left out.
	File string `json:"file,omitempty"`
	// Documents is how many there are.
	Documents int64 `json:"documents"`
	// Sequence is what the store calls this state of the database; empty if nothing.
	Sequence string `json:"sequence,omitempty"`
	// Started and Finished are when its documents were first read through, in UTC.
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	// Error says why the database was left out.
	Error string `json:"error,omitempty"`
}

// backupIndex is the content of databases.json.
type backupIndex struct {
	Databases []DatabaseInfo `json:"databases"`
}

// maxIndexSize bounds databases.json in bytes.
const maxIndexSize = 16 << 20

// maxDocumentSize bounds one document of a backup in bytes.
const maxDocumentSize = 256 << 20

// A Backup is what a Source put into a snapshot. It is safe for concurrent use, and
// implements Contents.
type Backup struct {
	fsys fs.FS
	// Databases are all databases, in the store's order, with those that were left out.
	Databases []DatabaseInfo
}

// OpenBackup reads what a Source put into a snapshot: the folder with the source's name in
// what Engine.OpenFS returns, such as by fs.Sub. It fails with ErrBackup, or with an error
// of the snapshot.
func OpenBackup(fsys fs.FS) (*Backup, error) {
	file, err := fsys.Open(indexName)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxIndexSize+1))
	if err != nil {
		return nil, fmt.Errorf("docsource: %s: %w", indexName, err)
	}
	if len(data) > maxIndexSize {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrBackup, indexName, maxIndexSize)
	}
	var index backupIndex
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrBackup, indexName, err)
	}
	for _, info := range index.Databases {
		if info.File != "" && info.File != fileName(info.Name) {
			return nil, fmt.Errorf("%w: %s names file %q for database %q", ErrBackup, indexName, info.File, info.Name)
		}
	}
	return &Backup{fsys: fsys, Databases: index.Databases}, nil
}

// Names implements Contents.
func (b *Backup) Names() []string {
	var names []string
	for _, info := range b.Databases {
		if info.File != "" {
			names = append(names, info.Name)
		}
	}
	return names
}

// Open returns a database's documents, each as JSON on a line of its own that ends with a
// newline; there are no other newlines in it. Close it after use.
func (b *Backup) Open(database string) (io.ReadCloser, error) {
	for _, info := range b.Databases {
		if info.Name == database && info.File != "" {
			file, err := b.fsys.Open(info.File)
			if err != nil {
				return nil, &DatabaseError{Database: database, Err: err}
			}
			return file, nil
		}
	}
	return nil, &DatabaseError{Database: database, Err: fmt.Errorf("%w: it is not in the backup", ErrBackup)}
}

// Documents implements Contents.
func (b *Backup) Documents(ctx context.Context, database string) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		file, err := b.Open(database)
		if err != nil {
			yield(nil, err)
			return
		}
		defer file.Close()
		lines := bufio.NewReaderSize(file, 64<<10)
		for {
			line, err := readLine(lines)
			if err == nil {
				err = context.Cause(ctx)
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, &DatabaseError{Database: database, Err: err})
				return
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

// readLine returns the next line without its end, valid until the next call. It returns
// io.EOF at the end, and ErrBackup for an end within a line.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	long := append([]byte(nil), line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(long) > maxDocumentSize {
			return nil, fmt.Errorf("%w: a document has more than %d bytes", ErrBackup, maxDocumentSize)
		}
		line, err = r.ReadSlice('\n')
		long = append(long, line...)
	}
	if errors.Is(err, io.EOF) && len(long) > 0 {
		return nil, fmt.Errorf("%w: it ends within a document", ErrBackup)
	}
	if err != nil {
		return nil, err
	}
	return long[:len(long)-1], nil
}
