package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	slashpath "path"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// ErrSourceClosed means that a DirSource was closed, or that Current has no Source now.
var ErrSourceClosed = errors.New("snapshot: the source is closed")

// DirOptions are the settings of Dir. The zero value copies every file, or clones
// it where the file system can.
//
// Names given to the functions are slash-separated paths within the folder. The
// functions are called from several goroutines at once.
type DirOptions struct {
	// Hint says what is known about a file. Nil means nothing: all are Opaque.
	//
	// Immutable is a promise here, more than elsewhere: such a file is hard-linked
	// and not copied, so what is written to it after the pin would appear in the
	// View. It may be removed, and replaced by another under its name, at any time.
	// A file that has changed its size or time of modification by the time it is
	// read fails the snapshot with ErrChanged. If the Hint of an Immutable file has
	// no Identity the source gives it one, made of device, inode, size, times of
	// modification and birth; where the system does not tell those, none.
	//
	// AppendOnly is one too: if the Hint of such a file has no Identity the source gives
	// it one, made of device, inode and time of birth, and only what was appended is
	// read. A log may be removed, and replaced by another under its name, but one that
	// is emptied and written anew, or written ahead and filled in later, is not
	// AppendOnly: call it Opaque.
	Hint func(name string) Hint

	// Skip leaves out a file, or a folder with all that is in it. Sockets, pipes,
	// devices and symbolic links have to be left out, and files that only the
	// running server uses, such as a lock, should be.
	Skip func(name string) bool

	// Scratch is a folder for links and copies while snapshots are being read. It
	// must be on the file system of the source, else every file is copied. It is
	// made if it does not exist, several sources and processes may share it, and it
	// is not part of snapshots if it lies within the source.
	//
	// Empty means a sibling of the source, ".<name>.holdstill-pins", or
	// ".holdstill-pins" within the source where that is the root of a file system.
	Scratch string

	// Flush is called at the start of Prepare, outside the freeze: write out what
	// is buffered, so that Quiesce finds little to do. Nil does nothing.
	Flush func(ctx context.Context) error

	// Quiesce is called at the start of Pin, inside the freeze. When it returns the
	// files in the folder must be a state that the database can start from, and
	// nothing may write, make, rename or remove one until resume is called, at the
	// end of Pin: neither a transaction nor a compaction in the background. It need
	// not undo anything when it fails; resume may be nil. It is never called twice
	// at once for one source. A nil Quiesce means that closing the lock is enough.
	Quiesce func(ctx context.Context) (resume func(), err error)
}

// DirSource is a Source of all files below a folder. See Dir.
type DirSource struct {
	path string
	opts DirOptions
	// scratch is ours below Scratch.
	scratch *dirScratch
	clones  cloneMemory
	// turn is held by the Pin under way.
	turn chan struct{}

	// mu guards the fields below.
	mu     sync.Mutex
	closed bool
	// uses counts calls under way and pins that are not discarded. The scratch
	// folder goes with the last of them after Close.
	uses int
	// ready holds what Prepare made and no Pin has taken, oldest first.
	ready []*dirPin
	// expiring counts the removals that a timer began. It grows only while mu is
	// held and closed is not set.
	expiring sync.WaitGroup
}

var _ Preparer = (*DirSource)(nil)

const (
	// preparedLife is how long links of Prepare wait for their Pin. Until then they
	// keep the space of files that the server removes.
	preparedLife = 10 * time.Minute
	// maxPrepared bounds how many sets of such links there are at once.
	maxPrepared = 4
)

