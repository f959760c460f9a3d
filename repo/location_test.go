package repo

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const canary = "wJalrXUtnFEMI-canary"

// sampleLocations has the section names of the system whose rules these are, and some that mislead.
func sampleLocations() LocationConfig {
	return LocationConfig{
		"S3":       {"type": "s3", "provider": "Minio", "secret_access_key": canary},
		"DAV":      {"type": "webdav", "pass": canary},
		"gcs":      {"type": "google cloud storage", "service_account_credentials": `{"private_key":"` + canary + `"}`},
		"local":    {"type": "local", "copy_links": "false"},
		"my-local": {"type": "local"},
		"s3-local": {"type": "s3"},     // sounds local, is not
		"remote":   {"type": "local"},  // the other way round
		"Grüße 1":  {"type": "s3"},     // any script, and a space
		"a.b_c+d@": {"type": "s3"},     // all of the punctuation
		"shout":    {"type": "Local"},  // refused: near miss
		"padded":   {"type": " local"}, // refused: near miss
		"empty":    {"type": ""},
		"untyped":  {"Type": "s3"},
		"none":     nil,
		"exotic":   {"type": "no-such-backend"},
	}
}

func TestParseLocation(t *testing.T) {
	long := strings.Repeat("n", maxLocationLen-len("S3:"))
	for _, tc := range []struct{ in, prefix, want string }{
		// The vectors of the original.
		{"S3:////////////", "", "S3:"},
		{"S3:/.", "", "S3:"},
		{"S3:/..", "", "S3:"},
		{"S3:////a", "", "S3:a"},
		{"S3:////a////", "", "S3:a"},
		{"S3:////a////a", "", "S3:a/a"},
		{"local:/a", "", "local:/a"},
		{"local:/a/", "", "local:/a"},
		{"local:/a//", "", "local:/a"},
		{"local:/", "/", "local:/"},
		{"local://tmp/backups", "", "local:/tmp/backups"},
		// Its manuals' kinds of names: the type decides.
		{"my-local:/a", "", "my-local:/a"},
		{"remote:/a", "", "remote:/a"},
		{"s3-local:/a", "", "s3-local:a"},
		{"DAV:a", "", "DAV:a"},
		{"gcs:bucket/dir", "", "gcs:bucket/dir"},
		{"exotic:x", "", "exotic:x"},
		// Slashes and dots.
		{"S3:", "", "S3:"},
		{"S3:a/", "", "S3:a"},
		{"S3:.", "", "S3:"},
		{"S3:..", "", "S3:"},
		{"S3:../../a", "", "S3:a"},
		{"S3:a/..", "", "S3:"},
		{"S3:a/../..", "", "S3:"},
		{"S3:a/../../b", "", "S3:b"},
		{"S3:a/b/../c", "", "S3:a/c"},
		{"S3:a/./b/.", "", "S3:a/b"},
		{"S3:.../a", "", "S3:.../a"},
		{"S3:..a/b..", "", "S3:..a/b.."},
		{"S3: / ", "", "S3: / "},
		{`S3:a\..\b`, "", `S3:a\..\b`},
		{"S3:" + long, "", "S3:" + long},
		{"local:/", "", "local:/"},
		{"local:/..", "", "local:/"},
		{"local:/../../etc", "", "local:/etc"},
		{"local:/./a/../b", "", "local:/b"},
		{"Grüße 1:übung/☺", "", "Grüße 1:übung/☺"},
		{"a.b_c+d@:x", "", "a.b_c+d@:x"},
		// The prefix, by whole components.
		{"local:/b", "/b", "local:/b"},
		{"local:/b/x", "/b", "local:/b/x"},
		{"local:/b/x", "//b/./", "local:/b/x"},
		{"local:/c/../b/x", "/b", "local:/b/x"},
		{"local:/anything", "/", "local:/anything"},
		{"local:/anything", "/..", "local:/anything"},
		{"S3:anything", "/b", "S3:anything"}, // confines local ones only
	} {
		got, err := ParseLocationWithin(tc.in, sampleLocations(), tc.prefix)
		if err != nil || got.String() != tc.want {
			t.Errorf("%q within %q: got %q, %v; want %q", tc.in, tc.prefix, got, err, tc.want)
			continue
		}
		checkNormal(t, got, tc.prefix)
		again, err := ParseLocationWithin(got.String(), sampleLocations(), tc.prefix)
		if err != nil || !again.Equal(got) {
			t.Errorf("%q: its normal form gives %q, %v", tc.in, again, err)
		}
	}
}

