package boltsource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/adapter/internal/onefile"
)

// view is one pinned transaction. It is the fs.FS of a snapshot.View.
type view struct {
	source   *Source
	name     string
	pinned   time.Time
	txID     uint64
	size     int64 // bytes, as of the transaction
	pageSize int

	// mu lets reads run together (RLock) and keeps the transaction open until
	// those under way have ended (Lock). It guards all below but done, stop and
	// watcher.
	mu      sync.RWMutex
	tx      *bbolt.Tx // nil once rolled back
	lost    error     // why tx is nil: ErrGaveWay or fs.ErrClosed
	image   *image    // nil until settled
	file    *os.File  // nil until settled, and after the end
	mode    fs.FileMode
	settled bool

	done    chan struct{} // closed by close
	stop    sync.Once     // closes done
	watcher sync.WaitGroup
}

func (v *view) hint(name string) snapshot.Hint {
	if name != v.name {
		return snapshot.Hint{}
	}
	h := snapshot.Hint{Class: snapshot.Paged, PageSize: v.pageSize}
	v.mu.RLock()
	defer v.mu.RUnlock()
	// Only an image without the leftovers in free pages is a function of the
	// transaction alone.
	if v.image != nil && v.image.repeatable {
		h.Identity = "tx-" + strconv.FormatUint(v.txID, 10)
	}
	return h
}

// settle opens the file and learns what to put over it. It does its work once.
func (v *view) settle(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.lost != nil {
		return v.lost
	}
	if v.settled {
		return nil
	}
	m, err := captureMeta(v.tx, v.pageSize)
	if err != nil {
		return fmt.Errorf("boltsource: settle: %w", err)
	}
	file, err := v.source.openFile()
	if err != nil {
		return fmt.Errorf("boltsource: settle: %w", err)
	}
	img, mode, err := v.overlay(file, m)
	if err != nil {
		return errors.Join(fmt.Errorf("boltsource: settle %s: %w", file.Name(), err), file.Close())
	}
	v.file, v.image, v.mode, v.settled = file, img, mode, true
	return nil
}

func (v *view) overlay(file *os.File, m *metaPages) (*image, fs.FileMode, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if err := m.checkFile(file); err != nil {
		return nil, 0, err
	}
	img := &image{file: file, metas: m.pages, size: v.size, pageSize: int64(v.pageSize)}
	if !v.source.opts.KeepFreePages && m.freelist != noFreelist {
		if img.free, err = readFreelist(file, m.freelist, m.highWater, v.pageSize); err != nil {
			return nil, 0, err
		}
		img.repeatable = true
	}
	return img, info.Mode().Perm(), nil
}

// readAt reads the image while the transaction is surely open.
func (v *view) readAt(p []byte, off int64) (int, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.lost != nil {
		return 0, &fs.PathError{Op: "read", Path: v.name, Err: v.lost}
	}
	n, err := v.image.ReadAt(p, off)
	return n, err
}

func (v *view) close() error {
	v.stop.Do(func() { close(v.done) })
	err := v.release(fs.ErrClosed)
	v.watcher.Wait()
	return err
}

// release ends the transaction, once, and makes why the answer to later reads.
func (v *view) release(why error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tx == nil {
		return nil
	}
	err := v.tx.Rollback()
	v.tx, v.lost = nil, why
	if v.file != nil {
		err = errors.Join(err, v.file.Close())
		v.file = nil
	}
	if err != nil {
		return fmt.Errorf("boltsource: close: %w", err)
	}
	return nil
}

// watch gives the transaction up once it keeps the server from enlarging its
// mapping. A stall ends within about maxStall of its beginning.
func (v *view) watch(maxStall time.Duration) {
	half := max(maxStall/2, time.Millisecond)
	for sleep(v.done, half) {
		if !v.stalled(half) {
			continue
		}
		if err := v.release(ErrGaveWay); err != nil && v.source.opts.Logger != nil {
			v.source.opts.Logger.Error("bbolt snapshot: could not give way", "error", err)
		}
		if v.source.opts.Logger != nil {
			v.source.opts.Logger.Warn("bbolt snapshot gave way to a writer that has to enlarge the mapping; "+
				"open the database with a larger InitialMmapSize",
				"path", v.source.path, "transaction", v.txID, "size", v.size, "max_stall", maxStall)
		}
		return
	}
}

// stalled reports whether bbolt holds back new transactions for all of patience,
// which is what a writer that waits for the mapping does to them.
func (v *view) stalled(patience time.Duration) bool {
	// Nobody waits for the probe to end: it may be held back by a transaction of
	// Close's own caller.
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		if tx, err := v.source.db.Begin(false); err == nil {
			_ = tx.Rollback()
		}
	}()
	// Several short sleeps, not a long one: on a machine short of processors the
	// probe gets its turn between them, and late is not taken for stalled.
	const looks = 8
	for range looks {
		if !sleep(v.done, patience/looks) {
			return false
		}
		select {
		case <-begun:
			return false
		default:
		}
	}
	return true
}

// sleep reports whether it lasted, and was not ended by done.
func sleep(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return false
	case <-timer.C:
		return true
	}
}

// open gives the file to the view's fs.FS. It settles the view if that has not been
// done.
func (v *view) open() (onefile.Content, error) {
	if err := v.settle(context.Background()); err != nil {
		return onefile.Content{}, err
	}
	return onefile.Content{At: v.readAt, Size: v.size, Mode: v.mode, ModTime: v.pinned}, nil
}

// Open implements fs.FS.
func (v *view) Open(name string) (fs.File, error) { return onefile.Open(name, v.name, v.open) }
