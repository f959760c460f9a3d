package localblob

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"
)

// folderSet remembers folders whose own entries are known to be durable, so that only the first write into a folder
// pays for the sync of the folder above it. Folders are never removed by this package, which is what makes remembering
// them right.
type folderSet struct {
	mu    sync.Mutex
	known map[string]struct{} // guarded by mu
}

// maxKnownFolders bounds the set; past it everything is forgotten and learnt again at the cost of a few syncs.
const maxKnownFolders = 1 << 14

func (s *folderSet) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.known[name]
	return ok
}

func (s *folderSet) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= maxKnownFolders {
		s.known = make(map[string]struct{})
	}
	s.known[name] = struct{}{}
}

func (s *folderSet) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = nil
}

// parentOf returns the folder of a slash path, "." for the bucket's own.
func parentOf(name string) string { return path.Dir(name) }

// ensureFolder makes the folder name and all above it exist, with durable entries. A folder that stands already is
// synced as well the first time: another process may have made it and not yet have come to its own sync.
func (b *bucket) ensureFolder(name string) error {
	if name == "." || b.folders.has(name) {
		return nil
	}
	parent := parentOf(name)
	if err := b.ensureFolder(parent); err != nil {
		return err
	}
	err := b.ops.mkdir(b.root, name, b.dirMode)
	created := err == nil
	if errors.Is(err, fs.ErrExist) {
		var info os.FileInfo
		if info, err = b.root.Stat(name); err == nil && !info.IsDir() {
			err = syscall.ENOTDIR
		}
	}
	if err != nil {
		return err
	}
	if err := b.ops.syncDir(b.root, parent); err != nil {
		if created {
			// Syncing the same entry again could succeed without having written it. Without the entry, the next
			// attempt begins anew.
			_ = b.ops.remove(b.root, name)
		}
		return err
	}
	b.folders.add(name)
	return nil
}

// createRoot makes the bucket's own folder and all missing ones above it, each durable before the next. The first one
// found is synced too: its maker may have died before doing so.
func createRoot(dir string, mode fs.FileMode, ops fileOps) error {
	parent := filepath.Dir(dir)
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	case err == nil:
		// Who may not open the folder above did not make an entry in it.
		if err := syncEntry(parent, "", mode, ops); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist) || parent == dir:
		return err
	}
	if err := createRoot(parent, mode, ops); err != nil {
		return err
	}
	return syncEntry(parent, filepath.Base(dir), mode, ops)
}

// syncEntry makes the folder name, if one is given, in parent, and syncs parent.
func syncEntry(parent, name string, mode fs.FileMode, ops fileOps) error {
	root, err := os.OpenRoot(parent)
	if err != nil {
		return err
	}
	defer root.Close()
	if name != "" {
		if err := ops.mkdir(root, name, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return ops.syncDir(root, ".")
}
