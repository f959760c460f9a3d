package repo

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrLocation is what every error about a location or its config is, for errors.Is. The error itself is a
// [LocationError].
var ErrLocation = errors.New("repo: bad location")

// LocationRule names the rule that a location or its config breaks.
type LocationRule string

// The rules for a location, in the order in which they are tried.
const (
	RuleNotEmpty       LocationRule = "not empty"
	RuleLength         LocationRule = "not too long"
	RuleUTF8           LocationRule = "valid UTF-8"
	RuleNoControl      LocationRule = "no control characters"
	RuleOneColon       LocationRule = "one single colon"
	RuleNoSlashInName  LocationRule = "no slash before the colon"
	RuleSectionName    LocationRule = "section name"
	RuleSectionKnown   LocationRule = "section in the config"
	RuleSectionType    LocationRule = "section has a type"
	RuleNoBackslash    LocationRule = "no backslash"
	RuleAbsolute       LocationRule = "local path is absolute"
	RulePrefixAbsolute LocationRule = "prefix is absolute"
	RuleWithinPrefix   LocationRule = "local path within the prefix"
)

// The rules for opening a location.
const (
	RuleDriver   LocationRule = "driver is linked in"
	RuleBucket   LocationRule = "bucket is named"
	RuleKeyKnown LocationRule = "key is known"
	RuleKeyValue LocationRule = "value of the key is allowed"
)

// The rules for the JSON of a config.
const (
	RuleConfigSize      LocationRule = "config not too large"
	RuleConfigUTF8      LocationRule = "config is valid UTF-8"
	RuleConfigJSON      LocationRule = "config is well-formed JSON"
	RuleConfigObject    LocationRule = "config is an object of objects"
	RuleConfigString    LocationRule = "config values are strings"
	RuleConfigDuplicate LocationRule = "config keys are unique"
	RuleConfigTrailing  LocationRule = "nothing behind the config"
)

// LocationError says which rule was broken, where, and what to do. No value of a config is ever part of it.
type LocationError struct {
	// Input is the location as given, quoted, cut to about 100 bytes, and without what stands between "://" and "@".
	// It is empty if the config itself is at fault.
	Input string
	// Section and Key tell the place in the config, quoted and cut. Either may be empty.
	Section, Key string
	// Rule is the rule that was broken.
	Rule LocationRule
	// Offset is where, in bytes from the start of the location, or of the JSON if Input is empty. It is -1 if neither
	// is at fault but what the config says, or the prefix.
	Offset int
	// Advice says what is wrong and what to do.
	Advice string
}

// Error returns the message.
func (e *LocationError) Error() string {
	var b strings.Builder
	b.WriteString(ErrLocation.Error())
	if e.Input != "" {
		b.WriteString(" " + e.Input)
	} else {
		b.WriteString(": config")
	}
	if e.Section != "" {
		b.WriteString(", section " + e.Section)
	}
	if e.Key != "" {
		b.WriteString(", key " + e.Key)
	}
	if e.Offset >= 0 {
		fmt.Fprintf(&b, ", byte %d", e.Offset)
	}
	fmt.Fprintf(&b, ": rule %q: %s", string(e.Rule), e.Advice)
	return b.String()
}

// Unwrap returns [ErrLocation].
func (e *LocationError) Unwrap() error { return ErrLocation }

// maxQuoted bounds, in bytes before quoting, what of the input an error repeats.
const maxQuoted = 100

// quoteInput makes text from outside fit for a log: one line, plain ASCII, not too long.
func quoteInput(s string) string {
	if len(s) <= maxQuoted {
		return strconv.QuoteToASCII(s)
	}
	cut := maxQuoted
	for cut > maxQuoted-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.QuoteToASCII(s[:cut]) + "..."
}

// quoteLocation is quoteInput without a password that came along in a URL, as in "s3://key:secret@host/path".
func quoteLocation(s string) string {
	if start := strings.Index(s, "://"); start >= 0 {
		rest := s[start+3:]
		if end := strings.LastIndexByte(rest, '@'); end >= 0 {
			s = s[:start+3] + "..." + rest[end:]
		}
	}
	return quoteInput(s)
}
