package snapshot

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/holdstill/holdstill/repo"
)

// ExportOptions say how a snapshot is exported. The zero value works.
type ExportOptions struct {
	// Compression of the stream. Default CompressZstd.
	Compression Compression
	// NoAttachments leaves out what is attached.
	NoAttachments bool
	// Progress, if set, is told how far the call is, at most ten times a second. It must
	// return soon.
	Progress func(Progress)
}

// Export writes a snapshot to w as one stream, for Import or for plain tar: all files, with
// the manifest, the attachments and checksums. What it reads is checked. However large the
// snapshot, it takes some 35 MiB of memory, and half of that without CompressZstd; attachments
// are in memory one at a time. The files in it are not encrypted, whether the repository is
// or not. GNU tar says of each file that it does not know its record HOLDSTILL.file, which is
// of no consequence: --warning=no-unknown-keyword silences it. It needs --delay-directory-restore
// where it does not run as root and a folder is read-only.
//
// An export that ends with an error leaves w with a stream that Import refuses. It fails
// as OpenFS does, with ErrConfig for an unknown compression, or a source with the name of the
// archive's own folder, with a *repo.ChunkError, or with an error of w.
func (e *Engine) Export(ctx context.Context, id string, w io.Writer, opts ExportOptions) (err error) {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	m, err := e.repo.Manifest(ctx, id)
	if err != nil {
		return err
	}
	packed, err := compressor(w, opts.Compression)
	if err != nil {
		return err
	}
	x := &exporter{
		repo: e.repo, manifest: m, tar: tar.NewWriter(packed), ledger: newLedger(),
		buf: make([]byte, 1<<20), track: newTracker(opts.Progress),
	}
	x.track.filesTotal.Store(m.Stats.Files)
	x.track.bytesTotal.Store(m.Stats.Bytes)
	if err := x.write(ctx, !opts.NoAttachments); err != nil {
		// A compressor that is closed would write an end; what it holds is let go.
		return fmt.Errorf("snapshot: export snapshot %s: %w", id, errors.Join(preferCause(ctx, err), packed.drop()))
	}
	if err := errors.Join(x.tar.Close(), packed.Close()); err != nil {
		return fmt.Errorf("snapshot: export snapshot %s: %w", id, err)
	}
	x.track.finish()
	return nil
}

// packer compresses what is written.
type packer struct {
	io.WriteCloser
	drop func() error
}

func compressor(w io.Writer, c Compression) (*packer, error) {
	switch c {
	case "", CompressZstd:
		z, err := zstd.NewWriter(w)
		if err != nil {
			return nil, err
		}
		return &packer{z, func() error { z.Reset(io.Discard); return z.Close() }}, nil
	case CompressGzip:
		return &packer{gzip.NewWriter(w), func() error { return nil }}, nil
	case CompressNone:
		return &packer{plainWriter{w}, func() error { return nil }}, nil
	}
	return nil, fmt.Errorf("%w: there is no compression %q: use %s, %s or %s", ErrConfig, c, CompressZstd, CompressGzip, CompressNone)
}

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }

// exporter is an Export under way.
type exporter struct {
	repo     *repo.Repository
	manifest *Snapshot
	tar      *tar.Writer
	ledger   *ledger
	buf      []byte
	track    *tracker
}

func (x *exporter) write(ctx context.Context, attachments bool) error {
	for _, s := range x.manifest.Sources {
		if s.Name == archiveFolder {
			return fmt.Errorf("%w: its source %q has the name of the archive's own folder", ErrConfig, s.Name)
		}
	}
	x.track.enter(PhaseRead)
	described := *x.manifest
	described.Table = repo.Content{}
	data, err := json.Marshal(archivedManifest{archiveFormat, &described})
	if err == nil {
		err = x.own(archiveManifest, append(data, '\n'))
	}
	if err != nil {
		return err
	}
	for f, err := range x.repo.Files(ctx, x.manifest) {
		if err != nil {
			return err
		}
		if err := x.file(ctx, &f); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if attachments {
		if err := x.attachments(ctx); err != nil {
			return err
		}
	}
	if err := x.sums(0); err != nil {
		return err
	}
	if data, err = json.Marshal(x.ledger.end()); err != nil {
		return err
	}
	return x.own(archiveEnd, append(data, '\n'))
}

// file writes one entry of the file table.
func (x *exporter) file(ctx context.Context, f *repo.File) error {
	h := memberHeader(f)
	if err := x.tar.WriteHeader(h); err != nil {
		return err
	}
	sum := sha256.New()
	if !f.IsDir() {
		r := io.NewSectionReader(newAheadReader(x.repo.NewReader(ctx, f.Content), f.Size), 0, f.Size)
		// A reader that can write itself would do so in pieces of its own choice.
		if _, err := io.CopyBuffer(progressWriter{x.track, io.MultiWriter(x.tar, sum)}, struct{ io.Reader }{r}, x.buf); err != nil {
			return err
		}
		x.track.add(1, 0)
	}
	x.ledger.member(f.Path, f.IsDir(), f.Size, h.PAXRecords[archiveRecord], sum.Sum(nil))
	return x.sums(sumsBlock)
}

// progressWriter counts what passes.
type progressWriter struct {
	track *tracker
	io.Writer
}

func (w progressWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.track.add(0, int64(n))
	return n, err
}

func (x *exporter) attachments(ctx context.Context) error {
	for a, err := range x.repo.Attachments(ctx, x.manifest.ID) {
		if err != nil {
			return err
		}
		data, err := x.repo.ReadAttachment(ctx, x.manifest.ID, a.Name)
		if errors.Is(err, repo.ErrNoAttachment) {
			continue // taken away meanwhile
		}
		if err == nil {
			err = x.own(archiveAttachments+a.Name, data)
		}
		if err != nil {
			return fmt.Errorf("attachment %s: %w", a.Name, err)
		}
	}
	return nil
}

// sums writes a list of the checksums since the last, if they have so many bytes.
func (x *exporter) sums(atLeast int) error {
	if len(x.ledger.lines) == 0 || len(x.ledger.lines) < atLeast {
		return nil
	}
	err := x.own(x.ledger.listName(), x.ledger.lines)
	x.ledger.lines = x.ledger.lines[:0]
	x.ledger.lists++
	return err
}

// own writes a member that is not a file of the snapshot.
func (x *exporter) own(name string, data []byte) error {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o600,
		ModTime: plainTime(x.manifest.Created).Truncate(time.Second), Format: tar.FormatPAX,
	}
	if err := x.tar.WriteHeader(h); err != nil {
		return err
	}
	if _, err := x.tar.Write(data); err != nil {
		return err
	}
	if name != archiveEnd {
		sum := sha256.Sum256(data)
		x.ledger.member(name, false, h.Size, "", sum[:])
	}
	return nil
}
