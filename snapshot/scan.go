package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// counter counts bytes from many goroutines.
type counter = atomic.Int64

// sourceFile is one file of a view on its way into the snapshot.
type sourceFile struct {
	repo.File
	source string
	// name is the path within the view.
	name string
	view *View
	cut  chunk.Cutter
	// chosen is false for a folder that is here only for what it may hold.
	chosen bool

	// before is the content that the parent has under the same path, where it is of use:
	// known says what of it the file still has, and bases that its chunks are worth
	// storing as differences to those in its place. Nil for files that are simply
	// read.
	before *repo.Content
	known  *known
	bases  bool

	// The fields below belong to reading the file.
	open    sync.Once
	file    fs.File
	openErr error
	// at is the file, if it can be read in parts.
	at    io.ReaderAt
	chain *chain
}

// scan lists the files of all views in the order of their paths, and takes over
// the content of those that the parent has.
func (c *creation) scan(ctx context.Context) ([]*sourceFile, error) {
	var files []*sourceFile
	for i, name := range c.engine.names {
		v := c.views[i]
		err := fs.WalkDir(v.FS, ".", func(path string, d fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			chosen, below := c.picks.chosen(viewPath(name, path))
			switch {
			case chosen || d == nil || d.IsDir() && below:
			case d.IsDir():
				return fs.SkipDir
			default:
				return nil
			}
			var f *sourceFile
			if err == nil {
				f, err = c.newFile(name, path, v, d)
			}
			if err != nil {
				return &SourceError{Source: name, Op: "read", Path: path, Err: err}
			}
			f.chosen = chosen
			files = append(files, f)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(files, func(a, b *sourceFile) int { return strings.Compare(a.Path, b.Path) })
	if c.picks != nil {
		if files = dropEmptied(files); len(files) == 0 {
			return nil, fmt.Errorf("%w: the patterns choose nothing that the sources hold", ErrNoMatch)
		}
	}
	if err := c.reuse(ctx, files); err != nil {
		return nil, err
	}
	return files, nil
}

// viewPath returns the path that something in a view has in the snapshot.
func viewPath(source, name string) string {
	if name == "." {
		return source
	}
	return source + "/" + name
}

// dropEmptied drops the folders that were not chosen and hold nothing that was.
func dropEmptied(files []*sourceFile) []*sourceFile {
	leads := make(map[string]bool)
	for _, f := range files {
		if !f.chosen {
			continue
		}
		for path := f.Path; ; {
			i := strings.LastIndexByte(path, '/')
			if i < 0 || leads[path[:i]] {
				break
			}
			path = path[:i]
			leads[path] = true
		}
	}
	return slices.DeleteFunc(files, func(f *sourceFile) bool { return !f.chosen && !leads[f.Path] })
}

// newFile describes one file of a view.
func (c *creation) newFile(source, name string, v *View, d fs.DirEntry) (*sourceFile, error) {
	info, err := d.Info()
	if err != nil {
		return nil, err
	}
	f := &sourceFile{source: source, name: name, view: v}
	f.Path = viewPath(source, name)
	if err := repo.CheckPath(f.Path); err != nil {
		return nil, err
	}
	f.Mode = info.Mode() & (fs.ModeDir | fs.ModePerm)
	f.ModTime = info.ModTime().UTC()
	switch {
	case info.IsDir():
		return f, nil
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %v", ErrFileKind, info.Mode().Type())
	}
	f.Size = info.Size()
	var hint Hint
	if v.Hint != nil {
		hint = v.Hint(name)
	}
	if len(hint.Identity) > maxIdentityLength {
		return nil, fmt.Errorf("its identity has %d bytes, more than the %d allowed", len(hint.Identity), maxIdentityLength)
	}
	f.Class = uint8(hint.Class)
	f.Identity = hint.Identity
	if hint.Class == Paged {
		f.PageSize = pageSize(hint.PageSize)
	}
	f.cut, err = c.engine.cutter(hint.Class, f.PageSize)
	return f, err
}

const maxIdentityLength = 255

// The sizes of fixed cuts, in bytes. A promise is verified by comparing lists of
// chunks, so a class must be cut alike for ever, or get a new number.
const (
	// pagedCut is what of a paged file is one chunk: small, so that little is stored
	// again when a page changes.
	pagedCut = 64 << 10
	// appendCut keeps what is stored again of a growing file's last chunk small.
	appendCut = 256 << 10
	// immutableCut is large, since a table of an LSM tree either stays or is
	// replaced by one that shares nothing with it at any size of cuts.
	immutableCut = 1 << 20
)

// pageSize returns the page size that a hint stands for.
func pageSize(n int) int {
	if n < 512 || n > 1<<20 || n&(n-1) != 0 {
		return 4096
	}
	return n
}

// cutter returns how files of a class are cut.
func (e *Engine) cutter(class Class, page int) (chunk.Cutter, error) {
	switch class {
	case Immutable:
		return chunk.NewFixed(immutableCut)
	case Paged:
		return chunk.NewFixed(max(pagedCut, page))
	case AppendOnly:
		return chunk.NewFixed(appendCut)
	}
	return e.repo.Gear(), nil
}

// reuse gives files the content that the parent has for them, or the unchanged part of
// it, where the source promises that it is the same; and others what to store their
// chunks as the difference to: that needs no promise, since they are read.
// Both lists are in the same order.
func (c *creation) reuse(ctx context.Context, files []*sourceFile) error {
	if c.parent == nil {
		return nil
	}
	positions := c.sameEpochs()
	next, stop := iter.Pull2(c.engine.repo.Files(ctx, c.parent))
	defer stop()
	old, err, ok := next()
	for _, f := range files {
		since, same := positions[f.source]
		promised := same && (f.Identity != "" || since != "" && f.view.Changed != nil)
		// What replaces a sealed file has nothing of it.
		alike := Class(f.Class) != Immutable
		if f.IsDir() || !promised && !alike {
			continue
		}
		for ok && err == nil && old.Path < f.Path {
			old, err, ok = next()
		}
		if err != nil {
			return c.parentUnreadable(ctx, err)
		}
		if !ok {
			return nil
		}
		if old.Path != f.Path || old.IsDir() || old.Class != f.Class || old.PageSize != f.PageSize {
			continue
		}
		if promised {
			if err := c.keep(f, &old, since); err != nil {
				return err
			}
		}
		if f.cut != nil && (alike || f.known != nil) {
			content := old.Content
			f.before, f.bases = &content, alike
		}
	}
	return nil
}

// parentUnreadable decides what a file table that cannot be read means: the
// files not found by then are read, as without a parent.
func (c *creation) parentUnreadable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !errors.Is(err, repo.ErrCorrupt) && !errors.Is(err, repo.ErrMissing) {
		return err
	}
	c.engine.log.Warn("the parent snapshot is damaged: reading more than would be needed", "parent", c.parent.ID, "error", err)
	return nil
}

// sameEpochs returns the sources whose promises mean something to the parent, and
// the position that each of them had in it.
func (c *creation) sameEpochs() map[string]string {
	same := make(map[string]string)
	for i, name := range c.engine.names {
		for _, s := range c.parent.Sources {
			if s.Name == name && s.Kind == c.views[i].Kind && s.Epoch != "" && s.Epoch == c.views[i].Epoch {
				same[name] = s.Position
			}
		}
	}
	return same
}

// present says whether the repository still has the chunks that a content names
// itself.
func (c *creation) present(content repo.Content) bool {
	for _, r := range content.Refs {
		if !c.session.Has(r.ID) {
			return false
		}
	}
	return true
}
