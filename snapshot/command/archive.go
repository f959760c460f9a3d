package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/holdstill/holdstill/snapshot"
)

// stream is what stands for the standard output or input in the place of a file.
const stream = "-"

func exportNeeds(c *call) error {
	if c.to == "" {
		return usageError("no file is named: give -to FILE, or -to - for the standard output")
	}
	return nil
}

func exportSnapshot(ctx context.Context, c *call) (err error) {
	id, opts := c.flags.Arg(0), snapshot.ExportOptions{Compression: snapshot.Compression(c.compression)}
	if c.to == stream {
		return c.engine.Export(ctx, id, c.out, opts)
	}
	// Nothing is replaced, and nothing is left that looks like an archive and is none.
	f, err := os.OpenFile(c.to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = c.engine.Export(ctx, id, f, opts)
	if err == nil {
		err = f.Sync()
	}
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr, f.Close()); err != nil {
		return errors.Join(err, os.Remove(c.to))
	}
	// The archive is whole and stays, but what is not durable is not reported as done.
	if err := syncFolder(filepath.Dir(c.to)); err != nil {
		return fmt.Errorf("%s is written, and may be gone after a loss of power: %w", c.to, err)
	}
	fmt.Fprintf(c.out, "Exported %s to %s, %s.\n", id, c.to, size(info.Size()))
	return nil
}

// syncFolder makes the entry of a new file durable, where the system can.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // it has no call for that
	}
	d, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil // one may write in it and not read it
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil // nor have some file systems
}

func importNeeds(c *call) error {
	if c.from == "" {
		return usageError("no file is named: give -from FILE, or -from - for the standard input")
	}
	return nil
}

func importSnapshot(ctx context.Context, c *call) error {
	var from io.Reader = &heedful{ctx: ctx, r: os.Stdin}
	if c.from != stream {
		f, err := os.Open(c.from)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	s, err := c.engine.Import(ctx, from, snapshot.ImportOptions{ID: c.id})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Imported %s: %d files, %s, of which %s are new.\n", s.ID, s.Stats.Files, size(s.Stats.Bytes), size(s.Stats.BytesNew))
	return nil
}

// heedful reads from what may wait for ever, as a terminal does, until a context ends. What is
// read after that is lost.
type heedful struct {
	ctx  context.Context
	r    io.Reader
	buf  []byte
	rest []byte
	err  error
}

func (h *heedful) Read(p []byte) (int, error) {
	if err := context.Cause(h.ctx); err != nil {
		return 0, err
	}
	if len(h.rest) == 0 && h.err == nil {
		if h.buf == nil {
			h.buf = make([]byte, 64<<10)
		}
		n, done := 0, make(chan struct{})
		go func() {
			defer close(done)
			n, h.err = h.r.Read(h.buf)
		}()
		select {
		case <-done:
			h.rest = h.buf[:n]
		case <-h.ctx.Done():
			return 0, context.Cause(h.ctx)
		}
	}
	n := copy(p, h.rest)
	if h.rest = h.rest[n:]; len(h.rest) > 0 {
		return n, nil
	}
	return n, h.err
}

func attach(ctx context.Context, c *call) error {
	id, file := c.flags.Arg(0), c.flags.Arg(1)
	name := c.name
	if name == "" {
		name = filepath.Base(file)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := c.engine.Attach(ctx, id, name, f); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Attached %s to %s.\n", name, id)
	return nil
}

func attachments(ctx context.Context, c *call) error {
	id := c.flags.Arg(0)
	if c.name == "" {
		for a, err := range c.engine.Attachments(ctx, id) {
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s\t%s\n", a.Name, size(a.Size))
		}
		return nil
	}
	r, err := c.engine.OpenAttachment(ctx, id, c.name)
	if err != nil {
		return err
	}
	_, err = io.Copy(c.out, r)
	return errors.Join(err, r.Close())
}

func exportFlags(c *call) {
	c.flags.StringVar(&c.to, "to", "", "the `file` to write, which must not exist, or - for the standard output")
	c.flags.StringVar(&c.compression, "compression", "", "how to compress: `zstd`, gzip or none")
}

func importFlags(c *call) {
	c.flags.StringVar(&c.from, "from", "", "the `file` to read, or - for the standard input")
	c.flags.StringVar(&c.id, "id", "", "the `ID` of the new snapshot; otherwise the one that was exported")
}

func attachFlags(c *call) {
	c.flags.StringVar(&c.name, "name", "", "the `name` of the attachment; otherwise that of the file")
}

func attachmentsFlags(c *call) {
	c.flags.StringVar(&c.name, "name", "", "print the attachment of this `name`, instead of the list")
}
