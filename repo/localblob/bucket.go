package localblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

// Options set how a bucket is opened. The zero value works.
type Options struct {
	// CreateDir creates the bucket's folder, and the missing folders above it, durably. Without it a missing folder is
	// an error that wraps fs.ErrNotExist.
	CreateDir bool
	// FileMode and DirMode are the permissions of new files and folders, before the umask. Zero means 0600 and 0700:
	// what is stored is as private as the data it came from.
	FileMode, DirMode fs.FileMode
	// StrandedAfter is the age from which OpenBucket removes the temporary file of a dead writer. Zero means 10 minutes,
	// a negative value keeps them all. Where the file system has no locks the age is at least 24 hours.
	StrandedAfter time.Duration
}

// OpenBucket opens the folder dir as a bucket whose every acknowledged write is durable. dir must be an absolute path
// in the form of the operating system; it may be a symbolic link, what lies below it must not be. The folder is held
// open: if it is renamed, the bucket goes with it.
//
// Any number of buckets, in any number of processes, may be open on one folder. The caller must Close the bucket;
// readers and writers that are still open stay usable until they are closed themselves. A folder that can only be read
// opens, and its writes fail with gcerrors.PermissionDenied. Errors wrap those of the operating system.
func OpenBucket(dir string, opts *Options) (*blob.Bucket, error) {
	b, err := openBucket(dir, opts, osFileOps())
	if err != nil {
		return nil, err
	}
	return blob.NewBucket(b), nil
}

// bucket implements driver.Bucket. All methods may be called concurrently.
type bucket struct {
	root     *os.Root
	ops      fileOps
	fileMode fs.FileMode
	dirMode  fs.FileMode
	folders  folderSet
	cursors  cursorCache
	buffers  sync.Pool // *[]byte of copyBufferSize

	mu      sync.Mutex
	writers int  // guarded by mu; writers that still need root
	closed  bool // guarded by mu
}

func openBucket(dir string, opts *Options, ops fileOps) (*bucket, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("localblob: open %q: the folder must be an absolute path, so that it does not depend on the working directory", dir)
	}
	if o.FileMode == 0 {
		o.FileMode = 0o600
	}
	if o.DirMode == 0 {
		o.DirMode = 0o700
	}
	if o.StrandedAfter == 0 {
		o.StrandedAfter = defaultStrandedAfter
	}
	if o.CreateDir {
		if err := createRoot(filepath.Clean(dir), o.DirMode.Perm(), ops); err != nil {
			return nil, fmt.Errorf("localblob: create %q: %w", dir, err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("localblob: open %q: %w", dir, err)
	}
	b := &bucket{root: root, ops: ops, fileMode: o.FileMode.Perm(), dirMode: o.DirMode.Perm()}
	if o.StrandedAfter > 0 {
		b.removeStranded(o.StrandedAfter, time.Now())
	}
	return b, nil
}

// Close implements driver.Bucket.
func (b *bucket) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	b.cursors.clear()
	if b.writers > 0 {
		return nil // the last writer closes root
	}
	return b.root.Close()
}

// retain keeps root open for a writer until release.
func (b *bucket) retain() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return fs.ErrClosed
	}
	b.writers++
	return nil
}

func (b *bucket) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writers--
	if b.closed && b.writers == 0 {
		_ = b.root.Close()
	}
}

// ErrorCode implements driver.Bucket.
func (b *bucket) ErrorCode(err error) gcerrors.ErrorCode { return errorCode(err) }

// As implements driver.Bucket; no type is supported.
func (b *bucket) As(any) bool { return false }

// ErrorAs implements driver.Bucket for *fs.PathError, *os.LinkError, syscall.Errno and *KeyError.
func (b *bucket) ErrorAs(err error, target any) bool { return errorAs(err, target) }

// openObject opens the file of an object for reading. Whatever is not a regular file is no object.
func (b *bucket) openObject(name string) (*os.File, os.FileInfo, error) {
	f, err := b.root.OpenFile(name, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notObjectError("open", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// Attributes implements driver.Bucket.
func (b *bucket) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, err := pathOfKey(key)
	if err != nil {
		return nil, err
	}
	f, info, err := b.openObject(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, a, err := readAttributes(f, info.Size())
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{
		CacheControl:       a.CacheControl,
		ContentDisposition: a.ContentDisposition,
		ContentEncoding:    a.ContentEncoding,
		ContentLanguage:    a.ContentLanguage,
		ContentType:        a.contentType(),
		Metadata:           a.Metadata,
		ModTime:            info.ModTime().UTC(),
		Size:               size,
		MD5:                a.MD5,
		ETag:               etag(info),
		AsFunc: func(target any) bool {
			p, ok := target.(*os.FileInfo)
			if ok && p != nil {
				*p = info
			}
			return ok && p != nil
		},
	}, nil
}

// Delete implements driver.Bucket. The object is gone for good when it returns nil.
//
//	unlinkat(KEY); fsync(FOLDER)
func (b *bucket) Delete(ctx context.Context, key string, opts *driver.DeleteOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name, err := pathOfKey(key)
	if err != nil {
		return err
	}
	info, err := b.root.Lstat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return notObjectError("delete", name)
	}
	if opts.BeforeDelete != nil {
		if err := opts.BeforeDelete(func(any) bool { return false }); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.ops.remove(b.root, name); err != nil {
		if errors.Is(err, syscall.EIO) {
			err = fmt.Errorf("%w: %w", ErrUncertain, err) // it may have been done nevertheless
		}
		return err
	}
	if err := b.ops.syncDir(b.root, parentOf(name)); err != nil {
		return fmt.Errorf("%w: sync of the folder after deleting: %w", ErrUncertain, err)
	}
	return nil
}

// Copy implements driver.Bucket. The copy is a file of its own, as durable as any write.
func (b *bucket) Copy(ctx context.Context, dstKey, srcKey string, opts *driver.CopyOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	srcName, err := pathOfKey(srcKey)
	if err != nil {
		return err
	}
	src, info, err := b.openObject(srcName)
	if err != nil {
		return err
	}
	defer src.Close()
	if opts.BeforeCopy != nil {
		if err := opts.BeforeCopy(func(any) bool { return false }); err != nil {
			return err
		}
	}
	w, err := b.newWriter(ctx, dstKey)
	if err != nil {
		return err
	}
	w.raw = true // the attributes are part of what is copied
	// Upload's errors come from Close.
	_ = w.Upload(io.NewSectionReader(src, 0, info.Size()))
	if w.err == nil && w.size != info.Size() {
		w.fail(io.ErrUnexpectedEOF)
	}
	return w.Close()
}

// SignedURL implements driver.Bucket; a folder has no URLs.
func (b *bucket) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", errNoSignedURL
}

var errNoSignedURL = fmt.Errorf("localblob: signed URLs: %w", errors.ErrUnsupported)
