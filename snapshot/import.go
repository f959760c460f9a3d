package snapshot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/holdstill/holdstill/repo"
)

// ImportOptions say how an archive is imported. The zero value works.
type ImportOptions struct {
	// ID is the ID of the snapshot that is made. Default: the one that was exported.
	ID string
	// NoAttachments leaves out what was attached; it is read and checked all the same.
	NoAttachments bool
	// MaxBytes and MaxFiles bound the files' sizes, and the number of files and directories.
	// Reading ends where the archive says that there is more, and where there is. What
	// is known of each file is held in memory, some 300 bytes. Defaults: no bound on
	// the bytes, and 10 million files.
	MaxBytes, MaxFiles int64
	// Progress, if set, is told how far the call is, at most ten times a second. It must
	// return soon.
	Progress func(Progress)
}

const (
	maxImportFiles     = 10_000_000
	maxArchiveManifest = 16 << 20
	// maxArchiveWindow bounds the memory that a compressed archive can ask for, in bytes.
	maxArchiveWindow = 32 << 20
)

// Import reads a stream that Export has written, and makes the snapshot that it holds. The
// compression is found out. Every byte is checked, and nothing is listed unless the archive is
// whole; chunks that the repository has are not stored again. Only what Export writes is
// taken: links, devices, paths that lead elsewhere, files out of order or without the record of
// Export fail with ErrArchive.
//
// A read from r that does not return is waited for, whatever becomes of ctx. What follows
// the end of the archive is read, and must be zeros, of which there may be a mebibyte.
//
// It fails with an *ArchiveError, with repo.ErrExists if there is a snapshot with this ID, with
// ErrBadID, ErrConfig or ErrClosed, with an error of r, or with one of the repository. What was
// stored is deleted again then, as far as Create would delete it.
func (e *Engine) Import(ctx context.Context, r io.Reader, opts ImportOptions) (_ *Snapshot, err error) {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if opts.MaxBytes < 0 || opts.MaxFiles < 0 {
		return nil, fmt.Errorf("%w: ImportOptions.MaxBytes %d and MaxFiles %d must not be negative", ErrConfig, opts.MaxBytes, opts.MaxFiles)
	}
	if opts.MaxFiles == 0 {
		opts.MaxFiles = maxImportFiles
	}
	source := &heedingReader{ctx: ctx, r: r}
	m := &importer{engine: e, opts: opts, track: newTracker(opts.Progress), ledger: newLedger(), folders: make(map[string]bool)}
	if err = m.open(source); err == nil {
		err = m.run(ctx)
		m.closeStream()
	}
	if m.writer != nil {
		m.writer.Close()
	}
	if err != nil && source.err != nil {
		// Not the archive's fault.
		err = fmt.Errorf("read the archive: %w", source.err)
	}
	if m.session != nil && err != nil {
		err = errors.Join(err, m.session.Abort(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot: import: %w", preferCause(ctx, err))
	}
	m.track.finish()
	return m.manifest, nil
}

// heedingReader ends with a context, and remembers why reading failed.
type heedingReader struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (h *heedingReader) Read(p []byte) (int, error) {
	if err := context.Cause(h.ctx); err != nil {
		h.err = err
		return 0, err
	}
	n, err := h.r.Read(p)
	if err != nil && err != io.EOF {
		h.err = err
	}
	return n, err
}

// importer is an Import under way.
type importer struct {
	engine   *Engine
	opts     ImportOptions
	track    *tracker
	manifest *Snapshot
	session  *repo.Session
	notes    notes
	writer   *repo.Writer

	stream      io.Reader
	closeStream func()
	tar         *tar.Reader
	ledger      *ledger
	buf         []byte

	stage importStage
	files []repo.File
	// folders are those that were seen; before is the path or name before.
	folders map[string]bool
	before  string
	stats   repo.Stats
}

// importStage is what may come next in an archive.
type importStage int

const (
	stageManifest importStage = iota
	stageFiles
	stageAttachments
	stageEnd
)

// open finds out the compression.
func (m *importer) open(r io.Reader) error {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, _ := b.Peek(4) // what is too short is no archive, which tar says
	m.closeStream = func() {}
	switch {
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxArchiveWindow))
		if err != nil {
			return err
		}
		m.stream, m.closeStream = z, z.Close
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return &ArchiveError{Reason: "its gzip head is damaged", Err: err}
		}
		m.stream = z
	default:
		m.stream = b
	}
	m.tar = tar.NewReader(m.stream)
	return nil
}

func (m *importer) run(ctx context.Context) (err error) {
	for m.stage != stageEnd {
		h, err := m.tar.Next()
		if err == io.EOF {
			return &ArchiveError{Reason: "it is cut off: it has no " + archiveEnd}
		}
		if err != nil {
			return broken("", err)
		}
		if err := m.member(ctx, h); err != nil {
			return err
		}
	}
	if err := m.rest(); err != nil {
		return err
	}
	return m.commit(ctx)
}

// broken is the error of a stream that cannot be read on.
func broken(name string, err error) error {
	reason := "it is damaged"
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		reason = "it is cut off"
	}
	return &ArchiveError{name, reason, err}
}

