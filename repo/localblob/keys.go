package localblob

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	maxKeyLen  = 1024 // bytes; the bound of the large cloud stores, so that what fits here fits there
	maxNameLen = 255  // bytes of one escaped path component; the bound of the common file systems

	// tempDir holds files not yet published. The name is no escape of any key: 't' is not a hexadecimal digit.
	tempDir = ".%tmp"
	// emptyName stands for an empty component, as in "a//b" or "a/".
	emptyName = "%"

	hexDigits = "0123456789ABCDEF"
)

// pathOfKey maps a key to the slash path of its file below the bucket's folder. The map is injective, the same on every
// platform, and never yields "." or "..", an absolute path or tempDir.
func pathOfKey(key string) (string, error) {
	switch {
	case key == "":
		return "", &KeyError{Key: key, Reason: "a key must not be empty", Err: ErrInvalidKey}
	case len(key) > maxKeyLen:
		return "", &KeyError{Key: key, Reason: fmt.Sprintf("a key has at most %d bytes", maxKeyLen), Err: ErrInvalidKey}
	case !utf8.ValidString(key):
		return "", &KeyError{Key: key, Reason: "a key must be valid UTF-8", Err: ErrInvalidKey}
	}
	p, ok := escapePath(key)
	if !ok {
		reason := fmt.Sprintf("a part between slashes has at most %d bytes after escaping; shorten it or add a slash", maxNameLen)
		return "", &KeyError{Key: key, Reason: reason, Err: ErrInvalidKey}
	}
	return p, nil
}

// escapePath escapes every component of key. It reports false if one of them is too long for a file name.
func escapePath(key string) (string, bool) {
	parts := strings.Split(key, "/")
	for i, part := range parts {
		parts[i] = escapeName(part)
		if len(parts[i]) > maxNameLen {
			return "", false
		}
	}
	return strings.Join(parts, "/"), true
}

// escapeName makes one component of a key a file name that Linux, macOS, the BSDs and Windows all accept. Bytes that
// one of them reserves become %XX; so do the last byte of a name that ends in a dot or a space (which covers "." and
// "..") and the first byte of a Windows device name.
func escapeName(part string) string {
	if part == "" {
		return emptyName
	}
	if !needsEscape(part) {
		return part
	}
	var b strings.Builder
	b.Grow(len(part) + 8)
	device := isDeviceName(part)
	for i := range len(part) {
		c := part[i]
		last := i == len(part)-1
		if reservedByte(c) || (last && (c == '.' || c == ' ')) || (i == 0 && device) {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// unescapeName reverses escapeName. It reports false for a name that escapeName never yields: such a file is not ours.
func unescapeName(name string) (string, bool) {
	if name == emptyName {
		return "", true
	}
	if name == "" || len(name) > maxNameLen || strings.Contains(name, "/") || !utf8.ValidString(name) {
		return "", false
	}
	if !strings.Contains(name, "%") {
		return name, !needsEscape(name)
	}
	var b strings.Builder
	b.Grow(len(name))
	for i := 0; i < len(name); i++ {
		if name[i] != '%' {
			b.WriteByte(name[i])
			continue
		}
		if i+2 >= len(name) {
			return "", false
		}
		hi, lo := strings.IndexByte(hexDigits, name[i+1]), strings.IndexByte(hexDigits, name[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	part := b.String()
	// One key, one name: a second spelling of the same key would make an object that cannot be opened.
	if strings.Contains(part, "/") || !utf8.ValidString(part) || escapeName(part) != name {
		return "", false
	}
	return part, true
}

func needsEscape(part string) bool {
	for i := range len(part) {
		if reservedByte(part[i]) {
			return true
		}
	}
	end := part[len(part)-1]
	return end == '.' || end == ' ' || isDeviceName(part)
}

func reservedByte(c byte) bool {
	switch c {
	case '"', '%', '*', ':', '<', '>', '?', '\\', '|', 0x7f:
		return true
	}
	return c < 0x20
}

// isDeviceName reports whether Windows takes the name, whatever its extension, for a device.
func isDeviceName(part string) bool {
	stem, _, _ := strings.Cut(part, ".")
	stem = strings.TrimRight(stem, " ")
	switch {
	case len(stem) == 3:
		return strings.EqualFold(stem, "CON") || strings.EqualFold(stem, "PRN") ||
			strings.EqualFold(stem, "AUX") || strings.EqualFold(stem, "NUL")
	case strings.EqualFold(stem, "CONIN$"), strings.EqualFold(stem, "CONOUT$"):
		return true
	case len(stem) < 4 || !(strings.EqualFold(stem[:3], "COM") || strings.EqualFold(stem[:3], "LPT")):
		return false
	}
	switch stem[3:] {
	case "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
		return true
	}
	return false
}