func TestParseLocationRefuses(t *testing.T) {
	for _, tc := range []struct {
		in, prefix string
		rule       LocationRule
		offset     int
	}{
		{"", "", RuleNotEmpty, 0},
		{":", "", RuleSectionName, 0},
		{"noob:", "", RuleSectionKnown, 0},
		{"noob:" + canary, "", RuleSectionKnown, 0},
		{"s3:a", "", RuleSectionKnown, 0}, // case matters
		{"none:a", "", RuleSectionType, -1},
		{"empty:a", "", RuleSectionType, -1},
		{"untyped:a", "", RuleSectionType, -1},
		{"shout:/a", "", RuleSectionType, -1},
		{"padded:/a", "", RuleSectionType, -1},

		{"S3", "", RuleOneColon, 2},
		{"/a/b", "", RuleOneColon, 4},
		{"S3:a:b", "", RuleOneColon, 4},
		{"S3::", "", RuleOneColon, 3},
		{"local:/C:/backups", "", RuleOneColon, 8},
		{"S3/a:b", "", RuleNoSlashInName, 2},
		{"/:a", "", RuleNoSlashInName, 0},
		{"/a:b:c", "", RuleNoSlashInName, 0},
		{"::", "", RuleSectionName, 0},
		{" S3:a", "", RuleSectionName, 0},
		{"-S3:a", "", RuleSectionName, 0},
		{"S3 :a", "", RuleSectionName, 2},
		{"S\u00a03:a", "", RuleSectionName, 1}, // a space, but not the space
		{"S3?:a", "", RuleSectionName, 2},
		{`S3\x:a`, "", RuleSectionName, 2},
		{"S☺:a", "", RuleSectionName, 1},

		{strings.Repeat("n", maxLocationLen+1), "", RuleLength, maxLocationLen},
		{"S3:a\x00b", "", RuleNoControl, 4},
		{"S3:a\nb", "", RuleNoControl, 4},
		{"S3:é\u0085", "", RuleNoControl, 5},
		{"\x7f", "", RuleNoControl, 0},
		{"S3:a\xff", "", RuleUTF8, 4},
		{"S3:\xed\xa0\x80", "", RuleUTF8, 3},
		{"S\xc3:a", "", RuleUTF8, 1},

		{"local:", "", RuleAbsolute, 6},
		{"local:tmp", "", RuleAbsolute, 6},
		{"local:./tmp", "", RuleAbsolute, 6},
		{"local:../tmp", "", RuleAbsolute, 6},
		{"local: /tmp", "", RuleAbsolute, 6},
		{"my-local:tmp", "", RuleAbsolute, 9},

		{"local:/a/b/c", "/b", RuleWithinPrefix, 6},
		{"local:/bc", "/b", RuleWithinPrefix, 6},
		{"local:/", "/b", RuleWithinPrefix, 6},
		{"local:/b/../c", "/b", RuleWithinPrefix, 6},
		{"local:/b/..", "/b", RuleWithinPrefix, 6},
		{"local:/B", "/b", RuleWithinPrefix, 6},
		{"local:/b", "/b/c", RuleWithinPrefix, 6},
		{"local:/b", "b", RulePrefixAbsolute, -1},
		{"local:/b", ".", RulePrefixAbsolute, -1},
	} {
		got, err := ParseLocationWithin(tc.in, sampleLocations(), tc.prefix)
		var lerr *LocationError
		if !errors.As(err, &lerr) || !errors.Is(err, ErrLocation) {
			t.Errorf("%q within %q: got %q, %v; want a LocationError", tc.in, tc.prefix, got, err)
			continue
		}
		if lerr.Rule != tc.rule || lerr.Offset != tc.offset {
			t.Errorf("%q within %q: rule %q at %d, want %q at %d", tc.in, tc.prefix, lerr.Rule, lerr.Offset, tc.rule, tc.offset)
		}
		if !got.IsZero() {
			t.Errorf("%q: a location came with the error: %q", tc.in, got)
		}
		checkLocationMessage(t, lerr)
	}
}

