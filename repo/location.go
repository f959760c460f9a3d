package repo

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxLocationLen bounds a location, in bytes.
	maxLocationLen = 4096

	localType = "local"
	typeKey   = "type"
)

// Location is where a repository is: a section of a config, and a path within it. [ParseLocation] makes one. It is
// immutable, may be copied, and is safe for concurrent use. Printing it shows no option's value.
//
// Its normal form, which String returns, is "section:path":
//
//	local:/var/backups      a local path begins with a slash
//	S3:bucket/nightly       any other does not
//	S3:                     and may be empty; whether such a place can be opened is for its opener to say
type Location struct {
	section, path string
	// settings is a pointer so that a Location printed as a field of something else shows an address.
	settings *locationSettings
}

type locationSettings struct {
	kind    string
	options map[string]string
}

// Section returns the section's name, the part before the colon.
func (l Location) Section() string { return l.section }

// Path returns the normalised slash path: without "." and "..", repeated slashes, or a slash at the end; with a slash at
// the start if and only if the location is local.
func (l Location) Path() string { return l.path }

// Type returns the section's type as the config has it, such as "local", "s3" or "azureblob".
func (l Location) Type() string {
	if l.settings == nil {
		return ""
	}
	return l.settings.kind
}

// IsLocal reports whether the type is "local", whatever the section's name.
func (l Location) IsLocal() bool { return l.Type() == localType }

// IsZero reports whether l is the zero Location, which names no place.
func (l Location) IsZero() bool { return l.settings == nil }

// Options returns a copy of the section's keys and values, without "type". They may hold secrets.
func (l Location) Options() map[string]string {
	if l.settings == nil {
		return map[string]string{}
	}
	return maps.Clone(l.settings.options)
}

// String returns the normal form, "section:path", or "" for the zero Location. It never holds an option.
func (l Location) String() string {
	if l.IsZero() {
		return ""
	}
	return l.section + ":" + l.path
}

// GoString keeps the options out of %#v.
func (l Location) GoString() string {
	return fmt.Sprintf("repo.Location{%q, type %q}", l.String(), l.Type())
}

// LogValue keeps the options out of log/slog.
func (l Location) LogValue() slog.Value { return slog.StringValue(l.String()) }

// Equal reports whether both name the same place with the same type and options.
func (l Location) Equal(other Location) bool {
	if l.IsZero() || other.IsZero() {
		return l.IsZero() == other.IsZero()
	}
	return l.section == other.section && l.path == other.path && l.settings.kind == other.settings.kind &&
		maps.Equal(l.settings.options, other.settings.options)
}

// ParseLocation reads a remoteRepository, "section:path", with the section looked up in config. Errors are of type
// [*LocationError] and name the [LocationRule] that was broken:
//
//   - The text is not empty, has at most 4096 bytes, is valid UTF-8 and free of control characters.
//   - One single colon separates section and path, and no slash comes before it. A second colon is refused, so a
//     Windows drive cannot be named.
//   - A section's name consists of letters and digits of any script, spaces, and any of "_-.+@". It does not begin with
//     a space or "-" and does not end with a space.
//   - The section is in the config, spelt exactly so, and has a type that is not empty. Which types there are is not
//     known here. "local" is compared exactly; spellings such as "Local" are refused.
//   - In the path, repeated slashes count as one, "." and ".." are applied, and ".." at the root stays at the root.
//   - A location of type local must begin with a slash. Any other loses slashes at its start.
//   - A backslash is a character like any other, except in a local path on Windows, where it is refused.
//
// Parsing what String returns gives an equal Location. The config is neither changed nor kept.
func ParseLocation(remoteRepository string, config LocationConfig) (Location, error) {
	return ParseLocationWithin(remoteRepository, config, "")
}

// ParseLocationWithin is [ParseLocation] with local locations confined to the folder localPrefix, by whole components:
// "/b" allows "/b" and "/b/x" and refuses "/bc" and "/a/b". "/" allows all, "" sets no bound. The prefix is an absolute
// slash path and is normalised like one. Only the text is compared: symbolic links are for whoever opens the place.
func ParseLocationWithin(remoteRepository string, config LocationConfig, localPrefix string) (Location, error) {
	p := locationParser{text: remoteRepository, backslashSeparates: os.PathSeparator == '\\'}
	return p.parse(config, localPrefix)
}

// locationParser holds the text for the sake of its errors.
type locationParser struct {
	text, section      string
	backslashSeparates bool
}

func (p *locationParser) refuse(rule LocationRule, offset int, format string, args ...any) error {
	e := &LocationError{Input: quoteLocation(p.text), Rule: rule, Offset: offset, Advice: fmt.Sprintf(format, args...)}
	if p.section != "" {
		e.Section = quoteInput(p.section)
	}
	return e
}

