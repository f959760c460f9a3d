package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// standing is what is at the target before a restore.
type standing struct {
	exists bool
	// mode and owner are those of the folder that stands there. The restored one
	// takes them over.
	mode  fs.FileMode
	owner owner
}

// inspect says whether the target can be restored to, and what stands there.
func (s *site) inspect(inPlace bool) (standing, error) {
	info, err := s.parent.Lstat(s.base)
	if errors.Is(err, fs.ErrNotExist) {
		return standing{}, nil
	}
	if err != nil {
		return standing{}, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	switch {
	case !info.IsDir():
		return standing{}, fmt.Errorf("%w: %s is a %s: name a folder", ErrTarget, s.target(), kindName(info.Mode()))
	case isMountPoint(s.target()):
		return standing{}, fmt.Errorf("%w: %s is a mount point, whose name cannot change: use a folder inside it", ErrTarget, s.target())
	}
	if !inPlace {
		if err := s.checkEmpty(); err != nil {
			return standing{}, err
		}
	}
	return standing{exists: true, mode: info.Mode().Perm(), owner: ownerOf(info)}, nil
}

// checkEmpty says whether the folder at the target is empty.
func (s *site) checkEmpty() error {
	d, err := s.parent.Open(s.base)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTarget, err)
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	if err == nil {
		return fmt.Errorf("%w: %s: empty it, name another folder, or restore in place", ErrTargetExists, s.target())
	}
	if err != io.EOF {
		return fmt.Errorf("%w: %w", ErrTarget, err)
	}
	return nil
}

// keepApart fails when the target and a local repository lie in each other: the
// restore would carry the repository away, or be taken for a part of it.
func (s *site) keepApart(repository string) error {
	if repository == "" {
		return nil
	}
	if lies(repository, s.target()) {
		return fmt.Errorf("%w: the repository %s lies in %s, and would be replaced with it: move the repository, or restore elsewhere", ErrTarget, repository, s.target())
	}
	if lies(s.target(), repository) {
		return fmt.Errorf("%w: %s lies in the repository %s: restore elsewhere", ErrTarget, s.target(), repository)
	}
	return nil
}

// lies says whether inner is outer or lies in it. It compares the folders, not
// their names, which may differ in links and in case.
func lies(inner, outer string) bool {
	top, err := os.Stat(outer)
	if err != nil {
		return false
	}
	if real, err := filepath.EvalSymlinks(inner); err == nil {
		inner = real
	}
	for {
		if info, err := os.Stat(inner); err == nil && os.SameFile(info, top) {
			return true
		}
		above := filepath.Dir(inner)
		if above == inner {
			return false
		}
		inner = above
	}
}
