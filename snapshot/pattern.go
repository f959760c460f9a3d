package snapshot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits on patterns: a pattern has at most maxPatternLength bytes, a list at most
// maxPatterns of them. They bound the time that a path costs.
const (
	maxPatternLength = 4096
	maxPatterns      = 1000
)

// ErrPattern means that a string is not a pattern; see PatternError.
var ErrPattern = errors.New("snapshot: bad pattern")

// A PatternError reports a pattern that cannot be read. It matches ErrPattern.
type PatternError struct {
	Pattern string
	// Offset is the byte at which it cannot be read any further.
	Offset int
	Reason string
}

func (e *PatternError) Error() string {
	return fmt.Sprintf("%v %.200q at byte %d: %s", ErrPattern, e.Pattern, e.Offset, e.Reason)
}

// Is reports whether target is ErrPattern.
func (e *PatternError) Is(target error) bool { return target == ErrPattern }

// A Pattern describes paths of a snapshot, which begin with the name of a source and have
// slashes between their parts. It is compared with whole paths, part by part:
//
//   - any characters of one part, or none
//     ?        one character
//     [a-z0-9] one of these characters; [^a-z] or [!a-z] one that is none of them
//     \x       the character x, also where it would mean something else
//     **       as a whole part: any number of parts, or none; at the end at least one
//
// All else stands for itself; upper and lower case differ, and a dot is a character like others. A pattern that
// matches a folder covers all that the folder holds. So "kv/LOCK" is one file, "**/*.log"
// is all logs wherever they are, "kv" is the whole source, and "kv/**" is what it holds.
type Pattern struct {
	text  string
	parts []patternPart
}

// patternPart is one part of a pattern; tokens is nil for "**".
type patternPart struct {
	tokens []token
	deep   bool
}

// token stands for one character, or for any number of them.
type token struct {
	kind   tokenKind
	char   rune
	negate bool
	// ranges are pairs of the first and the last character.
	ranges [][2]rune
}

type tokenKind int

const (
	tokenChar tokenKind = iota
	tokenAny
	tokenStar
	tokenClass
)

// ParsePattern reads a pattern. It fails with a *PatternError.
func ParsePattern(text string) (Pattern, error) {
	p := patternParser{text: text}
	if err := p.parse(); err != nil {
		return Pattern{}, err
	}
	return Pattern{text, p.parts}, nil
}

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Covers reports whether the pattern matches a path or a folder above it.
func (p Pattern) Covers(path string) bool {
	covered, _ := p.follow(path)
	return covered
}

// follow also says whether the pattern may cover something below the path.
func (p Pattern) follow(path string) (covered, alive bool) {
	if len(p.parts) == 0 {
		return false, false
	}
	// at[i] is set when what was seen of the path leads up to part i of the pattern.
	at := make([]bool, len(p.parts)+1)
	next := make([]bool, len(p.parts)+1)
	at[0] = true
	p.skipDeep(at)
	for part := range strings.SplitSeq(path, "/") {
		clear(next)
		any := false
		for i := range p.parts {
			switch {
			case !at[i]:
			case p.parts[i].deep:
				next[i], any = true, true
				next[i+1] = next[i+1] || i+1 == len(p.parts)
			case matchTokens(p.parts[i].tokens, part):
				next[i+1], any = true, true
			}
		}
		p.skipDeep(next)
		if next[len(p.parts)] {
			return true, true
		}
		if !any {
			return false, false
		}
		at, next = next, at
	}
	return false, true
}

// skipDeep lets "**" stand for no part, but at the end.
func (p Pattern) skipDeep(at []bool) {
	for i, part := range p.parts[:len(p.parts)-1] {
		if at[i] && part.deep {
			at[i+1] = true
		}
	}
}

// matchTokens compares one part of a path. After a mismatch only the last star can take
// more, so that the time is bounded by the product of the lengths.
func matchTokens(tokens []token, s string) bool {
	i, star := 0, -1
	mark := s
	for s != "" {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case i < len(tokens) && tokens[i].kind == tokenStar:
			star, mark = i, s
			i++
			continue
		case i < len(tokens) && tokens[i].matches(r):
			i++
			s = s[size:]
			continue
		case star < 0:
			return false
		}
		_, size = utf8.DecodeRuneInString(mark)
		mark = mark[size:]
		i, s = star+1, mark
	}
	for i < len(tokens) && tokens[i].kind == tokenStar {
		i++
	}
	return i == len(tokens)
}

func (t *token) matches(r rune) bool {
	switch t.kind {
	case tokenAny:
		return true
	case tokenChar:
		return t.char == r
	}
	in := slices.ContainsFunc(t.ranges, func(x [2]rune) bool { return x[0] <= r && r <= x[1] })
	return in != t.negate
}

// A choice is what two lists of patterns choose.
type choice struct {
	include, skip []Pattern
}

func newChoice(include, skip []string) (*choice, error) {
	if len(include)+len(skip) == 0 {
		return nil, nil
	}
	if n := max(len(include), len(skip)); n > maxPatterns {
		return nil, fmt.Errorf("%w: %d patterns in one list are more than the %d allowed", ErrPattern, n, maxPatterns)
	}
	c := &choice{}
	for _, text := range include {
		p, err := ParsePattern(text)
		if err != nil {
			return nil, fmt.Errorf("snapshot: Include: %w", err)
		}
		c.include = append(c.include, p)
	}
	for _, text := range skip {
		p, err := ParsePattern(text)
		if err != nil {
			return nil, fmt.Errorf("snapshot: Skip: %w", err)
		}
		c.skip = append(c.skip, p)
	}
	return c, nil
}

// chosen says whether a path is chosen, and whether anything below it may be. A nil
// choice chooses all.
func (c *choice) chosen(path string) (chosen, below bool) {
	if c == nil {
		return true, true
	}
	for _, p := range c.skip {
		if p.Covers(path) {
			return false, false
		}
	}
	if len(c.include) == 0 {
		return true, true
	}
	for _, p := range c.include {
		covered, alive := p.follow(path)
		if covered {
			return true, true
		}
		below = below || alive
	}
	return false, below
}