func (p *locationParser) parse(config LocationConfig, localPrefix string) (Location, error) {
	if err := p.checkText(); err != nil {
		return Location{}, err
	}
	rawPath, err := p.split()
	if err != nil {
		return Location{}, err
	}
	settings, err := p.lookUp(config)
	if err != nil {
		return Location{}, err
	}
	l := Location{section: p.section, settings: settings}
	if !l.IsLocal() {
		l.path = strings.Join(cleanParts(rawPath), "/")
		return l, nil
	}
	if l.path, err = p.localPath(rawPath); err != nil {
		return Location{}, err
	}
	if err := p.checkPrefix(l.path, localPrefix); err != nil {
		return Location{}, err
	}
	return l, nil
}

// checkText applies the rules that do not look at the structure.
func (p *locationParser) checkText() error {
	switch {
	case p.text == "":
		return p.refuse(RuleNotEmpty, 0, "give a location as section:path, for example local:/var/backups")
	case len(p.text) > maxLocationLen:
		return p.refuse(RuleLength, maxLocationLen, "a location has at most %d bytes, this one has %d", maxLocationLen, len(p.text))
	}
	for i, r := range p.text {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(p.text[i:]); size == 1 {
				return p.refuse(RuleUTF8, i, "write the location in UTF-8")
			}
		}
		if unicode.IsControl(r) {
			return p.refuse(RuleNoControl, i, "remove the control character %U", r)
		}
	}
	return nil
}

// split sets the section and returns the path as it stands.
func (p *locationParser) split() (string, error) {
	section, rawPath, found := strings.Cut(p.text, ":")
	if !found {
		return "", p.refuse(RuleOneColon, len(p.text), "put a colon between section and path, as in S3:bucket/path")
	}
	if section == "" {
		return "", p.refuse(RuleSectionName, 0, "put the name of a section of the config before the colon")
	}
	if i := strings.IndexByte(section, '/'); i >= 0 {
		return "", p.refuse(RuleNoSlashInName, i, "the part before the colon names a section of the config; a path comes after it")
	}
	for i, r := range section {
		if !sectionRune(r) || (i == 0 && (r == ' ' || r == '-')) {
			return "", p.refuse(RuleSectionName, i, "%U cannot stand here; a section's name has letters, digits, spaces and _-.+@, does not begin with a space or -, and does not end with a space", r)
		}
	}
	if strings.HasSuffix(section, " ") {
		return "", p.refuse(RuleSectionName, len(section)-1, "remove the space at the end of the section's name")
	}
	if i := strings.IndexByte(rawPath, ':'); i >= 0 {
		return "", p.refuse(RuleOneColon, len(section)+1+i, "only one colon may stand in a location; rename what has one in its name")
	}
	p.section = section
	return rawPath, nil
}

func sectionRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" _-.+@", r)
}

func (p *locationParser) lookUp(config LocationConfig) (*locationSettings, error) {
	values, ok := config[p.section]
	if !ok {
		return nil, p.refuse(RuleSectionKnown, 0, "add the section to the config, or name one of its %d sections; case matters", len(config))
	}
	kind := values[typeKey]
	if kind == "" {
		return nil, p.refuse(RuleSectionType, -1, `give the section a "type", for example "local" or "s3"`)
	}
	if kind != localType && strings.EqualFold(strings.TrimSpace(kind), localType) {
		return nil, p.refuse(RuleSectionType, -1, `write the type of a local repository as "local", in lower case and without spaces`)
	}
	options := maps.Clone(values)
	delete(options, typeKey)
	return &locationSettings{kind: kind, options: options}, nil
}

func (p *locationParser) localPath(rawPath string) (string, error) {
	start := len(p.section) + 1
	if !strings.HasPrefix(rawPath, "/") {
		return "", p.refuse(RuleAbsolute, start, "the section's type is local, so begin the path with a slash, as in %s", quoteInput(p.section+":/"+rawPath))
	}
	if i := strings.IndexByte(rawPath, '\\'); i >= 0 && p.backslashSeparates {
		return "", p.refuse(RuleNoBackslash, start+i, "separate folders by slashes")
	}
	return "/" + strings.Join(cleanParts(rawPath), "/"), nil
}

func (p *locationParser) checkPrefix(path, prefix string) error {
	if prefix == "" {
		return nil
	}
	if !strings.HasPrefix(prefix, "/") || (p.backslashSeparates && strings.Contains(prefix, `\`)) {
		return p.refuse(RulePrefixAbsolute, -1, "the prefix for local repositories, %s, must be a slash path that begins with a slash", quoteInput(prefix))
	}
	allowed := "/" + strings.Join(cleanParts(prefix), "/")
	if allowed == "/" || path == allowed || strings.HasPrefix(path, allowed+"/") {
		return nil
	}
	return p.refuse(RuleWithinPrefix, len(p.section)+1, "local repositories are confined to %s; choose a path in it", quoteInput(allowed))
}

// cleanParts splits a path at its slashes and applies "." and "..". Nothing climbs above the root.
func cleanParts(path string) []string {
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "", ".":
		case "..":
			parts = parts[:max(len(parts)-1, 0)]
		default:
			parts = append(parts, part)
		}
	}
	return parts
}
