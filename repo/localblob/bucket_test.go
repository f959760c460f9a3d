package localblob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

func TestOpenBucket(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		dir  string
		opts *Options
		want error // nil: any error
	}{
		"relative":            {dir: "some/folder"},
		"empty":               {dir: ""},
		"missing":             {dir: filepath.Join(dir, "missing"), want: fs.ErrNotExist},
		"a file":              {dir: file},
		"a file, create":      {dir: file, opts: &Options{CreateDir: true}, want: syscall.ENOTDIR},
		"below a file":        {dir: filepath.Join(file, "x"), want: syscall.ENOTDIR},
		"create below a file": {dir: filepath.Join(file, "x"), opts: &Options{CreateDir: true}, want: syscall.ENOTDIR},
	} {
		b, err := OpenBucket(tc.dir, tc.opts)
		if err == nil || (tc.want != nil && !errors.Is(err, tc.want)) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
		if b != nil {
			t.Errorf("%s: got a bucket", name)
		}
	}
	if found, err := os.ReadDir(dir); err != nil || len(found) != 1 {
		t.Errorf("a failed open changed the folder: %v, %v", found, err)
	}
}

// TestCreateDirIsDurable pins the syncs that make a new bucket's own folder durable.
func TestCreateDirIsDurable(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "a", "b")
	rec := newRecorder()
	openWith(t, dir, &Options{CreateDir: true}, rec.ops())
	want := []string{
		"syncdir .", // of the folder above parent
		"mkdir a", "syncdir .",
		"mkdir b", "syncdir .",
	}
	if diff := cmp.Diff(want, rec.trace()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	rec.reset()
	openWith(t, dir, &Options{CreateDir: true}, rec.ops())
	if diff := cmp.Diff([]string{"syncdir ."}, rec.trace()); diff != "" {
		t.Errorf("second time: steps (-want +got):\n%s", diff)
	}
}