// Dir returns a Source of the files below a folder, for databases that have no
// source of their own. It is the last resort, because its Pin runs inside the
// freeze for longer the more there is:
//
//   - for each file, the time to look at it: some microseconds;
//   - for each Immutable file that was made after Prepare, a hard link;
//   - for any other file a clone (reflink) where the file system has them, such as
//     XFS, Btrfs and APFS, and else a copy: the time to write all of its bytes.
//
// A database that keeps its data in a few large files and cannot clone them wants a
// source that knows it. One of sealed files and a small log does well with this.
//
// The files must stand still during the Pin: see DirOptions.Quiesce. Pin looks for
// files that change or vanish while it works and starts over, three times at most,
// but what it cannot see it cannot prevent. The time of modification, which it goes
// by, does not always follow writes through a memory map, and where the file system
// counts time in steps, as before Linux 6.13 in some milliseconds, two changes within
// one step bear the same time.
//
// The View shows the files with the permissions and times of the originals. Links
// keep the space of removed files until the View is closed.
//
// Dir removes what dead processes left in Scratch; one that lives holds a lock
// there. On systems without locks on files nothing is removed. Dir fails with
// ErrConfig, around the error of the file system if there is one. Close the source
// after the Engine.
func Dir(path string, opts DirOptions) (*DirSource, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: the source has no path", ErrConfig)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("%w: source: %w", ErrConfig, err)
	}
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("%w: source: %w", ErrConfig, err)
	}
	if info, err := os.Stat(root); err != nil {
		return nil, fmt.Errorf("%w: source: %w", ErrConfig, err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%w: source %s is a %s, not a folder", ErrConfig, path, kindName(info.Mode()))
	}
	if opts.Scratch == "" {
		opts.Scratch = defaultScratch(root)
	}
	scratch, err := openScratch(opts.Scratch, root)
	if err != nil {
		return nil, err
	}
	return &DirSource{path: path, opts: opts, scratch: scratch, turn: make(chan struct{}, 1)}, nil
}

// shows says whether a folder is part of what the source's views show.
func (s *DirSource) shows(folder string) bool {
	if !lies(folder, s.path) {
		return false
	}
	root, err := filepath.EvalSymlinks(s.path)
	if err == nil {
		folder, err = filepath.EvalSymlinks(folder)
	}
	if err != nil {
		return true
	}
	rel, err := filepath.Rel(root, folder)
	if err != nil || rel == "." || s.opts.Skip == nil {
		return true
	}
	// A folder that is skipped is skipped with all that lies in it.
	for rel = filepath.ToSlash(rel); rel != "."; rel = slashpath.Dir(rel) {
		if s.opts.Skip(rel) {
			return false
		}
	}
	return true
}

// Prepare calls Flush and then links the Immutable files that exist, or copies
// those that cannot be linked, so that the Pin that follows has only to look at
// them. What it made is removed if no Pin comes within ten minutes. It fails as Pin
// does, or with the error of Flush.
func (s *DirSource) Prepare(ctx context.Context) (err error) {
	if err := s.begin(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	return s.prepare(ctx)
}

func (s *DirSource) prepare(ctx context.Context) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.opts.Flush != nil {
		if err := s.opts.Flush(ctx); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
	}
	p, err := s.newPin()
	if err != nil {
		return err
	}
	kept := false
	defer func() {
		if !kept {
			err = errors.Join(err, p.discard())
		}
	}()
	if _, err := p.pass(ctx, true); err != nil {
		return err
	}
	surplus, err := s.keep(p)
	if err != nil {
		return err
	}
	kept = true
	if surplus != nil {
		return surplus.discard()
	}
	return nil
}

// keep makes p ready for a Pin. It returns the oldest one when there are too many.
func (s *DirSource) keep(p *dirPin) (surplus *dirPin, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrSourceClosed
	}
	s.ready = append(s.ready, p)
	p.expiry = time.AfterFunc(preparedLife, func() { s.expire(p) })
	if len(s.ready) > maxPrepared {
		surplus = s.ready[0]
		surplus.expiry.Stop()
		s.ready = slices.Delete(s.ready, 0, 1)
	}
	return surplus, nil
}

// expire discards p unless a Pin has taken it.
func (s *DirSource) expire(p *dirPin) {
	s.mu.Lock()
	i := slices.Index(s.ready, p)
	if i < 0 {
		s.mu.Unlock()
		return
	}
	s.ready = slices.Delete(s.ready, i, i+1)
	s.expiring.Add(1)
	s.mu.Unlock()
	defer s.expiring.Done()
	// What cannot be removed now goes with the whole scratch folder.
	_ = p.discard()
}

// take returns what the newest Prepare made, or nil.
func (s *DirSource) take() *dirPin {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ready) == 0 {
		return nil
	}
	p := s.ready[len(s.ready)-1]
	s.ready = s.ready[:len(s.ready)-1]
	p.expiry.Stop()
	return p
}

