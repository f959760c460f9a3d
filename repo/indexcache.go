package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zeebo/blake3"
)

// indexCache is a folder with segments of one repository's indexes. Any number of
// processes and repositories may share the folder.
//
// A segment's name says only to which repository it belongs; what is in it says
// which indexes it holds. So there is no list of files that could disagree with
// them: whoever opens the repository uses those whose every index is in the bucket and
// not superseded. Writing and deleting is done under a lock, a file that is locked by the
// operating system and so set free when its process dies; reading is not.
//
// The file's permissions are 0600: chunk IDs and places are all that is in it, of an
// encrypted repository IDs that are keyed hashes, but they are nobody else's business. Who
// can write to the folder is trusted: chunks that a forged segment names would be taken
// for stored.
type indexCache struct {
	dir        string
	repository [32]byte
	log        *slog.Logger
	// create makes a temporary file; another one in tests.
	create func(dir, pattern string) (cacheFile, error)
	// foldRecords and stableSize are the constant, and mergeLimitCached; less in tests.
	foldRecords int
	stableSize  int64

	// The rest is guarded by the repository's indexToken.

	// unusable are files that were found damaged and could not be deleted.
	unusable map[string]bool
	// rest is until when nothing is written, since it has failed.
	rest time.Time
	// failing is set while it was said in the log that nothing can be written.
	failing bool
}

const (
	segmentSuffix = ".index"
	// cacheRest is how long nothing is written after that has failed.
	cacheRest = time.Minute
	// cacheLockWait is how long another process is waited for that writes to the
	// cache, before its work is done once more in memory.
	cacheLockWait = time.Minute
	// cacheLockPoll is how often it is looked at.
	cacheLockPoll = 20 * time.Millisecond
)

// errCacheBusy means that another process holds the lock of the cache.
var errCacheBusy = errors.New("another process is writing to the index cache")

func newIndexCache(dir, repositoryID string, log *slog.Logger) *indexCache {
	return &indexCache{
		dir:         dir,
		repository:  blake3.Sum256([]byte(repositoryID)),
		log:         log,
		foldRecords: foldRecords,
		stableSize:  mergeLimitCached,
		create:      func(dir, pattern string) (cacheFile, error) { return os.CreateTemp(dir, pattern) },
		unusable:    make(map[string]bool),
	}
}

// foldBytes is the size of an index from which on it is not read into memory.
func (c *indexCache) foldBytes() int64 { return int64(c.foldRecords) * indexRecordSize }

// prefix begins the names of all files of this repository.
func (c *indexCache) prefix() string { return hex.EncodeToString(c.repository[:8]) + "-" }

func (c *indexCache) tempPattern() string { return "tmp-" + c.prefix() + "*" }

// files returns the paths of the segments in the folder. A folder that is not
// there has none.
func (c *indexCache) files() ([]string, error) {
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, c.prefix()) && strings.HasSuffix(name, segmentSuffix) {
			out = append(out, filepath.Join(c.dir, name))
		}
	}
	return out, err
}

// scan opens the segments that are not among the open ones.
func (c *indexCache) scan(open []*segment) []*segment {
	paths, err := c.files()
	if err != nil {
		c.failed("read", err)
	}
	var out []*segment
	for _, path := range paths {
		if c.unusable[path] || slices.ContainsFunc(open, func(g *segment) bool { return g.name == path }) {
			continue
		}
		g, err := openSegment(path, c.repository)
		switch {
		case err == nil:
			out = append(out, g)
		case errors.Is(err, fs.ErrNotExist):
			// Replaced since the folder was listed.
		default:
			c.drop(path, err)
		}
	}
	return out
}

// drop gets rid of a segment that cannot be used.
func (c *indexCache) drop(path string, why error) {
	c.unusable[path] = true
	c.log.Warn("a file of the index cache cannot be used and is made anew", "file", path, "error", why)
	_ = os.Remove(path)
}

// failed notes that the cache cannot be used as it should, and says so once.
func (c *indexCache) failed(what string, err error) {
	c.rest = time.Now().Add(cacheRest)
	if !c.failing {
		c.failing = true
		c.log.Warn("the index cache cannot be used, indexes stay in memory", "folder", c.dir, "step", what, "error", err)
	}
}

// writable reports whether it makes sense to write.
func (c *indexCache) writable() bool { return c != nil && !time.Now().Before(c.rest) }