// TestCancelledWriter: whenever the context ends, no object and no temporary file remain, and the old object stays.
func TestCancelledWriter(t *testing.T) {
	bkt, _, dir := openRecorded(t)
	putAll(t, bkt, []string{"old"})
	for _, key := range []string{"new", "old"} {
		for when, cancelAt := range map[string]int{"before writing": 0, "between writes": 1, "before close": 2} {
			ctx, cancel := context.WithCancel(t.Context())
			w, err := bkt.NewWriter(ctx, key, plainFile())
			if err != nil {
				t.Fatal(err)
			}
			for i := range 2 {
				if cancelAt == i {
					cancel()
				}
				_, err := w.Write([]byte("half of a page"))
				if (i >= cancelAt) != errors.Is(err, context.Canceled) {
					t.Errorf("%s, write %d: got %v", when, i, err)
				}
			}
			cancel()
			if err := w.Close(); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: Close got %v", when, err)
			}
		}
	}
	if got := contentOf(t, bkt, "new"); got != "" {
		t.Errorf("new holds %q", got)
	}
	if got := contentOf(t, bkt, "old"); got != "object old" {
		t.Errorf("old holds %q", got)
	}
	if left := temporaries(t, dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestCancelledCalls: no method does anything once the context has ended.
func TestCancelledCalls(t *testing.T) {
	bkt, rec, _ := openRecorded(t)
	putAll(t, bkt, []string{"key"})
	r, err := bkt.NewReader(t.Context(), "key", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rec.reset()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"Attributes": func() error { _, err := bkt.Attributes(ctx, "key"); return err },
		"ReadAll":    func() error { _, err := bkt.ReadAll(ctx, "key"); return err },
		"WriteAll":   func() error { return bkt.WriteAll(ctx, "other", []byte("x"), nil) },
		"Copy":       func() error { return bkt.Copy(ctx, "other", "key", nil) },
		"Delete":     func() error { return bkt.Delete(ctx, "key") },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if trace := rec.trace(); len(trace) > 0 {
		t.Errorf("steps taken: %v", trace)
	}
}

// TestFailingSource: Upload from a source that breaks must not publish what came before.
func TestFailingSource(t *testing.T) {
	bkt, _, dir := openRecorded(t)
	broken := errors.New("source broke")
	source := io.MultiReader(strings.NewReader("first half"), iotest.ErrReader(broken))
	err := bkt.Upload(t.Context(), "key", source, plainFile())
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got := contentOf(t, bkt, "key"); got != "" {
		t.Errorf("holds %q", got)
	}
	if left := temporaries(t, dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestPlainFileIsItsContent: what other programs read is the content and nothing else, and no second file.
func TestPlainFileIsItsContent(t *testing.T) {
	bkt, _, dir := openRecorded(t)
	content := bytes.Repeat([]byte{0xd4, 0x1d, 8, 0xcd}, 3000)
	if err := bkt.WriteAll(t.Context(), "pack/x", content, &blob.WriterOptions{DisableContentTypeDetection: true, BufferSize: 1000}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "pack", "x"))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("file of %d bytes, %v; want the %d of the content", len(got), err, len(content))
	}
	if found, err := os.ReadDir(filepath.Join(dir, "pack")); err != nil || len(found) != 1 {
		t.Errorf("folder holds %v, %v", found, err)
	}
}

func TestRanges(t *testing.T) {
	bkt, _, _ := openRecorded(t)
	const text = "0123456789"
	for _, opts := range []*blob.WriterOptions{plainFile(), {ContentType: "text/csv"}} {
		if err := bkt.WriteAll(t.Context(), "key", []byte(text), opts); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			offset, length int64
			want           string
		}{
			{0, -1, text}, {0, 0, ""}, {0, 3, "012"}, {4, 3, "456"}, {8, 100, "89"}, {10, 1, ""}, {11, 5, ""}, {1 << 62, 1 << 62, ""}, {9, 1<<63 - 1, "9"}, {3, -1, "3456789"},
		} {
			r, err := bkt.NewRangeReader(t.Context(), "key", tc.offset, tc.length, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(iotest.OneByteReader(r))
			if err != nil || string(got) != tc.want {
				t.Errorf("offset %d, length %d: %q, %v; want %q", tc.offset, tc.length, got, err, tc.want)
			}
			if r.Size() != int64(len(text)) {
				t.Errorf("size %d", r.Size())
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestReaderKeepsItsObject: an object that is overwritten or deleted can be read to its end.
func TestReaderKeepsItsObject(t *testing.T) {
	bkt, _, _ := openRecorded(t)
	putAll(t, bkt, []string{"key"})
	r, err := bkt.NewReader(t.Context(), "key", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := bkt.WriteAll(t.Context(), "key", []byte("another"), plainFile()); err != nil {
		t.Fatal(err)
	}
	if err := bkt.Delete(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "object key" {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestCutFile: a file that somebody cut while it was open must not read as a shorter object.
func TestCutFile(t *testing.T) {
	bkt, _, dir := openRecorded(t)
	putAll(t, bkt, []string{"key"})
	for name, read := range map[string]func(*blob.Reader) error{
		"Read":    func(r *blob.Reader) error { _, err := io.ReadAll(r); return err },
		"WriteTo": func(r *blob.Reader) error { _, err := r.WriteTo(io.Discard); return err },
	} {
		r, err := bkt.NewReader(t.Context(), "key", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, "key"), 3); err != nil {
			t.Fatal(err)
		}
		if err := read(r); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: got %v", name, err)
		}
		_ = r.Close()
		putAll(t, bkt, []string{"key"})
	}
}

// TestCloseWithOpenWriter: a writer outlives its bucket.
func TestCloseWithOpenWriter(t *testing.T) {
	dir := t.TempDir()
	bkt, err := OpenBucket(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := bkt.NewWriter(t.Context(), "a/key", plainFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := bkt.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, openWith(t, dir, nil, osFileOps()), "a/key"); got != "late" {
		t.Errorf("holds %q", got)
	}
}

// TestErrorsPassThrough: what the system said can be asked for behind blob.Bucket's wrapping.
func TestErrorsPassThrough(t *testing.T) {
	for _, tc := range []struct {
		errno syscall.Errno
		code  gcerrors.ErrorCode
	}{
		{syscall.ENOSPC, gcerrors.ResourceExhausted},
		{syscall.EACCES, gcerrors.PermissionDenied},
		{syscall.EPERM, gcerrors.PermissionDenied},
		{syscall.EROFS, gcerrors.PermissionDenied},
		{syscall.ENAMETOOLONG, gcerrors.InvalidArgument},
		{syscall.EIO, gcerrors.Unknown},
	} {
		bkt, rec, _ := openRecorded(t)
		rec.fault = func(_ int, s step) (error, bool) {
			if s.op == "rename" {
				return &os.LinkError{Op: "renameat", Old: s.name, New: s.next, Err: tc.errno}, false
			}
			return nil, false
		}
		err := bkt.WriteAll(t.Context(), "key", []byte("x"), plainFile())
		var link *os.LinkError
		var errno syscall.Errno
		if !errors.Is(err, tc.errno) || !errors.As(err, &link) || !bkt.ErrorAs(err, &errno) || errno != tc.errno {
			t.Errorf("%v: lost in %v", tc.errno, err)
		}
		if code := gcerrors.Code(err); code != tc.code {
			t.Errorf("%v: code %v, want %v", tc.errno, code, tc.code)
		}
	}
	bkt, _, _ := openRecorded(t)
	if _, err := bkt.ReadAll(t.Context(), "missing/key"); !errors.Is(err, fs.ErrNotExist) || gcerrors.Code(err) != gcerrors.NotFound {
		t.Errorf("missing: %v", err)
	}
}
