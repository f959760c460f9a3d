package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// fileOps is every change that a restore makes to the file system. The zero value
// does them for real. Tests set before to let a change fail, or to refuse all
// changes from one on, which is what a crash looks like to the disk.
type fileOps struct {
	// before is called ahead of each change, by several goroutines at once; an
	// error takes the change's place.
	before func(op, name string) error
	// noExchange makes exchange fail as on systems that cannot do it.
	noExchange bool
}

func (o *fileOps) ask(op, name string) error {
	if o == nil || o.before == nil {
		return nil
	}
	return o.before(op, name)
}

// mkdir makes a folder that must not exist, for this user alone.
func (o *fileOps) mkdir(root *os.Root, name string) error {
	if err := o.ask("mkdir", name); err != nil {
		return err
	}
	return root.Mkdir(name, 0o700)
}

// create makes a file that must not exist.
func (o *fileOps) create(root *os.Root, name string) (*os.File, error) {
	if err := o.ask("create", name); err != nil {
		return nil, err
	}
	return root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// link makes a hard link. It never follows a symbolic link that is the file itself.
func (o *fileOps) link(root *os.Root, from, to string) error {
	if err := o.ask("link", to); err != nil {
		return err
	}
	return root.Link(from, to)
}

func (o *fileOps) truncate(f *os.File, size int64) error {
	if err := o.ask("truncate", f.Name()); err != nil {
		return err
	}
	return f.Truncate(size)
}

func (o *fileOps) writeAt(f *os.File, p []byte, at int64) error {
	if err := o.ask("write", f.Name()); err != nil {
		return err
	}
	_, err := f.WriteAt(p, at)
	return err
}

// allocate has the file system set blocks aside for n bytes of f.
func (o *fileOps) allocate(f *os.File, at, n int64) error {
	if err := o.ask("allocate", f.Name()); err != nil {
		return err
	}
	return allocate(f, at, n)
}

// clone has dst share the whole blocks of src in a stretch, and returns where those
// begin and end.
func (o *fileOps) clone(dst, src *os.File, s stretch) (stretch, error) {
	if err := o.ask("clone", dst.Name()); err != nil {
		return stretch{}, err
	}
	return cloneBlocks(dst, src, s)
}

// clear makes n bytes of f zeros.
func (o *fileOps) clear(f *os.File, at, n int64) error {
	if err := o.ask("clear", f.Name()); err != nil {
		return err
	}
	return clearRange(f, at, n)
}

// dress gives an open file or folder its owner, time and permissions, and makes
// them durable with the content. name is its name in root.
func (o *fileOps) dress(root *os.Root, f *os.File, name string, who owner, mode fs.FileMode, at time.Time) error {
	if err := o.ask("dress", name); err != nil {
		return err
	}
	if err := who.give(f); err != nil {
		return err
	}
	if storableTime(at) {
		// A zero access time is left as it is.
		if err := root.Chtimes(name, time.Time{}, at); err != nil {
			return err
		}
	}
	// Permissions come after the owner, since a change of owner can clear bits.
	if mode.IsDir() {
		return chmodDir(f, mode.Perm())
	}
	return f.Chmod(mode.Perm())
}

// storableTime says whether the system's calls can express a time: they count
// nanoseconds in 64 bits.
func storableTime(t time.Time) bool {
	return !t.IsZero() && t.Year() > 1678 && t.Year() < 2262
}

// sync makes a file's content durable. It is never tried again: after a failure
// the system may call the pages clean that it lost.
func (o *fileOps) sync(f *os.File) error {
	if err := o.ask("sync", f.Name()); err != nil {
		return err
	}
	return f.Sync()
}

func (o *fileOps) syncDir(d *os.File) error {
	if err := o.ask("syncdir", d.Name()); err != nil {
		return err
	}
	return syncDir(d)
}

// rename gives a file or folder of s a new name, replacing a file of that name.
func (o *fileOps) rename(s *site, from, to string) error {
	if err := o.ask("rename", from+" "+to); err != nil {
		return err
	}
	return s.parent.Rename(from, to)
}

// move gives a folder of s a name that nothing has.
func (o *fileOps) move(s *site, from, to string) error {
	if err := o.ask("move", from+" "+to); err != nil {
		return err
	}
	return renameNew(s, from, to)
}

// moveOver gives a folder of s the name of an empty folder, which it replaces.
func (o *fileOps) moveOver(s *site, from, to string) error {
	if err := o.ask("moveover", from+" "+to); err != nil {
		return err
	}
	return renameOver(s, from, to)
}

// exchange swaps the names of two folders of s in one step. It fails with
// errors.ErrUnsupported where the system cannot do that.
func (o *fileOps) exchange(s *site, a, b string) error {
	if err := o.ask("exchange", a+" "+b); err != nil {
		return err
	}
	if o != nil && o.noExchange {
		return errors.ErrUnsupported
	}
	return exchange(s, a, b)
}

func (o *fileOps) remove(root *os.Root, name string) error {
	if err := o.ask("remove", name); err != nil {
		return err
	}
	return root.Remove(name)
}

// removeAll removes a folder with everything in it. It never follows a symbolic
// link.
func (o *fileOps) removeAll(root *os.Root, name string) error {
	if err := o.ask("removeall", name); err != nil {
		return err
	}
	err := root.RemoveAll(name)
	if errors.Is(err, fs.ErrPermission) {
		// Restored folders may be without permission to write.
		if err := openFolders(root, name); err != nil {
			return err
		}
		err = root.RemoveAll(name)
	}
	return err
}

// openFolders lets the owner list and change all folders under name.
func openFolders(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil || !info.IsDir() {
		return err
	}
	if err := root.Chmod(name, 0o700); err != nil {
		return err
	}
	entries, err := fs.ReadDir(root.FS(), name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := openFolders(root, name+"/"+e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeFile replaces a small file in the parent folder of s, durably.
func (o *fileOps) writeFile(s *site, name string, data []byte) (err error) {
	tmp := name + tempSuffix
	if err := o.ask("writefile", name); err != nil {
		return err
	}
	// What a crash left under this name is removed, never written to: it could be
	// a link to somewhere else.
	if err := s.parent.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := o.create(s.parent, tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = o.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, o.remove(s.parent, tmp))
	}
	if err := o.rename(s, tmp, name); err != nil {
		return errors.Join(err, o.remove(s.parent, tmp))
	}
	return o.syncDir(s.dir)
}

// checkFolder returns the FileInfo of a folder of root, and fails with ErrTarget
// for anything else, symbolic links above all.
func checkFolder(root *os.Root, name string) (fs.FileInfo, error) {
	info, err := root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%w: %s is a %s, not a folder", ErrTarget, name, kindName(info.Mode()))
	}
	return info, err
}

func kindName(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "file"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	}
	return "special file"
}
