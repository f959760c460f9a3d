package pebblesource

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A capture is what an FS knows about one checkpoint under way. It goes
// through these steps:
//
//	watch      the destination and the token are known
//	marked     the token was written to a log    } in any
//	captured   the destination is being made     } order
//	cut        the lengths of the logs are noted
//	release    the checkpoint goes on
//	forget     the checkpoint has ended
//
// Between captured and release the checkpoint is held inside MkdirAll, so that
// it cannot copy a log before the lengths are noted.
type capture struct {
	fs    *FS
	dest  string
	token []byte

	marked   chan struct{} // closed once a write with the token has ended
	captured chan struct{} // closed when MkdirAll(dest) begins
	released chan struct{} // closed by release and by abort
	aborted  atomic.Bool

	// Guarded by fs.mu. Written at most once each, before the channel of the same
	// step is closed.
	isMarked, isCaptured, isReleased bool
	markedLog                        string            // path of the log with the mark
	logs                             map[string]cutLog // by path; nil: logs are not cut
}

// tokenSize is enough for a token never to occur by chance.
const tokenSize = 16

// markPayload is what goes into the log. The token stands there twice: a log
// record that does not fit its 32 KiB block is torn once, and then one of the
// two is whole.
func (c *capture) markPayload() []byte { return bytes.Repeat(c.token, 2) }

// watch begins a capture of the checkpoint that will be made in dest.
func (fs *FS) watch(dest string) *capture {
	c := &capture{
		fs:       fs,
		dest:     fs.PathJoin(dest),
		token:    make([]byte, tokenSize),
		marked:   make(chan struct{}),
		captured: make(chan struct{}),
		released: make(chan struct{}),
	}
	rand.Read(c.token) // never fails
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.captures[c.dest] = c
	fs.unmarked.Add(1)
	return c
}

// forget ends the capture. The destination is an ordinary folder from then on.
func (c *capture) forget() {
	c.fs.mu.Lock()
	defer c.fs.mu.Unlock()
	if c.fs.captures[c.dest] != c {
		return
	}
	delete(c.fs.captures, c.dest)
	if !c.isMarked {
		c.fs.unmarked.Add(-1)
	}
}

// cut notes the lengths of all logs. It is called while no transaction runs,
// after both marked and captured. It returns the log that holds the mark and
// its length in bytes.
func (c *capture) cut() (log string, length int64) {
	c.fs.mu.Lock()
	defer c.fs.mu.Unlock()
	c.logs = make(map[string]cutLog, len(c.fs.logs))
	for path, life := range c.fs.logs {
		c.logs[path] = cutLog{life.Load(), life.id}
	}
	return c.markedLog, c.logs[c.markedLog].length
}

// release lets the checkpoint go on.
func (c *capture) release() {
	c.fs.mu.Lock()
	defer c.fs.mu.Unlock()
	if !c.isReleased {
		c.isReleased = true
		close(c.released)
	}
}

// abort makes every further step of the checkpoint fail.
func (c *capture) abort() {
	c.aborted.Store(true)
	c.release()
}

// hold is MkdirAll's part: it tells that the checkpoint got this far, and waits.
func (c *capture) hold() error {
	c.fs.mu.Lock()
	if !c.isCaptured {
		c.isCaptured = true
		close(c.captured)
	}
	c.fs.mu.Unlock()
	<-c.released
	return c.check()
}

func (c *capture) check() error {
	if c.aborted.Load() {
		return errAborted
	}
	return nil
}

// wrap returns f as it shall behave as a file of the checkpoint: without syncs,
// and with the length of a log bounded.
func (c *capture) wrap(f vfs.File, name string) (vfs.File, error) {
	s := &scratchFile{unsynced: unsynced{f}, c: c, left: -1}
	if !isLog(name) {
		return s, nil
	}
	c.fs.mu.Lock()
	defer c.fs.mu.Unlock()
	if c.logs == nil {
		return s, nil
	}
	path, log, ok := c.logLocked(name)
	if !ok {
		return nil, errors.Join(
			fmt.Errorf("pebblesource: the checkpoint copies %s, a log that was unknown at the freeze", path),
			f.Close())
	}
	s.left = log.length
	return s, nil
}

// cutLog is a log as it was at the freeze.
type cutLog struct {
	length int64
	id     string
}

// logLocked returns the log that a file of the checkpoint is a copy of, and where it
// lies. fs.mu must be held.
func (c *capture) logLocked(name string) (path string, log cutLog, ok bool) {
	// All logs lie in the folder of the one that took the mark; the checkpoint
	// keeps their names.
	path = c.fs.PathJoin(c.fs.PathDir(c.markedLog), c.fs.PathBase(name))
	log, ok = c.logs[path]
	return path, log, ok
}

// logIdentity names the log that a file of the checkpoint is a copy of: a log is
// written front to back, so its copies, each cut where it ended, begin alike. It is ""
// where copies are not cut: they may end with bytes that the log does not keep.
func (c *capture) logIdentity(name string) string {
	c.fs.mu.Lock()
	defer c.fs.mu.Unlock()
	_, log, ok := c.logLocked(name)
	if !ok {
		return ""
	}
	return "log " + log.id
}

// isLog tells write-ahead logs from other files by Pebble's naming.
func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// A logFile is a write-ahead log that Pebble writes. Pebble writes a log from
// its start, front to back, in whole fragments; a recycled file keeps its old
// bytes behind those.
type logFile struct {
	vfs.File
	fs      *FS
	path    string
	written *logLife // also in fs.logs
}

// Write counts what was written, and looks for the marks that are waited for.
func (l *logFile) Write(p []byte) (int, error) {
	var found []*capture
	if l.fs.unmarked.Load() > 0 {
		// Before the write, which may change p.
		found = l.fs.marksIn(p)
	}
	n, err := l.File.Write(p)
	l.written.Add(int64(n))
	if err == nil && len(found) > 0 {
		l.fs.setMarked(found, l.path)
	}
	return n, err
}

func (fs *FS) marksIn(p []byte) []*capture {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var found []*capture
	for _, c := range fs.captures {
		if !c.isMarked && bytes.Contains(p, c.token) {
			found = append(found, c)
		}
	}
	return found
}

func (fs *FS) setMarked(found []*capture, path string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, c := range found {
		if c.isMarked || fs.captures[c.dest] != c {
			continue
		}
		c.isMarked = true
		c.markedLog = path
		fs.unmarked.Add(-1)
		close(c.marked)
	}
}

// unsynced is a file or folder that is thrown away after a crash.
type unsynced struct{ vfs.File }

func (unsynced) Sync() error                { return nil }
func (unsynced) SyncData() error            { return nil }
func (unsynced) SyncTo(int64) (bool, error) { return false, nil }

// A scratchFile is a file of a checkpoint.
type scratchFile struct {
	unsynced
	c    *capture
	left int64 // bytes that may still be written; negative: no bound
}

// Write drops what lies beyond the bound, and says that it was written.
func (s *scratchFile) Write(p []byte) (int, error) {
	if err := s.c.check(); err != nil {
		return 0, err
	}
	if s.left < 0 {
		return s.File.Write(p)
	}
	keep := min(int64(len(p)), s.left)
	if keep > 0 {
		n, err := s.File.Write(p[:keep])
		s.left -= int64(n)
		if err != nil {
			return n, err
		}
	}
	return len(p), nil
}
