package snapshot

import (
	"context"
	"fmt"
	"iter"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdstill/holdstill/repo"
)

// A selection is the part of a snapshot that is restored.
type selection struct {
	repo     *repo.Repository
	manifest *repo.Manifest
	source   string
	match    func(path string) bool
}

// An entry is something to restore, under its name in the restored folder: "."
// for that folder itself.
type entry struct {
	repo.File
	// name has the system's own separators.
	name string
	// bare is set for a folder that the table does not list, or that is restored
	// only because of what it holds.
	bare bool
}

// check fails if there is no such source.
func (s *selection) check() error {
	if s.source == "" {
		return nil
	}
	names := make([]string, len(s.manifest.Sources))
	for i, source := range s.manifest.Sources {
		names[i] = source.Name
	}
	if !slices.Contains(names, s.source) {
		return fmt.Errorf("%w: %q: snapshot %s has %q", ErrUnknownSource, s.source, s.manifest.ID, names)
	}
	return nil
}

// place returns the name of a path of the snapshot in the restored folder, and
// whether it has one.
func (s *selection) place(path string) (string, bool) {
	if s.source == "" {
		return path, true
	}
	if path == s.source {
		return ".", true
	}
	return strings.CutPrefix(path, s.source+"/")
}

// entries yields what is to be restored, every folder before what it holds. Folders
// that lead to a chosen entry come with it. It stops after the first error.
func (s *selection) entries(ctx context.Context) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		var above ancestry
		for f, err := range s.repo.Files(ctx, s.manifest) {
			if err == nil {
				err = above.enter(&f)
			}
			if err != nil {
				yield(entry{}, err)
				return
			}
			name, ok := s.place(f.Path)
			if !ok {
				continue
			}
			if name == "." && !f.IsDir() {
				yield(entry{}, fmt.Errorf("%w: snapshot %s: the source %s is a file", repo.ErrCorrupt, s.manifest.ID, f.Path))
				return
			}
			if name != "." && s.match != nil && !s.match(f.Path) {
				continue
			}
			if !s.withParents(&above, f, yield) {
				return
			}
		}
	}
}

// withParents yields an entry after those folders above it that were not yielded
// yet.
func (s *selection) withParents(above *ancestry, f repo.File, yield func(entry, error) bool) bool {
	for i := range len(f.Path) {
		if f.Path[i] != '/' {
			continue
		}
		path := f.Path[:i]
		if name, ok := s.place(path); !ok || name == "." || above.isMade(path) {
			continue
		}
		parent, listed := above.folder(path)
		if !listed {
			parent = repo.File{Path: path}
		}
		if !s.yieldOne(above, parent, !listed, yield) {
			return false
		}
	}
	return s.yieldOne(above, f, false, yield)
}

func (s *selection) yieldOne(above *ancestry, f repo.File, bare bool, yield func(entry, error) bool) bool {
	path, _ := s.place(f.Path)
	name, err := filepath.Localize(path)
	if err != nil {
		yield(entry{}, fmt.Errorf("snapshot: %q cannot be a name on this system: %w", f.Path, err))
		return false
	}
	if bare || f.IsDir() {
		above.make(f.Path)
	}
	return yield(entry{File: f, name: name, bare: bare}, nil)
}

// ancestry follows a file table in the order of its paths. It knows the entries
// whose paths the current one begins with, among which are all above it.
type ancestry struct {
	stack []repo.File
	// made are the folders above the current entry that were yielded.
	made []string
}

// enter goes on to the next entry of the table. An entry below a file cannot be.
func (a *ancestry) enter(f *repo.File) error {
	for n := len(a.stack); n > 0 && !strings.HasPrefix(f.Path, a.stack[n-1].Path); n-- {
		a.stack = a.stack[:n-1]
	}
	for n := len(a.made); n > 0 && !strings.HasPrefix(f.Path, a.made[n-1]); n-- {
		a.made = a.made[:n-1]
	}
	for _, above := range a.stack {
		if !above.IsDir() && f.Path[len(above.Path)] == '/' {
			return fmt.Errorf("%w: %.100q lies below %.100q, which is a file", repo.ErrCorrupt, f.Path, above.Path)
		}
	}
	kept := *f
	kept.Content = repo.Content{}
	a.stack = append(a.stack, kept)
	return nil
}

func (a *ancestry) folder(path string) (repo.File, bool) {
	for _, f := range a.stack {
		if f.Path == path {
			return f, true
		}
	}
	return repo.File{}, false
}

func (a *ancestry) make(path string) { a.made = append(a.made, path) }

func (a *ancestry) isMade(path string) bool { return slices.Contains(a.made, path) }

// extent is how much a selection is.
type extent struct {
	files, directories, bytes int64
}

// measure reads the whole file table once, before anything is written.
func (s *selection) measure(ctx context.Context) (extent, error) {
	var x extent
	for e, err := range s.entries(ctx) {
		switch {
		case err != nil:
			return x, err
		case e.name == ".":
		case e.IsDir() || e.bare:
			x.directories++
		default:
			x.files++
			if e.Size > math.MaxInt64-x.bytes {
				return x, fmt.Errorf("%w: snapshot %s: the sizes of its files cannot be added up", repo.ErrCorrupt, s.manifest.ID)
			}
			x.bytes += e.Size
		}
	}
	if s.match != nil && x.files+x.directories == 0 {
		return x, fmt.Errorf("%w: snapshot %s: paths begin with the source's name, and patterns cover whole paths", ErrNoMatch, s.manifest.ID)
	}
	return x, nil
}
