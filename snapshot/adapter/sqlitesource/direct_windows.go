package sqlitesource

import (
	"io"
	"os"
)

// directFile opens the database file beside SQLite. On Windows a lock belongs to
// the handle it was taken with, so closing this one drops no other.
func directFile(c *conn) (io.ReaderAt, func() error, error) {
	f, err := os.Open(c.path)
	if err != nil {
		return nil, nil, err
	}
	return f, f.Close, nil
}
