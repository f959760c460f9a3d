package localblob

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"gocloud.dev/blob/driver"
)

// walk visits the objects below a prefix in the order of their keys. That is not the order of a tree walk: a folder
// "a" sorts as "a/", behind the file "a.b". All keys of one folder are neighbours, so a stack of sorted folders will do.
type walk struct {
	b             *bucket
	prefix, delim string
	after         string // keys up to and including this one are passed over; "" for none
	skip          string // keys with this prefix are passed over: a group given already; "" for none
	stack         []folderEntries
	pending       *driver.ListObject // found, but behind the end of the last page
}

// folderEntries is a folder under way: its path, the prefix of its keys, and the entries still to visit.
type folderEntries struct {
	name, key string
	rest      []entry
}

// entry is one file or folder. key is its part of the key, with the slash of a folder.
type entry struct {
	name, key string
	isDir     bool
	size      int64
	modTime   time.Time
}

// next returns the next object or group, or nil at the end.
func (w *walk) next(ctx context.Context) (*driver.ListObject, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if obj := w.pending; obj != nil {
		w.pending = nil
		return obj, nil
	}
	for len(w.stack) > 0 {
		top := &w.stack[len(w.stack)-1]
		if len(top.rest) == 0 {
			w.stack = w.stack[:len(w.stack)-1]
			continue
		}
		e := top.rest[0]
		top.rest = top.rest[1:]
		key, name := top.key+e.key, joinName(top.name, e.name)
		if !w.wanted(key, e.isDir) {
			continue
		}
		group, grouped := w.groupOf(key)
		switch {
		case e.isDir && !grouped:
			if err := w.push(ctx, name, key); err != nil {
				return nil, err
			}
		case grouped:
			found := !e.isDir
			if e.isDir {
				var err error
				if found, err = w.b.hasObject(ctx, name, key); err != nil {
					return nil, err
				}
			}
			if found {
				w.skip = group
				return &driver.ListObject{Key: group, IsDir: true}, nil
			}
		default:
			return w.object(name, key, e), nil
		}
	}
	return nil, nil
}

// wanted reports whether key, or for a folder any key below it, may have to be listed.
func (w *walk) wanted(key string, isDir bool) bool {
	switch {
	case len(key) > maxKeyLen, !strings.HasPrefix(key, w.prefix):
		return false
	case w.skip != "" && strings.HasPrefix(key, w.skip):
		return false
	case w.after != "" && key <= w.after:
		return isDir && strings.HasPrefix(w.after, key)
	}
	return true
}

// groupOf returns the key cut behind the first delimiter that follows the prefix.
func (w *walk) groupOf(key string) (string, bool) {
	if w.delim == "" {
		return "", false
	}
	i := strings.Index(key[len(w.prefix):], w.delim)
	if i < 0 {
		return "", false
	}
	return key[:len(w.prefix)+i+len(w.delim)], true
}

func (w *walk) object(name, key string, e entry) *driver.ListObject {
	size := e.size
	if looksAttributed(size) {
		// A file that cannot be read keeps its raw size here; reading the object reports what is wrong.
		if f, info, err := w.b.openObject(name); err == nil {
			if n, _, err := readAttributes(f, info.Size()); err == nil {
				size = n
			}
			_ = f.Close()
		}
	}
	return &driver.ListObject{Key: key, Size: size, ModTime: e.modTime}
}

// push reads a folder and puts its entries, sorted, on the stack. A folder that is not there has none, except the
// bucket's own.
func (w *walk) push(ctx context.Context, name, key string) error {
	var entries []entry
	err := w.b.readFolder(ctx, name, func(e entry) bool {
		if w.wanted(key+e.key, e.isDir) {
			entries = append(entries, e)
		}
		return true
	})
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(x, y entry) int { return strings.Compare(x.key, y.key) })
	w.stack = append(w.stack, folderEntries{name: name, key: key, rest: entries})
	return nil
}

// hasObject reports whether an object lies anywhere below a folder. Folders outlive their last object.
func (b *bucket) hasObject(ctx context.Context, name, key string) (bool, error) {
	if len(key) > maxKeyLen {
		return false, nil
	}
	found := false
	var below []entry
	err := b.readFolder(ctx, name, func(e entry) bool {
		if e.isDir {
			below = append(below, e)
		} else if len(key)+len(e.key) <= maxKeyLen {
			found = true
		}
		return !found
	})
	for i := 0; err == nil && !found && i < len(below); i++ {
		found, err = b.hasObject(ctx, joinName(name, below[i].name), key+below[i].key)
	}
	return found, err
}

// readFolder calls visit for each object and folder of a folder, in no order, until it returns false.
func (b *bucket) readFolder(ctx context.Context, name string, visit func(entry) bool) error {
	dir, err := b.ops.openDir(b.root, name)
	if err != nil {
		return missingFolder(name, err)
	}
	defer dir.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		found, err := dir.ReadDir(512)
		for _, d := range found {
			e, ok, err := b.newEntry(name, d)
			if err != nil {
				return err
			}
			if ok && !visit(e) {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return missingFolder(name, err)
		}
	}
}

func missingFolder(name string, err error) error {
	if name != "." && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
		return nil
	}
	return err
}

// newEntry reports false for what is neither a folder nor a regular file, for names that stand for no key, and for what
// was removed since. An object of which the system tells nothing is an error: a listing without it would be a lie.
func (b *bucket) newEntry(folder string, d fs.DirEntry) (entry, bool, error) {
	part, ok := unescapeName(d.Name())
	if !ok {
		return entry{}, false, nil
	}
	if d.IsDir() {
		return entry{name: d.Name(), key: part + "/", isDir: true}, true, nil
	}
	if !d.Type().IsRegular() {
		return entry{}, false, nil
	}
	info, err := d.Info()
	if errors.Is(err, fs.ErrNotExist) {
		// Not all versions of the os package look in the open folder: some take the path by which it was opened,
		// and the bucket may have been renamed.
		info, err = b.root.Lstat(joinName(folder, d.Name()))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return entry{}, false, nil
	case err != nil:
		return entry{}, false, err
	}
	return entry{name: d.Name(), key: part, size: info.Size(), modTime: info.ModTime().UTC()}, true, nil
}

func joinName(folder, name string) string {
	if folder == "." {
		return name
	}
	return folder + "/" + name
}
