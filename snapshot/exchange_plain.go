//go:build !linux && !darwin

package snapshot

import "errors"

// exchange always says that two renames have to do.
func exchange(*site, string, string) error { return errors.ErrUnsupported }
