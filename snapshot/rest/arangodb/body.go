package arangodb

import (
	"encoding/json"
	"net/http"
)

// fields are the members of a body. Those that nobody asks for are ignored, as the original does.
type fields struct {
	members map[string]json.RawMessage
	refused *answer
}

// parse reads a body, which is a JSON object or empty.
func parse(body []byte) (*fields, *answer) {
	f := &fields{}
	if len(body) == 0 {
		return f, nil
	}
	if !json.Valid(body) {
		a := refuse(http.StatusBadRequest, numBadJSON, "the body is not JSON")
		return nil, &a
	}
	if body[0] != '{' {
		a := refuse(http.StatusBadRequest, numBadParameter, "the body must be a JSON object")
		return nil, &a
	}
	if err := json.Unmarshal(body, &f.members); err != nil {
		a := refuse(http.StatusBadRequest, numBadJSON, "the body cannot be read as an object")
		return nil, &a
	}
	return f, nil
}

// has says whether a member is there and is not null.
func (f *fields) has(name string) bool {
	raw, ok := f.members[name]
	return ok && string(raw) != "null"
}

// bad notes the first complaint.
func (f *fields) bad(format string, args ...any) {
	if f.refused == nil {
		a := refuse(http.StatusBadRequest, numBadParameter, format, args...)
		f.refused = &a
	}
}

func member[T any](f *fields, name, kind string) (value T) {
	if f.has(name) && json.Unmarshal(f.members[name], &value) != nil {
		f.bad("%q must be %s", name, kind)
	}
	return value
}

func (f *fields) text(name string) string    { return member[string](f, name, "a string") }
func (f *fields) flag(name string) bool      { return member[bool](f, name, "true or false") }
func (f *fields) number(name string) float64 { return member[float64](f, name, "a number") }

// required is text that must be there.
func (f *fields) required(name string) string {
	value := f.text(name)
	if value == "" {
		f.bad("%q is missing: it must be a string that is not empty", name)
	}
	return value
}

// texts is a string or an array of strings.
func (f *fields) texts(name string) []string {
	if !f.has(name) {
		return nil
	}
	if f.members[name][0] != '[' {
		return []string{member[string](f, name, "a string or an array of strings")}
	}
	return member[[]string](f, name, "a string or an array of strings")
}

// jobNumber is the ID of a job, which is a string; a number is taken too.
func (f *fields) jobNumber(name string) string {
	var number json.Number
	if f.has(name) && f.members[name][0] != '"' {
		if json.Unmarshal(f.members[name], &number) == nil {
			return number.String()
		}
	}
	return f.required(name)
}