// member reads one member.
func (m *importer) member(ctx context.Context, h *tar.Header) error {
	record, err := checkHeader(h)
	if err != nil {
		return err
	}
	own := strings.HasPrefix(h.Name, archiveFolder+"/")
	switch {
	case m.stage == stageManifest:
		if h.Name != archiveManifest {
			return &ArchiveError{h.Name, "an archive of a snapshot begins with " + archiveManifest, nil}
		}
		return m.begin(ctx, h)
	case !own && m.stage == stageFiles:
		return m.file(ctx, h, record)
	case strings.HasPrefix(h.Name, archiveSums):
		return m.list(h)
	case strings.HasPrefix(h.Name, archiveAttachments):
		return m.attachment(ctx, h)
	case h.Name == archiveEnd:
		return m.end(h)
	}
	return &ArchiveError{h.Name, "it does not belong here", nil}
}

// checkHeader refuses what Export does not write, and returns the record of a file.
func checkHeader(h *tar.Header) (record string, err error) {
	bad := func(reason string) (string, error) { return "", &ArchiveError{h.Name, reason, nil} }
	own := strings.HasPrefix(h.Name, archiveFolder+"/")
	switch {
	case h.Typeflag != tar.TypeReg && (h.Typeflag != tar.TypeDir || own):
		return bad(fmt.Sprintf("it is neither a file nor a directory, but of the type %q", h.Typeflag))
	case h.Linkname != "" || h.Devmajor != 0 || h.Devminor != 0:
		return bad("it leads elsewhere")
	case h.Size < 0 || h.Typeflag == tar.TypeDir && h.Size != 0:
		return bad(fmt.Sprintf("it cannot have the size %d", h.Size))
	}
	for key, value := range h.PAXRecords {
		switch key {
		case "path", "size", "mtime":
		case archiveRecord:
			record = value
		default:
			return bad(fmt.Sprintf("it has a record %.50q, which Export does not write", key))
		}
	}
	if own != (record == "") {
		return bad("it has no record " + archiveRecord + ", or one that it should not have: only what Export wrote can be imported")
	}
	return record, nil
}

// small reads a member whole that has at most limit bytes.
func (m *importer) small(h *tar.Header, limit int64) ([]byte, error) {
	if h.Size > limit {
		return nil, &ArchiveError{h.Name, fmt.Sprintf("its %d bytes are more than the %d allowed", h.Size, limit), nil}
	}
	// Grown as it is read: the header alone must not take memory.
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(m.tar, h.Size)); err != nil {
		return nil, broken(h.Name, err)
	}
	if int64(b.Len()) != h.Size {
		return nil, broken(h.Name, io.ErrUnexpectedEOF)
	}
	return b.Bytes(), nil
}

// enter enters a small member into the ledger.
func (m *importer) enter(h *tar.Header, data []byte) {
	sum := sha256.Sum256(data)
	m.ledger.member(h.Name, false, h.Size, "", sum[:])
}

// begin reads the manifest and begins the session.
func (m *importer) begin(ctx context.Context, h *tar.Header) error {
	data, err := m.small(h, maxArchiveManifest)
	if err != nil {
		return err
	}
	var doc archivedManifest
	if err := json.Unmarshal(data, &doc); err != nil {
		return &ArchiveError{h.Name, "it cannot be decoded", err}
	}
	if doc.Format != archiveFormat {
		return &ArchiveError{h.Name, fmt.Sprintf("it has the format %d, this library knows %d", doc.Format, archiveFormat), nil}
	}
	if err := m.checkManifest(doc.Snapshot); err != nil {
		return err
	}
	m.enter(h, data)
	m.manifest = doc.Snapshot
	m.manifest.Created = m.manifest.Created.UTC()
	if m.opts.ID != "" {
		m.manifest.ID = m.opts.ID
	}
	m.track.filesTotal.Store(m.manifest.Stats.Files)
	m.track.bytesTotal.Store(m.manifest.Stats.Bytes)
	m.track.enter(PhaseRead)
	if m.session, err = m.engine.repo.NewSession(ctx); err != nil {
		return err
	}
	m.track.count(m.session)
	if err := m.session.Reserve(ctx, m.manifest.ID); err != nil {
		return err
	}
	if m.writer, err = m.session.NewWriter(); err != nil {
		return err
	}
	m.stage = stageFiles
	return nil
}

func (m *importer) checkManifest(s *Snapshot) error {
	bad := func(format string, args ...any) error {
		return &ArchiveError{archiveManifest, fmt.Sprintf(format, args...), nil}
	}
	if s == nil {
		return bad("it describes no snapshot")
	}
	id := m.opts.ID
	if id == "" {
		id = s.ID
	}
	if err := CheckID(id); err != nil {
		return err
	}
	if s.Table.Size() != 0 || len(s.Table.Refs) != 0 {
		return bad("it names a file table")
	}
	before := ""
	for _, source := range s.Sources {
		if !fs.ValidPath(source.Name) || source.Name == "." || source.Name == archiveFolder || strings.ContainsAny(source.Name, "/\x00") || source.Name <= before {
			return bad("its sources cannot be: %.100q", source.Name)
		}
		before = source.Name
	}
	x := s.Stats
	switch {
	case x.Files < 0 || x.Directories < 0 || x.Bytes < 0:
		return bad("its figures cannot be")
	case x.Files > m.opts.MaxFiles || x.Directories > m.opts.MaxFiles-x.Files:
		return bad("its %d files and %d directories are more than the %d allowed", x.Files, x.Directories, m.opts.MaxFiles)
	case m.opts.MaxBytes > 0 && x.Bytes > m.opts.MaxBytes:
		return bad("its %d bytes are more than the %d allowed", x.Bytes, m.opts.MaxBytes)
	}
	return nil
}
