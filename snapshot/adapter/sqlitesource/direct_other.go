//go:build !darwin && !freebsd && !linux && !netbsd && !openbsd && !windows

package sqlitesource

import "io"

// directFile has no safe way to the database file here.
func directFile(*conn) (io.ReaderAt, func() error, error) { return nil, nil, errNotDirect }
