package docsource

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
)

// DefaultMaxExpanded is how much compressed documents may expand to where ParseOptions do
// not say, in bytes.
const DefaultMaxExpanded = 256 << 20

// ParseOptions are the settings of Parse. The zero value works.
type ParseOptions struct {
	// Aliases are other names that databases may have in the document, with those that they
	// have in the store.
	Aliases map[string]string
	// MaxExpanded bounds what all compressed documents together may expand to, in bytes.
	// Default DefaultMaxExpanded.
	MaxExpanded int64
}

// A Parsed is a backup document in memory. It implements Contents.
type Parsed struct {
	names     []string
	documents map[string][]json.RawMessage
}

// Parse reads a backup document: an object whose "dbs" has for each database an object with
// its documents as "docs", an array; or as "compressed_docs", such an array compressed with
// zlib, in base64. Everything else in it is ignored. It fails with ErrBackup.
func Parse(data []byte, options ParseOptions) (*Parsed, error) {
	if options.MaxExpanded <= 0 {
		options.MaxExpanded = DefaultMaxExpanded
	}
	var doc struct {
		DBs map[string]struct {
			Docs       []json.RawMessage `json:"docs"`
			Compressed json.RawMessage   `json:"compressed_docs"`
		} `json:"dbs"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBackup, err)
	}
	if doc.DBs == nil {
		return nil, fmt.Errorf("%w: it has no dbs", ErrBackup)
	}
	p := &Parsed{documents: map[string][]json.RawMessage{}}
	room := options.MaxExpanded
	for name, db := range doc.DBs {
		docs := db.Docs
		expanded, err := expand(db.Compressed, &room)
		if err != nil {
			return nil, &DatabaseError{Database: name, Err: err}
		}
		docs = append(docs, expanded...)
		if alias := options.Aliases[name]; alias != "" {
			name = alias
		}
		if _, twice := p.documents[name]; twice {
			return nil, &DatabaseError{Database: name, Err: fmt.Errorf("%w: it is there under two names", ErrBackup)}
		}
		p.names = append(p.names, name)
		p.documents[name] = docs
	}
	slices.Sort(p.names)
	return p, nil
}

// expand returns the documents that are compressed: one string, or several in an array.
func expand(raw json.RawMessage, room *int64) ([]json.RawMessage, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var parts []string
	if raw[0] == '[' {
		if err := json.Unmarshal(raw, &parts); err != nil {
			return nil, fmt.Errorf("%w: compressed_docs: %v", ErrBackup, err)
		}
	} else {
		parts = make([]string, 1)
		if err := json.Unmarshal(raw, &parts[0]); err != nil {
			return nil, fmt.Errorf("%w: compressed_docs: %v", ErrBackup, err)
		}
	}
	var all []json.RawMessage
	for _, part := range parts {
		docs, err := expandOne(part, room)
		if err != nil {
			return nil, fmt.Errorf("%w: compressed_docs: %v", ErrBackup, err)
		}
		all = append(all, docs...)
	}
	return all, nil
}

// expandOne returns the documents in base64 of zlib of an array, or of a single document.
func expandOne(text string, room *int64) ([]json.RawMessage, error) {
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	plain, err := io.ReadAll(io.LimitReader(z, *room+1))
	if err != nil {
		return nil, err
	}
	if *room -= int64(len(plain)); *room < 0 {
		return nil, fmt.Errorf("it expands to more than is allowed")
	}
	if trimmed := bytes.TrimSpace(plain); len(trimmed) > 0 && trimmed[0] == '{' {
		return []json.RawMessage{trimmed}, nil
	}
	var docs []json.RawMessage
	err = json.Unmarshal(plain, &docs)
	return docs, err
}

// Names implements Contents. The names are sorted.
func (p *Parsed) Names() []string { return slices.Clone(p.names) }

// Documents implements Contents.
func (p *Parsed) Documents(ctx context.Context, database string) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		for _, d := range p.documents[database] {
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}
