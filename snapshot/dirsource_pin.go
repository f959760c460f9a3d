package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// holding is how a file is kept as it was.
type holding uint8

const (
	byLink holding = iota
	byClone
	byCopy
)

// heldFile is a link or a copy in the folder of a pin.
type heldFile struct {
	at    string
	how   holding
	stamp fileStamp // of the original
}

// dirFile is a file or a folder of the source.
type dirFile struct {
	name  string
	stamp fileStamp
	// For regular files only.
	hint Hint
	at   string
	how  holding
}

// dirPin is a folder of links and copies, from Prepare or Pin to the end of the
// View. One goroutine at a time works on it.
type dirPin struct {
	source *DirSource
	root   string
	folder string
	held   map[string]heldFile // by name
	next   int                 // number of the next file in folder
	inside int                 // how many files Pin itself placed
	// linkErr is why a file could not be linked, the first time.
	linkErr error
	// expiry belongs to DirSource.ready.
	expiry *time.Timer
}

// errMoved means that a file is not what it was a moment ago.
var errMoved = errors.New("the file moved or changed")

// maxPasses is how often Pin goes through the folder before it gives up.
const maxPasses = 4

// hold brings every file into the pin, and returns all in the order of a walk. It
// goes over the folder until nothing has changed meanwhile.
func (p *dirPin) hold(ctx context.Context) ([]dirFile, error) {
	var last *dirPass
	for range maxPasses {
		pass, err := p.pass(ctx, false)
		if err != nil {
			return nil, err
		}
		p.inside += pass.placed
		// The time of a folder changes also with files that are left out, so two
		// equal passes are as good.
		if pass.moved == "" && (pass.foldersStand() || last != nil && last.moved == "" && last.equal(pass)) {
			return pass.files, nil
		}
		last = pass
	}
	name := last.moved
	if name == "" {
		name = "."
	}
	return nil, pathError("pin", name, fmt.Errorf("%w: it changed in each of %d attempts: stop what writes to it in DirOptions.Quiesce, or leave it out with Skip", ErrChanged, maxPasses))
}

// dirPass is one walk over the folder.
type dirPass struct {
	*dirPin
	// sealed restricts the pass to Immutable files.
	sealed bool
	files  []dirFile
	placed int
	// moved is the name of a file that did not stand still.
	moved string
}

func (p *dirPin) pass(ctx context.Context, sealed bool) (*dirPass, error) {
	pass := &dirPass{dirPin: p, sealed: sealed}
	stamp, err := stampPath(p.root)
	if err == nil && !stamp.mode.IsDir() {
		err = errors.New("it is no longer a folder")
	}
	if err != nil {
		return nil, pathError("pin", ".", innerError(err))
	}
	return pass, pass.walk(ctx, ".", stamp)
}