// checkLocationMessage holds a message against what a log and its reader need.
func checkLocationMessage(t *testing.T, err *LocationError) {
	t.Helper()
	msg := err.Error()
	for _, r := range msg {
		if r < 0x20 || r > 0x7e {
			t.Errorf("message %q has the character %U", msg, r)
		}
	}
	if len(msg) > 2000 || err.Advice == "" || !strings.Contains(msg, string(err.Rule)) {
		t.Errorf("message of %d bytes: %s", len(msg), msg)
	}
}

// TestLocationBackslash: on Windows a backslash separates, so "/b\..\c" would leave the prefix "/b".
func TestLocationBackslash(t *testing.T) {
	for _, windows := range []bool{false, true} {
		p := locationParser{text: `local:/b\..\c`, backslashSeparates: windows}
		got, err := p.parse(sampleLocations(), "/")
		var lerr *LocationError
		switch {
		case !windows && (err != nil || got.Path() != `/b\..\c`):
			t.Errorf("not on Windows: %q, %v", got, err)
		case windows && (!errors.As(err, &lerr) || lerr.Rule != RuleNoBackslash || lerr.Offset != 8):
			t.Errorf("on Windows: %q, %v", got, err)
		}
		p = locationParser{text: `S3:b\c`, backslashSeparates: windows}
		if got, err := p.parse(sampleLocations(), ""); err != nil || got.String() != `S3:b\c` {
			t.Errorf("remote, windows %v: %q, %v", windows, got, err)
		}
	}
}

func TestLocationAccessors(t *testing.T) {
	config := sampleLocations()
	l, err := ParseLocation("S3:/bucket//nightly/", config)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"provider": "Minio", "secret_access_key": canary}
	if l.Section() != "S3" || l.Type() != "s3" || l.Path() != "bucket/nightly" || l.IsLocal() || l.IsZero() {
		t.Errorf("got %q, %q, %q, %v, %v", l.Section(), l.Type(), l.Path(), l.IsLocal(), l.IsZero())
	}
	// Neither what is handed out nor the config is shared with the location.
	l.Options()["provider"] = "changed"
	config["S3"]["provider"] = "changed"
	delete(config["S3"], "type")
	if diff := cmp.Diff(want, l.Options()); diff != "" || l.Type() != "s3" {
		t.Errorf("options (-want +got):\n%s", diff)
	}

	var zero Location
	if zero.String() != "" || zero.Type() != "" || zero.IsLocal() || !zero.IsZero() || len(zero.Options()) != 0 {
		t.Errorf("zero location: %#v", zero)
	}
	other, err := ParseLocation("S3:bucket/nightly", sampleLocations())
	if err != nil {
		t.Fatal(err)
	}
	twin, err := ParseLocation("S3:bucket/./nightly", sampleLocations())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := ParseLocation("S3:bucket", sampleLocations())
	if err != nil {
		t.Fatal(err)
	}
	if !other.Equal(twin) || other.Equal(elsewhere) || other.Equal(zero) || zero.Equal(other) || !zero.Equal(Location{}) {
		t.Error("Equal is wrong")
	}
}

// TestLocationSecrets looks for a secret of the config wherever a location or a config may be printed.
func TestLocationSecrets(t *testing.T) {
	config := sampleLocations()
	l, err := ParseLocation("S3:bucket", config)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("opened", "location", l, "config", config)
	type holder struct{ location Location }
	outputs := []string{
		log.String(), l.String(), fmt.Sprintf("%v %+v %#v %s %q", l, l, l, l, l), fmt.Sprintf("%v %+v %#v", &l, &l, &l),
		fmt.Sprintf("%v %+v %#v", holder{l}, holder{l}, holder{l}), fmt.Sprintf("%v %+v %#v", []Location{l}, []Location{l}, []Location{l}),
		fmt.Sprintf("%v %+v %#v %s %q %x %5d", config, config, config, config, config, config, config),
	}
	for _, in := range []string{"S3:a:b", "S3:a\x00", "gcs::", "shout:/x", "DAV/x:y", "local:x", "s3://AKIA:" + canary + "@host/bucket", "noob:" + "a"} {
		_, err := ParseLocation(in, config)
		if err == nil {
			t.Fatalf("%q was taken", in)
		}
		outputs = append(outputs, err.Error(), fmt.Sprintf("%+v %#v", err, err))
	}
	for _, out := range outputs {
		if strings.Contains(out, canary) {
			t.Errorf("a secret shows in %s", out)
		}
	}
	if !strings.Contains(log.String(), "S3:bucket") {
		t.Errorf("the log does not name the location: %s", log.String())
	}
}

