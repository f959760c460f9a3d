package snapshot

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// patternParser reads a pattern from left to right.
type patternParser struct {
	text  string
	at    int
	parts []patternPart
}

func (p *patternParser) fail(at int, format string, args ...any) error {
	return &PatternError{Pattern: p.text, Offset: at, Reason: fmt.Sprintf(format, args...)}
}

func (p *patternParser) parse() error {
	switch {
	case p.text == "":
		return p.fail(0, "it is empty")
	case len(p.text) > maxPatternLength:
		return p.fail(maxPatternLength, "its %d bytes are more than the %d allowed", len(p.text), maxPatternLength)
	case p.text[0] == '/':
		return p.fail(0, "it begins with a slash, and paths begin with the name of a source")
	}
	for i, r := range p.text {
		if r == utf8.RuneError && !strings.HasPrefix(p.text[i:], "\uFFFD") {
			return p.fail(i, "it is not UTF-8")
		}
		if r == 0 {
			return p.fail(i, "no path has a zero byte")
		}
	}
	for {
		start := p.at
		part, err := p.part()
		if err != nil {
			return err
		}
		switch text := p.text[start:p.at]; text {
		case "":
			return p.fail(start, "a part of it is empty: write one slash between parts, and none at the end")
		case ".", "..":
			return p.fail(start, "no path has a part %q", text)
		}
		// Several in a row are as good as one, but for the last, which takes a part.
		p.parts = append(p.parts, part)
		if p.at == len(p.text) {
			return nil
		}
		p.at++ // the slash
	}
}

// part reads up to the next slash.
func (p *patternParser) part() (patternPart, error) {
	rest, _, _ := strings.Cut(p.text[p.at:], "/")
	if rest == "**" {
		p.at += len(rest)
		return patternPart{deep: true}, nil
	}
	var part patternPart
	for p.at < len(p.text) && p.text[p.at] != '/' {
		r, size := utf8.DecodeRuneInString(p.text[p.at:])
		start := p.at
		p.at += size
		switch r {
		case '*':
			if n := len(part.tokens); n > 0 && part.tokens[n-1].kind == tokenStar {
				return part, p.fail(start, "** must be a whole part, with slashes around it")
			}
			part.tokens = append(part.tokens, token{kind: tokenStar})
		case '?':
			part.tokens = append(part.tokens, token{kind: tokenAny})
		case '[':
			t, err := p.class(start)
			if err != nil {
				return part, err
			}
			part.tokens = append(part.tokens, t)
		case '\\':
			r, err := p.escaped(start)
			if err != nil {
				return part, err
			}
			part.tokens = append(part.tokens, token{char: r})
		default:
			part.tokens = append(part.tokens, token{char: r})
		}
	}
	return part, nil
}

// escaped reads what follows a backslash.
func (p *patternParser) escaped(start int) (rune, error) {
	r, size := utf8.DecodeRuneInString(p.text[p.at:])
	if size == 0 || r == '/' {
		return 0, p.fail(start, `a backslash takes the character after it: write \\ for a backslash`)
	}
	p.at += size
	return r, nil
}

// class reads what follows an opening bracket.
func (p *patternParser) class(start int) (token, error) {
	t := token{kind: tokenClass}
	if strings.HasPrefix(p.text[p.at:], "^") || strings.HasPrefix(p.text[p.at:], "!") {
		t.negate = true
		p.at++
	}
	for {
		if strings.HasPrefix(p.text[p.at:], "]") {
			if t.ranges == nil {
				return t, p.fail(start, `the brackets hold nothing: write \[ for a bracket, and \] for one in brackets`)
			}
			p.at++
			return t, nil
		}
		at := p.at
		low, err := p.member(start)
		if err != nil {
			return t, err
		}
		high := low
		if rest := p.text[p.at:]; strings.HasPrefix(rest, "-") && !strings.HasPrefix(rest, "-]") {
			p.at++
			if high, err = p.member(start); err != nil {
				return t, err
			}
		}
		if high < low {
			return t, p.fail(at, "the range %c-%c is empty", low, high)
		}
		t.ranges = append(t.ranges, [2]rune{low, high})
	}
}

// member reads one character between brackets.
func (p *patternParser) member(start int) (rune, error) {
	r, size := utf8.DecodeRuneInString(p.text[p.at:])
	switch {
	case size == 0 || r == '/':
		return 0, p.fail(start, `the bracket is not closed in its part: write \[ for a bracket`)
	case r == '\\':
		at := p.at
		p.at++
		return p.escaped(at)
	}
	p.at += size
	return r, nil
}
