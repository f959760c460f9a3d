package repo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxConfigLen bounds the JSON of a config, in bytes. The longest values are keys of service accounts, a few thousand.
const maxConfigLen = 1 << 20

// LocationConfig maps a section's name to its settings, in the terms of rclone's configuration: keys such as "type",
// "access_key_id" or "endpoint", and values that are strings, booleans and sizes too ("true", "5Mi"). Every section that
// a location names must have a "type". Values may be secrets: printing a config shows names only.
type LocationConfig map[string]map[string]string

// String lists the sections' names and the number of keys of each.
func (c LocationConfig) String() string {
	names := make([]string, 0, len(c))
	for name, values := range c {
		names = append(names, fmt.Sprintf("%s: %d keys", quoteInput(name), len(values)))
	}
	slices.Sort(names)
	return "{" + strings.Join(names, ", ") + "}"
}

// GoString keeps the values out of %#v.
func (c LocationConfig) GoString() string { return "repo.LocationConfig" + c.String() }

// Format keeps the values out of every verb.
func (c LocationConfig) Format(f fmt.State, verb rune) {
	switch {
	case verb == 'v' && f.Flag('#'):
		fmt.Fprint(f, c.GoString())
	case verb == 'q':
		fmt.Fprint(f, strconv.Quote(c.String()))
	default:
		fmt.Fprint(f, c.String())
	}
}

// LogValue keeps the values out of log/slog.
func (c LocationConfig) LogValue() slog.Value { return slog.StringValue(c.String()) }

// ParseLocationConfig reads a config from its JSON, an object of objects of strings:
//
//	{"S3": {"type": "s3", "provider": "Minio", "force_path_style": "true"}, "disk": {"type": "local"}}
//
// At most 1 MiB is taken. Values that are not strings, keys that occur twice and data behind the object are refused.
// Errors are of type [*LocationError]; they tell section, key and offset, and never a value.
func ParseLocationConfig(data []byte) (LocationConfig, error) {
	if len(data) > maxConfigLen {
		return nil, refuseConfig(RuleConfigSize, maxConfigLen, "", "", "a config has at most %d bytes, this one has %d", maxConfigLen, len(data))
	}
	if i := invalidUTF8(data); i >= 0 {
		return nil, refuseConfig(RuleConfigUTF8, i, "", "", "write the config in UTF-8")
	}
	p := configParser{dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber() // a number too large for a float64 is still a number, and refused as one
	config := LocationConfig{}
	err := p.object(func(section string) error {
		if _, twice := config[section]; twice {
			return p.refuse(RuleConfigDuplicate, section, "", "the section stands twice; remove one")
		}
		values := map[string]string{}
		config[section] = values
		p.section = section
		err := p.object(func(key string) error { return p.value(values, key) })
		p.section = ""
		return err
	})
	if err != nil {
		return nil, err
	}
	if rest := bytes.TrimLeft(data[p.dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, refuseConfig(RuleConfigTrailing, len(data)-len(rest), "", "", "remove what follows the closing brace")
	}
	return config, nil
}

func refuseConfig(rule LocationRule, offset int, section, key, format string, args ...any) error {
	e := &LocationError{Rule: rule, Offset: offset, Advice: fmt.Sprintf(format, args...)}
	if section != "" {
		e.Section = quoteInput(section)
	}
	if key != "" {
		e.Key = quoteInput(key)
	}
	return e
}

// configParser walks the tokens, because json.Unmarshal takes the last of two equal keys and repeats values in errors.
type configParser struct {
	dec     *json.Decoder
	section string
}

func (p *configParser) refuse(rule LocationRule, section, key, format string, args ...any) error {
	return refuseConfig(rule, int(p.dec.InputOffset()), section, key, format, args...)
}

func (p *configParser) token(key string) (json.Token, error) {
	tok, err := p.dec.Token()
	if err != nil {
		// The decoder's own text may quote a character of a value.
		return nil, p.refuse(RuleConfigJSON, p.section, key, "the JSON is cut short or malformed from here on; check quotes, commas and braces")
	}
	return tok, nil
}

// object reads an object and calls entry after each key.
func (p *configParser) object(entry func(key string) error) error {
	tok, err := p.token("")
	if err != nil {
		return err
	}
	if tok != json.Delim('{') {
		what := `the config must be an object, as in {"S3": {"type": "s3"}}`
		if p.section != "" {
			what = `the section must be an object, as in {"type": "s3"}`
		}
		return p.refuse(RuleConfigObject, p.section, "", "found %s; %s", kindOf(tok), what)
	}
	for p.dec.More() {
		tok, err := p.token("")
		if err != nil {
			return err
		}
		key, ok := tok.(string)
		if !ok {
			return p.refuse(RuleConfigJSON, p.section, "", "found %s where a key in quotes belongs", kindOf(tok))
		}
		if err := entry(key); err != nil {
			return err
		}
	}
	_, err = p.token("")
	return err
}

func (p *configParser) value(values map[string]string, key string) error {
	if _, twice := values[key]; twice {
		return p.refuse(RuleConfigDuplicate, p.section, key, "the key stands twice; remove one")
	}
	tok, err := p.token(key)
	if err != nil {
		return err
	}
	text, ok := tok.(string)
	if !ok {
		advice := "put it in quotes"
		if _, nested := tok.(json.Delim); nested {
			advice = "write it as JSON text in quotes"
		} else if tok == nil {
			advice = "leave the key out"
		}
		return p.refuse(RuleConfigString, p.section, key, "found %s, but values are strings; %s", kindOf(tok), advice)
	}
	values[key] = text
	return nil
}

// kindOf names a token without showing it.
func kindOf(tok json.Token) string {
	switch tok.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	}
	switch tok {
	case json.Delim('['):
		return "an array"
	case json.Delim('{'):
		return "an object"
	}
	return "a bracket"
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}
