package localblob

import (
	"errors"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"gocloud.dev/gcerrors"
)

func TestPathOfKey(t *testing.T) {
	long := strings.Repeat("n", maxNameLen)
	for _, tc := range []struct{ key, want string }{
		{"pack/ab/0123", "pack/ab/0123"},
		{"snapshot/2025-01-01T00.00.00Z_nightly", "snapshot/2025-01-01T00.00.00Z_nightly"},
		{".hidden", ".hidden"},
		{"grüße/☺", "grüße/☺"},
		{"a b", "a b"},
		{long + "/" + long, long + "/" + long},
		{".", "%2E"},
		{"..", ".%2E"},
		{"...", "..%2E"},
		{"../../etc/passwd", ".%2E/.%2E/etc/passwd"},
		{"/etc/passwd", "%/etc/passwd"},
		{"/", "%/%"},
		{"a//b", "a/%/b"},
		{"a/", "a/%"},
		{"%", "%25"},
		{"%2E", "%252E"},
		{".%tmp", ".%25tmp"},
		{".%tmp/x", ".%25tmp/x"},
		{"C:\\x", "C%3A%5Cx"},
		{"nul\x00byte", "nul%00byte"},
		{"line\nfeed\x7f", "line%0Afeed%7F"},
		{"trail. /x ", "trail.%20/x%20"},
		{"NUL", "%4EUL"},
		{"con.txt/x", "%63on.txt/x"},
		{"Com1 .log", "%43om1 .log"},
		{"com0", "%63om0"},
		{"LPT²", "%4CPT²"},
		{"COM10", "COM10"},
		{"console", "console"},
		{"lpt", "lpt"},
	} {
		got, err := pathOfKey(tc.key)
		if err != nil || got != tc.want {
			t.Errorf("pathOfKey(%q) = %q, %v; want %q", tc.key, got, err, tc.want)
		}
		checkPath(t, tc.key, got)
	}
}

func TestPathOfKeyRefuses(t *testing.T) {
	for name, key := range map[string]string{
		"empty":             "",
		"not UTF-8":         "a\xff",
		"long":              strings.Repeat("a/", maxKeyLen/2) + "a",
		"long part":         "a/" + strings.Repeat("n", maxNameLen+1) + "/b",
		"long when escaped": strings.Repeat("%", maxNameLen/3+1),
	} {
		_, err := pathOfKey(key)
		var kerr *KeyError
		if !errors.Is(err, ErrInvalidKey) || !errors.As(err, &kerr) || kerr.Key != key || kerr.Reason == "" {
			t.Errorf("%s: got %v", name, err)
		}
		if errorCode(err) != gcerrors.InvalidArgument {
			t.Errorf("%s: code %v", name, errorCode(err))
		}
		if len(err.Error()) > 700 {
			t.Errorf("%s: message of %d bytes", name, len(err.Error()))
		}
	}
}

// TestForeignNames are names no key maps to.
func TestForeignNames(t *testing.T) {
	for _, name := range []string{
		"", "/", "a/b", tempDir, "a:b", "%2e", "%41", "%2", "%2F", "a%2Fb", "%E2%98%BA", "x%", "%%", "trail.", "trail ", "NUL", "a\xffb", "%FF",
	} {
		if part, ok := unescapeName(name); ok {
			t.Errorf("unescapeName(%q) = %q", name, part)
		}
	}
}

// checkPath holds a path against what every path of a key must be.
func checkPath(t *testing.T, key, got string) {
	t.Helper()
	if path.Clean(got) != got || path.IsAbs(got) || got == ".." || strings.HasPrefix(got, "../") || strings.HasPrefix(got+"/", tempDir+"/") {
		t.Errorf("key %q: path %q is not below the folder", key, got)
	}
	parts := strings.Split(got, "/")
	for i, part := range parts {
		if strings.ContainsAny(part, "\\:*?\"<>|\x00") || part == "" || len(part) > maxNameLen {
			t.Errorf("key %q: name %q is not portable", key, part)
		}
		back, ok := unescapeName(part)
		if !ok {
			t.Errorf("key %q: name %q cannot be read back", key, part)
		}
		parts[i] = back
	}
	if back := strings.Join(parts, "/"); back != key {
		t.Errorf("key %q comes back as %q", key, back)
	}
}

func FuzzPathOfKey(f *testing.F) {
	for _, key := range []string{"pack/ab/x", "../x", "//", "a%2Eb", "NUL.txt", ".%tmp/x", "con", "é\x00\\"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		got, err := pathOfKey(key)
		if err != nil {
			if !errors.Is(err, ErrInvalidKey) {
				t.Fatalf("key %q: %v", key, err)
			}
			return
		}
		checkPath(t, key, got)
	})
}

func FuzzUnescapeName(f *testing.F) {
	for _, name := range []string{"x", "%", "%2E", ".%2E", "%4EUL", "%2f", "%zz", ".%tmp", "/"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		part, ok := unescapeName(name)
		if !ok {
			return
		}
		if !utf8.ValidString(part) || strings.Contains(part, "/") {
			t.Fatalf("name %q: part %q", name, part)
		}
		if again := escapeName(part); again != name {
			t.Fatalf("name %q is a second name of %q, which is %q", name, part, again)
		}
	})
}
