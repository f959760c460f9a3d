package docsource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"
)

// document is one document in the form in which it is stored.
type document struct {
	// json is without white space, and ends without a newline.
	json []byte
	id   string
	// kind is its "type", empty if it has none that is a string.
	kind    string
	deleted bool
}

// canonical returns a document with its keys sorted and without white space, so that equal
// documents are equal bytes. Numbers stay as they are written.
func canonical(raw []byte) (document, error) {
	if !utf8.Valid(raw) {
		return document{}, fmt.Errorf("%w: it is not UTF-8", ErrDocument)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		return document{}, fmt.Errorf("%w: %v", ErrDocument, err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return document{}, fmt.Errorf("%w: something follows it", ErrDocument)
	}
	if fields == nil {
		return document{}, fmt.Errorf("%w: it is null", ErrDocument)
	}
	d := document{}
	d.id, _ = fields["_id"].(string)
	if d.id == "" {
		return document{}, fmt.Errorf("%w: it has no _id", ErrDocument)
	}
	d.kind, _ = fields["type"].(string)
	d.deleted, _ = fields["_deleted"].(bool)
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(fields); err != nil {
		return document{}, fmt.Errorf("%w: %v", ErrDocument, err)
	}
	d.json = bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	return d, nil
}
