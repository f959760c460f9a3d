//go:build !darwin && !dragonfly && !freebsd && !linux && !netbsd && !openbsd && !windows

package snapshot

import (
	"errors"
	"io/fs"
	"os"
)

// Systems without a lock on files cannot keep two restores apart, so Restore
// fails on them with errors.ErrUnsupported before it changes anything.

func renameNew(*site, string, string) error  { return errors.ErrUnsupported }
func renameOver(*site, string, string) error { return errors.ErrUnsupported }

func tryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }

const removeBeforeUnlock = false

func syncDir(*os.File) error { return errors.ErrUnsupported }

func chmodDir(*os.File, fs.FileMode) error { return errors.ErrUnsupported }

func identify(*os.Root, string) (identity, error) { return identity{}, errors.ErrUnsupported }

// An owner is who restored files shall belong to.
type owner struct{}

func ownerOf(fs.FileInfo) owner { return owner{} }

func (owner) give(*os.File) error { return nil }

func isMountPoint(string) bool { return false }
