//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package localblob

import "os"

// tryLock has no lock to offer here; what it would protect falls back on age.
func tryLock(*os.File) error { return errNoLocks }