func TestLocationConfigUnchanged(t *testing.T) {
	config := sampleLocations()
	for _, in := range []string{"S3:a", "local:/a", "none:a", "noob:a", "S3:a:b"} {
		_, err := ParseLocationWithin(in, config, "/a")
		if diff := cmp.Diff(sampleLocations(), config); diff != "" {
			t.Errorf("%q (error %v) changed the config:\n%s", in, err, diff)
		}
	}
}

// checkNormal holds a location against the rules, written down a second time and without the parser's own means.
func checkNormal(t *testing.T, l Location, prefix string) {
	t.Helper()
	s := l.String()
	fail := func(what string) {
		t.Helper()
		t.Errorf("%q (type %q, prefix %q): %s", s, l.Type(), prefix, what)
	}
	if len(s) > 4096 || strings.ToValidUTF8(s, "") != s || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || (r >= 0x7f && r < 0xa0) }) {
		fail("text is not clean")
	}
	if strings.Count(s, ":") != 1 || strings.HasPrefix(s, ":") || strings.Contains(s[:strings.Index(s, ":")], "/") {
		fail("not one colon behind a name")
	}
	path := s[strings.Index(s, ":")+1:]
	if path != l.Path() || s[:strings.Index(s, ":")] != l.Section() {
		fail("does not consist of its parts")
	}
	if l.Type() == "" {
		fail("no type")
	}
	if strings.Contains(path, "//") {
		fail("repeated slash")
	}
	framed := "/" + strings.Trim(path, "/") + "/"
	if strings.Contains(framed, "/./") || strings.Contains(framed, "/../") {
		fail("dots are left")
	}
	if l.Type() != "local" {
		if strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") {
			fail("slash at an end")
		}
		return
	}
	if !strings.HasPrefix(path, "/") || (len(path) > 1 && strings.HasSuffix(path, "/")) {
		fail("not an absolute path without a slash at its end")
	}
	// Walk the prefix's own components down; no library shares this with the parser.
	depth := []string{}
	for _, part := range strings.FieldsFunc(prefix, func(r rune) bool { return r == '/' }) {
		if part == ".." && len(depth) > 0 {
			depth = depth[:len(depth)-1]
		} else if part != "." && part != ".." {
			depth = append(depth, part)
		}
	}
	have := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, part := range depth {
		if i >= len(have) || have[i] != part {
			fail("outside the prefix")
			break
		}
	}
}

func FuzzParseLocation(f *testing.F) {
	for _, in := range []string{
		"", ":", "noob:", "S3:////////////", "S3:/..", "S3:////a////a", "local:/a//", "local://tmp/backups", "local:tmp", "local:/b/../c",
		"S3:a/../../b", "my-local:/b/c", "Grüße 1:x", "shout:/a", "S3:a:b", "S3/a:b", "S3:\x00", "S3:\xff", `local:/b\..\c`, "exotic:..",
	} {
		f.Add(in, "")
		f.Add(in, "/b")
		f.Add(in, "//b/./../tmp/")
	}
	f.Fuzz(func(t *testing.T, in, prefix string) {
		config := sampleLocations()
		l, err := ParseLocationWithin(in, config, prefix)
		if !maps.EqualFunc(config, sampleLocations(), maps.Equal) {
			t.Fatalf("%q changed the config", in)
		}
		if err != nil {
			var lerr *LocationError
			if !errors.As(err, &lerr) || lerr.Offset < -1 || lerr.Offset > len(in) {
				t.Fatalf("%q: %#v", in, err)
			}
			checkLocationMessage(t, lerr)
			return
		}
		checkNormal(t, l, prefix)
		again, err := ParseLocationWithin(l.String(), config, prefix)
		if err != nil || !again.Equal(l) || again.String() != l.String() {
			t.Fatalf("%q gives %q, and that gives %q, %v", in, l, again, err)
		}
	})
}