// lock takes the right to write and delete files of this repository. If another
// process has it, lock waits, or without wait fails with errCacheBusy.
func (c *indexCache) lock(ctx context.Context, wait bool) (unlock func(), err error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(c.dir, c.prefix()+"lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	give := time.NewTimer(cacheLockWait)
	defer give.Stop()
	for {
		err := lockFile(f)
		if err == nil {
			// The lock ends with the open file. The file itself stays: were it
			// deleted, two processes could lock two files of one name.
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, errCacheBusy) || !wait {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-time.After(cacheLockPoll):
		case <-give.C:
			return nil, errors.Join(err, f.Close())
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		}
	}
}

// write makes a segment of all that the sources hold. The caller holds the lock.
func (c *indexCache) write(ctx context.Context, sources []recordSource, covers []indexInfo) (*segment, error) {
	f, err := c.create(c.dir, c.tempPattern())
	if err != nil {
		return nil, err
	}
	temp := f.Name()
	err = writeSegment(ctx, f, c.repository, sources, covers)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		// The name that the system chose for the temporary file is free.
		random := strings.TrimPrefix(filepath.Base(temp), "tmp-"+c.prefix())
		path := filepath.Join(c.dir, c.prefix()+random+segmentSuffix)
		if err = os.Rename(temp, path); err == nil {
			// Should the name be lost in a crash the segment is made anew.
			_ = syncFolder(c.dir)
			return openSegment(path, c.repository)
		}
	}
	_ = os.Remove(temp)
	return nil, fmt.Errorf("write a file of the index cache: %w", err)
}

// sweep deletes files of this repository that nobody needs: temporary ones, and
// segments written before the given time, but for those to keep. The caller
// holds the lock.
func (c *indexCache) sweep(keep []*segment, before time.Time) {
	entries, _ := os.ReadDir(c.dir)
	for _, e := range entries {
		path := filepath.Join(c.dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), strings.TrimSuffix(c.tempPattern(), "*")):
		case !strings.HasPrefix(e.Name(), c.prefix()) || !strings.HasSuffix(e.Name(), segmentSuffix):
			continue
		case slices.ContainsFunc(keep, func(g *segment) bool { return g.name == path }):
			continue
		default:
			// One written since holds indexes that came after what keep rests on.
			if info, err := e.Info(); err != nil || !info.ModTime().Before(before) {
				continue
			}
		}
		_ = os.Remove(path)
	}
}

// fetchPiece is how much of an index is in memory while it is fetched, in bytes.
const fetchPiece = 4 << 20

// fetch reads an index of a size to a file that has no name any more, instead of to
// memory. The caller holds the lock.
func (c *indexCache) fetch(ctx context.Context, s store, id indexID, size int64) (x mappedIndex, err error) {
	key := indexKey(id)
	if size > maxIndexSize+s.keys.objectRoom(key) {
		return x, corrupt(key, "its %d bytes are more than the %d allowed", size, int64(maxIndexSize))
	}
	f, err := os.CreateTemp(c.dir, c.tempPattern())
	if err != nil {
		return x, &cacheError{err}
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	if err := fetchTo(ctx, s, key, size, f); err != nil {
		return x, err
	}
	m, err := openMapping(f)
	if err != nil {
		return x, &cacheError{err}
	}
	x, err = parseMappedIndex(key, id, m)
	if ce := (*CorruptError)(nil); errors.As(err, &ce) && ce.Object == m.name {
		err = &cacheError{err} // it is not the object that is damaged
	}
	return x, err
}

// fetchTo copies an object of a size to a file. One that is sealed is in memory as a
// whole meanwhile: nothing of it may be believed before all of it was seen.
func fetchTo(ctx context.Context, s store, key string, size int64, f *os.File) error {
	if s.keys.sealsObject(key) {
		data, err := s.readAll(ctx, key, maxIndexSize)
		if err != nil {
			return err
		}
		if _, err := f.Write(data); err != nil {
			return &cacheError{err}
		}
		return nil
	}
	piece := make([]byte, min(fetchPiece, size))
	for at := int64(0); at < size; at += int64(len(piece)) {
		piece = piece[:min(fetchPiece, size-at)]
		if err := s.readRange(ctx, key, piece, at); err != nil {
			return err
		}
		if _, err := f.Write(piece); err != nil {
			return &cacheError{err}
		}
	}
	return nil
}

// cacheError is a failure of the cache's folder, and not of the bucket.
type cacheError struct{ err error }

func (e *cacheError) Error() string { return "repo: index cache: " + e.err.Error() }
func (e *cacheError) Unwrap() error { return e.err }
