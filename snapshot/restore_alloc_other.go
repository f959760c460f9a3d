//go:build !linux

package snapshot

import (
	"errors"
	"os"
)

// allocate fails: nothing is set aside here.
func allocate(*os.File, int64, int64) error { return errors.ErrUnsupported }

// punch fails: no holes are made here in what was written.
func punch(*os.File, int64, int64) error { return errors.ErrUnsupported }