// Pin calls Quiesce and returns a View of all files. Two pins of one source run one
// after the other. It fails, and leaves nothing behind, with the cause of ctx,
// which is heeded also within a copy; with the error of Quiesce; with a
// *fs.PathError that names the file, around ErrFileKind for what is neither a file
// nor a folder, fs.ErrInvalid for a name that is not UTF-8, ErrChanged for files
// that do not stand still, or what the file system said; or with ErrSourceClosed.
//
// The View's Kind is "dir". Its Method counts how files were held, as in
// "links 12, reflinks 0, copies 3".
func (s *DirSource) Pin(ctx context.Context) (_ *View, err error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	return s.pin(ctx)
}

func (s *DirSource) pin(ctx context.Context) (_ *View, err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p := s.take()
	if p == nil {
		if p, err = s.newPin(); err != nil {
			return nil, err
		}
	}
	done := false
	defer func() {
		if !done {
			err = errors.Join(err, p.discard())
		}
	}()
	if s.opts.Quiesce != nil {
		resume, err := s.opts.Quiesce(ctx)
		if err != nil {
			return nil, fmt.Errorf("quiesce: %w", err)
		}
		if resume != nil {
			defer resume()
		}
	}
	// A symbolic link may lead elsewhere than it did at Prepare.
	if p.root, err = s.root(); err != nil {
		return nil, err
	}
	files, err := p.hold(ctx)
	if err != nil {
		return nil, err
	}
	done = true
	return p.view(files), nil
}

// view describes what p holds.
func (p *dirPin) view(files []dirFile) *View {
	fsys := newDirFS(files)
	v := &View{
		FS:     fsys,
		Hint:   fsys.hint,
		Settle: func(ctx context.Context) error { return p.shed(ctx, files) },
		Close:  p.discard,
		Kind:   "dir",
		Epoch:  dirEpoch(files[0].stamp),
	}
	var folders, bytes int64
	var held [3]int
	for i := range files {
		if files[i].stamp.mode.IsDir() {
			folders++
			continue
		}
		held[files[i].how]++
		if files[i].how == byCopy {
			bytes += files[i].stamp.size
		}
	}
	v.Method = fmt.Sprintf("links %d, reflinks %d, copies %d", held[byLink], held[byClone], held[byCopy])
	v.Metadata = map[string]string{
		"folders":       strconv.FormatInt(folders, 10),
		"links":         strconv.Itoa(held[byLink]),
		"reflinks":      strconv.Itoa(held[byClone]),
		"copies":        strconv.Itoa(held[byCopy]),
		"bytes_copied":  strconv.FormatInt(bytes, 10),
		"placed_in_pin": strconv.Itoa(p.inside),
	}
	if p.linkErr != nil {
		v.Metadata["link_error"] = p.linkErr.Error()
	}
	return v
}

// dirEpoch binds identities to the file system. A device number can change when the
// machine starts again, which costs reading all once.
func dirEpoch(root fileStamp) string {
	if !root.known() {
		return "dir/1"
	}
	return fmt.Sprintf("dir/1 device %x", root.dev)
}

// Close removes what Prepare left and the source's part of Scratch. It does not wait
// for calls under way, nor for Views: those can be read on, and the last one that is
// closed removes the rest. A second call returns ErrSourceClosed.
func (s *DirSource) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrSourceClosed
	}
	s.closed = true
	s.uses++
	ready := s.ready
	s.ready = nil
	s.mu.Unlock()
	var errs []error
	for _, p := range ready {
		p.expiry.Stop()
		errs = append(errs, p.discard())
	}
	s.expiring.Wait()
	return errors.Join(append(errs, s.end())...)
}

// begin counts a use of the source, which end takes back.
func (s *DirSource) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrSourceClosed
	}
	s.uses++
	return nil
}

func (s *DirSource) end() error {
	s.mu.Lock()
	s.uses--
	last := s.closed && s.uses == 0
	s.mu.Unlock()
	if !last {
		return nil
	}
	return s.scratch.remove()
}

// root returns the source's folder, as it is called without symbolic links.
func (s *DirSource) root() (string, error) {
	root, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return "", &fs.PathError{Op: "pin", Path: ".", Err: innerError(err)}
	}
	return root, nil
}

// newPin makes an empty folder for links and copies.
func (s *DirSource) newPin() (*dirPin, error) {
	root, err := s.root()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(s.scratch.own, "pin")
	if err != nil {
		return nil, fmt.Errorf("scratch folder: %w", err)
	}
	s.mu.Lock()
	s.uses++
	s.mu.Unlock()
	return &dirPin{source: s, root: root, folder: folder, held: make(map[string]heldFile)}, nil
}