// walk goes over a folder. Its stamp is from before its entries are listed, so that
// an entry that comes later shows.
func (p *dirPass) walk(ctx context.Context, folder string, stamp fileStamp) error {
	p.files = append(p.files, dirFile{name: folder, stamp: stamp})
	entries, err := os.ReadDir(p.original(folder))
	if err != nil {
		if folder != "." && errors.Is(err, fs.ErrNotExist) {
			p.moved = folder
			return nil
		}
		return pathError("pin", folder, innerError(err))
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.visit(ctx, path.Join(folder, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (p *dirPass) visit(ctx context.Context, name string) error {
	opts := &p.source.opts
	original := p.original(name)
	if opts.Skip != nil && opts.Skip(name) {
		return nil
	}
	if !utf8.ValidString(name) {
		return pathError("pin", name, fmt.Errorf("%w: the name is not UTF-8: leave it out with DirOptions.Skip", fs.ErrInvalid))
	}
	stamp, err := stampPath(original)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.moved = name
		return nil
	case err != nil:
		return pathError("pin", name, innerError(err))
	case stamp.sameFile(p.source.scratch.shared):
		return nil
	case stamp.mode.IsDir():
		return p.walk(ctx, name, stamp)
	case !stamp.mode.IsRegular():
		return pathError("pin", name, fmt.Errorf("%w: it is a %s: leave it out with DirOptions.Skip", ErrFileKind, kindName(stamp.mode)))
	}
	f := dirFile{name: name, stamp: stamp}
	if opts.Hint != nil {
		f.hint = opts.Hint(name)
	}
	if p.sealed && f.hint.Class != Immutable {
		return nil
	}
	if f.hint.Identity == "" {
		switch f.hint.Class {
		case Immutable:
			f.hint.Identity = stamp.identity()
		case AppendOnly:
			f.hint.Identity = stamp.life()
		}
	}
	return p.add(ctx, f)
}

func (p *dirPass) original(name string) string {
	return filepath.Join(p.root, filepath.FromSlash(name))
}

// add holds a file, unless it is held already.
func (p *dirPass) add(ctx context.Context, f dirFile) error {
	sealed := f.hint.Class == Immutable
	h, ok := p.held[f.name]
	if !ok || !h.stamp.same(f.stamp) || h.how == byLink && !sealed {
		h = heldFile{at: filepath.Join(p.folder, strconv.Itoa(p.next)), stamp: f.stamp}
		p.next++
		var err error
		h.how, err = p.place(ctx, p.original(f.name), h, sealed)
		switch {
		case errors.Is(err, errMoved):
			p.moved = f.name
			return ignoreMissing(os.Remove(h.at))
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return pathError("pin", f.name, innerError(err))
		}
		p.placed++
		p.held[f.name] = h
	}
	f.at, f.how = h.at, h.how
	p.files = append(p.files, f)
	return nil
}

// place links, clones or copies a file to h.at. It returns errMoved if it is not or
// no longer the one of h.stamp.
func (p *dirPin) place(ctx context.Context, original string, h heldFile, sealed bool) (holding, error) {
	if sealed {
		err := os.Link(original, h.at)
		if err == nil {
			return byLink, expect(stampPath(h.at))(h.stamp)
		}
		if errors.Is(vanished(original, err), errMoved) {
			return 0, errMoved
		}
		// Another file system, too many links, links that are forbidden: whatever it
		// was, a copy works or fails with an error of its own.
		if p.linkErr == nil {
			p.linkErr = innerError(err)
		}
	}
	src, err := os.OpenFile(original, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return 0, vanished(original, err)
	}
	defer src.Close()
	if err := expect(stampOpen(src))(h.stamp); err != nil {
		return 0, err
	}
	how, err := p.source.clones.duplicate(ctx, src, h)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("its scratch folder is gone: %w", innerError(err))
	}
	if err != nil {
		return 0, err
	}
	return how, expect(stampOpen(src))(h.stamp)
}

// expect compares a stamp that was just taken.
func expect(got fileStamp, err error) func(want fileStamp) error {
	return func(want fileStamp) error {
		if err == nil && !got.same(want) {
			return errMoved
		}
		return err
	}
}

// vanished tells a file that is gone from one that cannot be reached for another
// reason, such as a scratch folder that is gone.
func vanished(original string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(original); errors.Is(err, fs.ErrNotExist) {
		return errMoved
	}
	return err
}

// foldersStand says whether no folder has changed since before it was listed.
func (p *dirPass) foldersStand() bool {
	for i := range p.files {
		f := &p.files[i]
		if !f.stamp.mode.IsDir() {
			continue
		}
		if now, err := stampPath(p.original(f.name)); err != nil || !now.same(f.stamp) {
			return false
		}
	}
	return true
}

// equal says whether two passes found the same.
func (p *dirPass) equal(other *dirPass) bool {
	return slices.EqualFunc(p.files, other.files, func(a, b dirFile) bool {
		if a.stamp.mode.IsDir() {
			return a.name == b.name && b.stamp.mode.IsDir()
		}
		return a.name == b.name && a.stamp.same(b.stamp)
	})
}

// shed removes what the pin turned out not to need: links of files that were removed
// between Prepare and Pin keep their space.
func (p *dirPin) shed(ctx context.Context, files []dirFile) error {
	needed := make(map[string]bool, len(files))
	for i := range files {
		needed[files[i].at] = true
	}
	for n := range p.next {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		at := filepath.Join(p.folder, strconv.Itoa(n))
		if needed[at] {
			continue
		}
		if err := ignoreMissing(os.Remove(at)); err != nil {
			return err
		}
	}
	p.held = nil
	return nil
}

// discard removes the folder.
func (p *dirPin) discard() error {
	return errors.Join(os.RemoveAll(p.folder), p.source.end())
}

// innerError leaves the path away from an error of package os: one in the scratch
// folder means nothing to the reader, and that of the file is said already.
func innerError(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
