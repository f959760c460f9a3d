package docsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"github.com/holdstill/holdstill/snapshot"
)

// Names of files in a snapshot, below the source's own name.
const (
	indexName    = "databases.json"
	documentsExt = ".ndjson"
)

// Options are the settings of New. The zero value works.
type Options struct {
	// ExcludeTypes are the values of "type" of documents that are not backed up. Nil means
	// DefaultExcludeTypes, an empty slice none.
	ExcludeTypes []string
	// Epoch binds Reader.Sequence to one life of the store, as in snapshot.View. With it a
	// database whose sequence is that of the parent snapshot counts as unchanged, and what
	// was stored of it is taken over: a promise that the sequence changes whenever a document
	// does. Empty: every database is compared byte for byte.
	Epoch string
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

// DefaultExcludeTypes returns the types that are left out unless Options say otherwise:
// backups kept as documents, and the sessions of logged-in users.
func DefaultExcludeTypes() []string { return []string{"athena_backup", "session_athena"} }

// A Source is a snapshot.Source of a document store. It is safe for concurrent use.
type Source struct {
	store   Store
	options Options
	// filter tells apart what different ExcludeTypes leave in a file.
	filter string
}

// New returns a Source of a store.
func New(store Store, options Options) *Source {
	if options.ExcludeTypes == nil {
		options.ExcludeTypes = DefaultExcludeTypes()
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	types := slices.Sorted(slices.Values(options.ExcludeTypes))
	sum := blake3.Sum256([]byte(strings.Join(types, "\x00")))
	return &Source{store: store, options: options, filter: fmt.Sprintf("%x", sum[:8])}
}

// Pin pins the store. It reads no document: that is done when the freeze is over, once to
// learn the size of each file, which is the time that DatabaseInfo tells, and once for its
// content. A database that cannot be read the first time is left out of the snapshot, and
// DatabaseInfo.Error says why; one that cannot be read the second time fails the snapshot.
func (s *Source) Pin(ctx context.Context) (*snapshot.View, error) {
	reader, err := s.store.Pin(ctx)
	if err != nil {
		return nil, err
	}
	v := &view{source: s, reader: reader, files: map[string]*pinned{}}
	v.ctx, v.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return &snapshot.View{
		FS: v, Hint: v.hint, Settle: v.settle, Close: v.close,
		Kind: "documents", Method: "read-snapshot", Epoch: s.options.Epoch,
	}, nil
}

// view is a store at one moment, as a file system.
type view struct {
	source *Source
	reader Reader
	// ctx ends reads when the view is closed.
	ctx    context.Context
	cancel context.CancelFunc
	time   time.Time
	index  []byte
	files  map[string]*pinned
}

// pinned is a database with documents.
type pinned struct {
	database string
	sequence string
	size     int64
}

func (v *view) close() error {
	v.cancel()
	return v.reader.Close()
}

// settle reads all documents once, to learn what there is.
func (v *view) settle(ctx context.Context) error {
	names, err := v.source.store.Databases(ctx)
	if err != nil {
		return fmt.Errorf("docsource: list of databases: %w", err)
	}
	v.time = v.source.options.Now().UTC()
	var index backupIndex
	for _, name := range names {
		file := fileName(name)
		if v.files[file] != nil {
			return fmt.Errorf("docsource: the store lists database %q twice", name)
		}
		p := &pinned{database: name, sequence: v.reader.Sequence(name)}
		info := DatabaseInfo{Name: name, File: file, Sequence: p.sequence, Started: v.source.options.Now().UTC()}
		for d, err := range v.documents(ctx, name) {
			if err != nil {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				info.Error = err.Error()
				break
			}
			p.size += int64(len(d.json)) + 1
			info.Documents++
		}
		info.Finished = v.source.options.Now().UTC()
		if info.Error == "" {
			v.files[file] = p
		} else {
			info.File, info.Documents = "", 0
		}
		index.Databases = append(index.Databases, info)
	}
	v.index, err = json.Marshal(&index)
	return err
}

// documents returns what the source keeps of a database's documents.
func (v *view) documents(ctx context.Context, database string) iter.Seq2[document, error] {
	return func(yield func(document, error) bool) {
		for raw, err := range v.reader.Documents(ctx, database) {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(document{}, err)
				return
			}
			d, err := canonical(raw)
			if err != nil {
				yield(document{}, err)
				return
			}
			if d.deleted || slices.Contains(v.source.options.ExcludeTypes, d.kind) {
				continue
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// hint promises that a database is unchanged if its sequence is.
func (v *view) hint(name string) snapshot.Hint {
	p := v.files[name]
	if p == nil || p.sequence == "" || v.source.options.Epoch == "" {
		return snapshot.Hint{}
	}
	sum := blake3.Sum256([]byte(p.database + "\x00" + p.sequence))
	return snapshot.Hint{Identity: fmt.Sprintf("%s-%x", v.source.filter, sum[:16])}
}

// fileName returns the name of a database's file.
func fileName(database string) string { return url.PathEscape(database) + documentsExt }

// Open implements fs.FS.
func (v *view) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	switch p := v.files[name]; {
	case name == ".":
		entries, err := v.ReadDir(name)
		return &folder{info: v.info(name, 0), entries: entries}, err
	case name == indexName:
		return newMemoryFile(v.info(name, int64(len(v.index))), v.index), nil
	case p != nil:
		next, stop := iter.Pull2(v.documents(v.ctx, p.database))
		return &documentFile{info: v.info(name, p.size), next: next, stop: stop}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// ReadDir implements fs.ReadDirFS.
func (v *view) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	entries := []fs.DirEntry{fs.FileInfoToDirEntry(v.info(indexName, int64(len(v.index))))}
	for name, p := range v.files {
		entries = append(entries, fs.FileInfoToDirEntry(v.info(name, p.size)))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (v *view) info(name string, size int64) fileInfo {
	return fileInfo{name: name, size: size, time: v.time}
}

// errClosed is what reading from a closed file returns.
var errClosed = errors.New("docsource: the file is closed")
