package repo

import (
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Settings are what a [Driver] opens a bucket with: the options of a location's section, each to be asked for by its
// key. The first value that is not allowed is remembered, and returned by Err. Settings are not safe for concurrent
// use. Printing them shows no value.
type Settings struct {
	location Location
	bucket   string
	create   bool
	options  map[string]string
	// unread holds the options that were not asked for.
	unread map[string]string
	known  []string
	err    error
}

// Bucket returns the bucket's name, "" for a local location.
func (s *Settings) Bucket() string { return s.bucket }

// Location returns what is being opened.
func (s *Settings) Location() Location { return s.location }

// String returns the location, and nothing of the options.
func (s *Settings) String() string { return s.location.String() }

// GoString keeps the options out of %#v.
func (s *Settings) GoString() string { return "repo.Settings{" + strconv.Quote(s.String()) + "}" }

// Format keeps the options out of every verb.
func (s *Settings) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.GoString()) }

// LogValue keeps the options out of log/slog.
func (s *Settings) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Refuse returns a [*LocationError] about a key, or about the location if key is empty. advice must not hold a value.
func (s *Settings) Refuse(rule LocationRule, key, advice string, args ...any) error {
	e := &LocationError{Input: quoteLocation(s.location.String()), Rule: rule, Offset: -1, Advice: fmt.Sprintf(advice, args...)}
	if s.location.Section() != "" {
		e.Section = quoteInput(s.location.Section())
	}
	if key != "" {
		e.Key = quoteInput(key)
	}
	return e
}

func (s *Settings) bad(key, advice string, args ...any) {
	if s.err == nil {
		s.err = s.Refuse(RuleKeyValue, key, advice, args...)
	}
}

// Text returns the value of a key, "" if it is not set.
func (s *Settings) Text(key string) string {
	s.known = append(s.known, key)
	delete(s.unread, key)
	return s.options[key]
}

// Ignore marks keys as known whose values change nothing here.
func (s *Settings) Ignore(keys ...string) {
	for _, key := range keys {
		s.Text(key)
	}
}

// Bool returns the value of a key as a boolean, spelt as for strconv.ParseBool: "true", "false", "1", "0" and so on.
func (s *Settings) Bool(key string, fallback bool) bool {
	text := s.Text(key)
	if text == "" {
		return fallback
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		s.bad(key, `write "true" or "false"`)
		return fallback
	}
	return v
}

// Choice returns the value of a key, which must be one of those allowed, without regard to case, in the spelling of
// allowed. Not set, it is "".
func (s *Settings) Choice(key string, allowed ...string) string {
	text := s.Text(key)
	if text == "" {
		return ""
	}
	for _, a := range allowed {
		if strings.EqualFold(a, text) {
			return a
		}
	}
	s.bad(key, "allowed are %q", allowed)
	return ""
}

// Int returns the value of a key as a whole number from low to high.
func (s *Settings) Int(key string, low, high, fallback int) int {
	text := s.Text(key)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		s.bad(key, "write a number from %d to %d", low, high)
		return fallback
	}
	return n
}

// Size returns the value of a key in bytes, written as rclone does: "5Mi", "200M", "1024B" or a number of KiB. All units
// are powers of 1024.
func (s *Settings) Size(key string, low, high, fallback int64) int64 {
	text := s.Text(key)
	if text == "" {
		return fallback
	}
	n, ok := parseSize(text)
	if !ok || n < low || n > high {
		s.bad(key, "write a size from %d to %d bytes, as in 5Mi; a number without a unit is in KiB", low, high)
		return fallback
	}
	return n
}

func parseSize(text string) (int64, bool) {
	digits := strings.TrimRight(text, "bBiIkKmMgGtTpP")
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil || v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, false
	}
	shift, ok := map[string]int{
		"": 10, "b": 0, "k": 10, "ki": 10, "kib": 10, "m": 20, "mi": 20, "mib": 20, "g": 30, "gi": 30, "gib": 30,
		"t": 40, "ti": 40, "tib": 40, "p": 50, "pi": 50, "pib": 50,
	}[strings.ToLower(text[len(digits):])]
	v *= float64(int64(1) << shift)
	if !ok || v >= math.MaxInt64 {
		return 0, false
	}
	return int64(v), true
}

// Duration returns the value of a key as a duration that is not negative, such as "1m30s".
func (s *Settings) Duration(key string, fallback time.Duration) time.Duration {
	text := s.Text(key)
	if text == "" {
		return fallback
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		s.bad(key, "write a duration, as in 1m30s")
		return fallback
	}
	return d
}

// Err returns the first value that was not allowed, or the first key, in their order, that nobody asked for.
func (s *Settings) Err() error {
	if s.err != nil {
		return s.err
	}
	if len(s.unread) == 0 {
		return nil
	}
	slices.Sort(s.known)
	key := slices.Sorted(maps.Keys(s.unread))[0]
	return s.Refuse(RuleKeyKnown, key, "type %q has no such key; it has: %s", s.location.Type(), strings.Join(slices.Compact(s.known), ", "))
}
