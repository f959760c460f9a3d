package command

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// shellLines returns what the README tells people to type, without the comments.
func shellLines(t *testing.T, readme string) (lines []string) {
	t.Helper()
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(readme, -1) {
		for line := range strings.Lines(block[1]) {
			line, _, _ = strings.Cut(line, "#")
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) < 10 {
		t.Fatalf("only %d lines found: %q", len(lines), lines)
	}
	return lines
}

// Each command in the README exists, and takes these flags and so many arguments; each
// program and each path that it names is there.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	exists := func(path string) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(path))); err != nil {
			t.Errorf("the README names what is not there: %v", err)
		}
	}
	run := regexp.MustCompile(`cd (\S+) && go (?:run|install) \./(\S+?)\)`)
	install := regexp.MustCompile(`^go install \./(\S+)`)
	called := 0
	for _, line := range shellLines(t, readme) {
		if m := run.FindStringSubmatch(line); m != nil {
			exists(m[1] + "/" + m[2])
		}
		if m := install.FindStringSubmatch(line); m != nil {
			exists(m[1])
		}
		words := strings.Fields(line)
		if words[0] != "holdstill" {
			continue
		}
		called++
		all := commands()
		n := slices.IndexFunc(all, func(cmd command) bool { return cmd.name == words[1] })
		if n < 0 {
			t.Errorf("%s: there is no such command", line)
			continue
		}
		c := all[n].newCall(io.Discard, io.Discard)
		if err := c.flags.Parse(words[2:]); err != nil {
			t.Errorf("%s: %v", line, err)
		} else if c.flags.NArg() != all[n].count {
			t.Errorf("%s: %d arguments, it takes %d", line, c.flags.NArg(), all[n].count)
		}
	}
	if called < 8 {
		t.Errorf("only %d calls of holdstill found", called)
	}
	for _, m := range regexp.MustCompile("`((?:bench|chunk|lock|repo|snapshot|transfer)/[A-Za-z0-9_./-]*)`").FindAllStringSubmatch(readme, -1) {
		exists(m[1])
	}
	for _, m := range regexp.MustCompile("`holdstill ([a-z-]+)").FindAllStringSubmatch(readme, -1) {
		if !slices.ContainsFunc(commands(), func(cmd command) bool { return cmd.name == m[1] }) {
			t.Errorf("the README names a command %q, and there is none", m[1])
		}
	}
}
