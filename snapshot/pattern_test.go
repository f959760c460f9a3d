package snapshot

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPatternCovers(t *testing.T) {
	for _, test := range []struct{ pattern, yes, no string }{
		{"kv/LOCK", "kv/LOCK kv/LOCK/x", "kv kv/LOCKS LOCK a/kv/LOCK kv/lock"},
		{"kv", "kv kv/a kv/a/b", "kvs a/kv"},
		{"kv/**", "kv/a kv/a/b", "kv"},
		{"**", "a a/b", ""},
		{"**/*.log", "a.log kv/a.log kv/.log kv/x/a.log kv/a.log/b", "kv/a.logs kv/log"},
		{"kv/**/x", "kv/x kv/a/x kv/a/b/x kv/a/x/c", "kv/a x"},
		{"kv/**/**/x", "kv/x kv/a/x", "kv/y"},
		{"**/a/**/b", "a/b x/a/b x/a/y/z/b", "b/a a b"},
		{"*", "a kv/x", ""},
		{"*/*", "a/b a/b/c", "a"},
		{"kv/*/c", "kv/a/c", "kv/c kv/a/b/c"},
		{"kv/a*c*e", "kv/ace kv/abcde kv/aXcYcZe", "kv/aec kv/acee.x"},
		{"kv/?", "kv/a kv/ä kv/日", "kv/ab kv"},
		{"kv/[a-c0]", "kv/a kv/c kv/0", "kv/d kv/ab"},
		{"kv/[^a-c]", "kv/d kv/-", "kv/a kv/dd"},
		{"kv/[!é]", "kv/e", "kv/é"},
		{"kv/[a-]", "kv/a kv/-", "kv/b"},
		{`kv/[\]]`, "kv/]", `kv/\`},
		{`kv/\*`, "kv/*", "kv/a"},
		{`kv/\[a]`, "kv/[a]", "kv/a"},
		{"kv/a.b", "kv/a.b", "kv/axb"},
		{"kv/*********", "", ""},
	} {
		p, err := ParsePattern(test.pattern)
		if strings.Contains(test.pattern, "***") {
			if !errors.Is(err, ErrPattern) {
				t.Errorf("%s: %v", test.pattern, err)
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		for _, path := range strings.Fields(test.yes) {
			if !p.Covers(path) {
				t.Errorf("%s does not cover %s", test.pattern, path)
			}
		}
		for _, path := range strings.Fields(test.no) {
			if p.Covers(path) {
				t.Errorf("%s covers %s", test.pattern, path)
			}
		}
	}
}

func TestPatternErrors(t *testing.T) {
	for _, test := range []struct {
		pattern string
		offset  int
	}{
		{"", 0}, {"/kv", 0}, {"kv/", 3}, {"kv//a", 3}, {"kv/./a", 3}, {"../kv", 0}, {"kv/a**", 5}, {"kv/**a", 4},
		{"kv/[", 3}, {"kv/[]", 3}, {"kv/[a", 3}, {"kv/[a/b]", 3}, {"kv/[z-a]", 4}, {`kv/\`, 3}, {`kv/\/`, 3}, {`kv/[\`, 4},
		{"kv/\xff", 3}, {"kv/\x00", 3}, {strings.Repeat("a", 4097), 4096},
	} {
		_, err := ParsePattern(test.pattern)
		var pe *PatternError
		if !errors.As(err, &pe) || !errors.Is(err, ErrPattern) || pe.Offset != test.offset || pe.Reason == "" {
			t.Errorf("%.20q: %v, want an error at %d", test.pattern, err, test.offset)
		}
	}
}

func TestChoice(t *testing.T) {
	for _, test := range []struct{ include, skip, path, want string }{
		{"", "", "kv/a", "chosen below"},
		{"kv/*.sst", "", "kv", "below"},
		{"kv/*.sst", "", "kv/a.sst", "chosen below"},
		{"kv/*.sst", "", "kv/a.log", ""},
		{"kv/*.sst", "", "meta", ""},
		{"", "**/*.log", "kv", "chosen below"},
		{"", "**/*.log", "kv/a.log", ""},
		{"kv", "kv/cache", "kv/cache/x", ""},
		{"kv/cache/x", "kv/cache", "kv/cache/x", ""},
		{"**/x", "", "kv/a", "below"},
	} {
		c, err := newChoice(strings.Fields(test.include), strings.Fields(test.skip))
		if err != nil {
			t.Fatal(err)
		}
		chosen, below := c.chosen(test.path)
		var got []string
		if chosen {
			got = append(got, "chosen")
		}
		if below {
			got = append(got, "below")
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
	if _, err := newChoice(make([]string, maxPatterns+1), nil); !errors.Is(err, ErrPattern) {
		t.Error(err)
	}
}

// No pattern takes long, whatever it is.
func TestPatternIsNeverSlow(t *testing.T) {
	p, err := ParsePattern("kv/" + strings.Repeat("a*", 2000) + "b")
	if err != nil {
		t.Fatal(err)
	}
	if p.Covers("kv/" + strings.Repeat("a", 4000)) {
		t.Error("it has no b")
	}
	deep, err := ParsePattern(strings.Repeat("**/a/", 300) + "b")
	if err != nil {
		t.Fatal(err)
	}
	if deep.Covers(strings.Repeat("a/", 1500) + "c") {
		t.Error("it has no b")
	}
}

// simpleMatch is what a pattern means, without regard to time.
func simpleMatch(pattern, parts []string) bool {
	if len(pattern) == 0 {
		return true // what is left lies below
	}
	if pattern[0] == "**" {
		if len(pattern) == 1 {
			return len(parts) > 0
		}
		for n := range len(parts) + 1 {
			if simpleMatch(pattern[1:], parts[n:]) {
				return true
			}
		}
		return false
	}
	if len(parts) == 0 {
		return false
	}
	ok, err := path.Match(pattern[0], parts[0])
	return err == nil && ok && simpleMatch(pattern[1:], parts[1:])
}

func FuzzPattern(f *testing.F) {
	f.Add("kv/**/*.log", "kv/a/b.log")
	f.Add("**/a/**/b", "x/a/y/b/c")
	f.Add(`kv/[^a-c]\*?`, "kv/d*x")
	f.Add("kv/[]-a]", "kv/a")
	f.Fuzz(func(t *testing.T, text, p string) {
		pattern, err := ParsePattern(text)
		if err != nil {
			var pe *PatternError
			if !errors.As(err, &pe) || pe.Offset < 0 || pe.Offset > len(text) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		covered, alive := pattern.follow(p)
		if covered && !alive {
			t.Error("covered and not alive")
		}
		if covered && !pattern.Covers(p+"/below") {
			t.Errorf("%q covers %q and not what is below", text, p)
		}
		if again, err := ParsePattern(fmt.Sprint(pattern)); err != nil || again.Covers(p) != covered {
			t.Errorf("%q reads otherwise the second time: %v", text, err)
		}
		// The same meaning as in package path, as far as that has it.
		if strings.Contains(text, "!") || strings.Count(text, "**") > 4 || len(p) > 60 || len(text) > 60 || !utf8.ValidString(p) || strings.ContainsAny(text, "[\\") {
			return
		}
		if want := simpleMatch(strings.Split(text, "/"), strings.Split(p, "/")); want != covered {
			t.Errorf("%q covers %q: %v, want %v", text, p, covered, want)
		}
	})
}
