package trove

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

// The patterns of Trove's schemas, as its messages have them.
const (
	namePattern = "^.*[0-9a-zA-Z]+.*$"
	uuidPattern = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
	maxName     = 255
)

// object is an object of a body. Its getters collect what is wrong with it.
type object struct {
	path   string
	fields map[string]any
	errs   *[]string
}

// readBody reads the body of a request, an object with one object in it.
func readBody(r *request, key string) (object, error) {
	var none object
	if kind := r.Header.Get("Content-Type"); kind != "" {
		if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" {
			return none, fail(http.StatusUnsupportedMediaType, "The content type must be application/json.")
		}
	}
	data, err := io.ReadAll(r.Body)
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return none, fail(http.StatusRequestEntityTooLarge, "The request has more than %d bytes.", tooLong.Limit)
	}
	if err != nil {
		return none, fail(http.StatusBadRequest, "The request ended before its time.")
	}
	return parseBody(data, key)
}

// parseBody reads a body.
func parseBody(data []byte, key string) (object, error) {
	var none object
	var body any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&body); err != nil {
		return none, fail(http.StatusBadRequest, "The request is not JSON: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return none, fail(http.StatusBadRequest, "The request is more than one JSON value.")
	}
	if !utf8.Valid(data) {
		return none, fail(http.StatusBadRequest, "The request is not UTF-8.")
	}
	top, _ := body.(map[string]any)
	fields, ok := top[key].(map[string]any)
	if !ok {
		return none, fail(http.StatusBadRequest, "Validation error: '%s' is a required property, and an object", key)
	}
	return object{path: key, fields: fields, errs: new([]string)}, nil
}

func (o object) wrong(key, format string, args ...any) {
	*o.errs = append(*o.errs, fmt.Sprintf("%s['%s'] ", o.path, key)+fmt.Sprintf(format, args...))
}

// err returns what is wrong, in Trove's form.
func (o object) err() error {
	if len(*o.errs) == 0 {
		return nil
	}
	return fail(http.StatusBadRequest, "Validation error: %s", strings.Join(*o.errs, "; "))
}

// has says whether a field is there and not null.
func (o object) has(key string) bool { return o.fields[key] != nil }

// object returns an object in a field.
func (o object) object(key string) object {
	fields, ok := o.fields[key].(map[string]any)
	if !ok && o.has(key) {
		o.wrong(key, "%s is not of type 'object'", show(o.fields[key]))
	}
	return object{path: fmt.Sprintf("%s['%s']", o.path, key), fields: fields, errs: o.errs}
}

// text returns a string, empty if it is not there.
func (o object) text(key string) string {
	s, ok := o.fields[key].(string)
	if !ok && o.has(key) {
		o.wrong(key, "%s is not of type 'string'", show(o.fields[key]))
	}
	return s
}

// name returns a string of 1 to 255 characters with a letter or digit among them.
func (o object) name(key string) string {
	s := o.text(key)
	if _, ok := o.fields[key].(string); !ok {
		return ""
	}
	switch {
	case s == "":
		o.wrong(key, "'' is too short")
	case utf8.RuneCountInString(s) > maxName:
		o.wrong(key, "%s is too long", show(s))
	case !hasAlphanumeric(s):
		o.wrong(key, "%s does not match '%s'", show(s), namePattern)
	}
	return s
}

// hasAlphanumeric says whether namePattern matches. A dot of it is no line feed.
func hasAlphanumeric(s string) bool {
	first, rest, multi := strings.Cut(s, "\n")
	if multi && rest != "" {
		return false
	}
	return strings.ContainsFunc(first, func(c rune) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	})
}

// reference returns a UUID in small letters, which may be the last part of an address.
func (o object) reference(key string) string { return o.checkUUID(key, lastPart(o.text(key))) }

// uuid returns a UUID in small letters.
func (o object) uuid(key string) string { return o.checkUUID(key, o.text(key)) }

func (o object) checkUUID(key, s string) string {
	if _, ok := o.fields[key].(string); ok && !isUUID(s) {
		o.wrong(key, "%s does not match '%s'", show(s), uuidPattern)
	}
	return strings.ToLower(s)
}

// number returns a number that is not negative.
func (o object) number(key string) float64 {
	if !o.has(key) {
		return 0
	}
	n, ok := o.fields[key].(json.Number)
	f, err := n.Float64()
	switch {
	case !ok || err != nil:
		o.wrong(key, "%s is not of type 'number'", show(o.fields[key]))
	case f < 0:
		o.wrong(key, "%v is less than the minimum of 0", f)
	}
	return f
}

// flag returns a boolean, which may be 0 or 1.
func (o object) flag(key string) bool {
	switch v := o.fields[key].(type) {
	case nil:
		return false
	case bool:
		return v
	case json.Number:
		if v == "0" || v == "1" {
			return v == "1"
		}
	case string:
		switch strings.ToLower(v) {
		case "true", "false":
			return strings.EqualFold(v, "true")
		}
	}
	o.wrong(key, "%s is not one of 0, 1, true and false", show(o.fields[key]))
	return false
}

// need says that a field must be there.
func (o object) need(key string) {
	if !o.has(key) {
		*o.errs = append(*o.errs, fmt.Sprintf("%s '%s' is a required property", o.path, key))
	}
}

// show renders a value for a message, cut where it is long.
func show(v any) string {
	if s, ok := v.(string); ok {
		return "'" + clip(s) + "'"
	}
	data, err := json.Marshal(v)
	if err != nil {
		return "the value"
	}
	return clip(string(data))
}

func clip(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
