//go:build !linux && !darwin

package snapshot

import (
	"errors"
	"os"
)

// cloneFile fails: files cannot be cloned here.
func cloneFile(*os.File, string) error { return errors.ErrUnsupported }

// cloneBlocks fails: blocks cannot be shared here.
func cloneBlocks(_, _ *os.File, _ stretch) (stretch, error) {
	return stretch{}, errors.ErrUnsupported
}

// cloneUnsupported says whether an error of cloneFile holds for the whole file
// system.
func cloneUnsupported(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

// nextData returns off: holes are copied as zeros here.
func nextData(_ *os.File, off int64) int64 { return off }
