package optools

import (
	"encoding/json"
	"errors"
	"strings"
)

// errSkipList means that a list of documents to skip cannot be read.
var errSkipList = errors.New(`it must be a JSON array of document ids, such as ["00_settings_athena"]`)

// parseSkipList reads a list of document IDs: a JSON array of strings, or the same with
// single quotes, with or without double quotes around it all. Within single quotes a
// backslash takes the next character as it is. Empty text is an empty list.
func parseSkipList(text string) ([]string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	var ids []string
	if text[0] == '[' && json.Unmarshal([]byte(text), &ids) == nil {
		return ids, nil
	}
	if len(text) > 1 && text[0] == '"' && text[len(text)-1] == '"' {
		text = strings.TrimSpace(text[1 : len(text)-1])
	}
	inner, ok := strings.CutPrefix(text, "[")
	if !ok {
		return nil, errSkipList
	}
	if inner, ok = strings.CutSuffix(inner, "]"); !ok {
		return nil, errSkipList
	}
	return parseQuoted(strings.TrimSpace(inner))
}

// parseQuoted reads strings in single quotes with commas between them.
func parseQuoted(text string) ([]string, error) {
	ids := []string{}
	for text != "" {
		id, rest, ok := cutQuoted(text)
		if !ok {
			return nil, errSkipList
		}
		ids = append(ids, id)
		text = strings.TrimSpace(rest)
		if text == "" {
			break
		}
		if text, ok = strings.CutPrefix(text, ","); !ok {
			return nil, errSkipList
		}
		if text = strings.TrimSpace(text); text == "" {
			return nil, errSkipList
		}
	}
	return ids, nil
}

// cutQuoted takes a string in single quotes from the beginning of a text.
func cutQuoted(text string) (id, rest string, ok bool) {
	if text[0] != '\'' {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\'':
			return b.String(), text[i+1:], true
		case '\\':
			if i++; i == len(text) {
				return "", "", false
			}
		}
		b.WriteByte(text[i])
	}
	return "", "", false
}
