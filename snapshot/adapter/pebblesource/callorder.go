package pebblesource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// orderPatience bounds how long tryOrder waits for a database in memory. It is
// used up only if Pebble holds its locks while it makes the folder.
const orderPatience = 30 * time.Second

// tryOrder finds out whether DB.Checkpoint notes the state of the database before
// it makes its folder, and neither holds locks nor looks again after that. It pins a
// small database in memory, in the way Pin does; and while the checkpoint is held
// it commits rows, flushes a table and starts a new log. The checkpoint must be
// without them. It returns nil or an error that wraps ErrCallOrder.
func tryOrder() error {
	ctx, cancel := context.WithTimeout(context.Background(), orderPatience)
	defer cancel()
	if err := tryOrderOn(ctx, NewFS(vfs.NewMem()), (*pebble.DB).Checkpoint); err != nil {
		return fmt.Errorf("%w: %w", ErrCallOrder, err)
	}
	return nil
}

func tryOrderOn(ctx context.Context, fs *FS, checkpoint checkpointFunc) (err error) {
	db, err := openSmall(fs, "db")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	s := newSource(db, fs)
	s.make = checkpoint
	s.scratch = "scratch"
	if err := s.openScratch(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	if err := db.Set([]byte("before"), []byte("1"), pebble.NoSync); err != nil {
		return err
	}
	k, err := s.begin(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	early, err := k.awaitCapture(ctx)
	if err != nil {
		return err
	}
	if !early {
		return errors.New("the checkpoint did not show when it began, or the log did not show the mark")
	}
	k.cap.cut()
	later := make(chan error, 1)
	go func() { later <- writeLater(db) }()
	select {
	case err = <-later:
		k.cap.release()
	case <-ctx.Done():
		k.cap.release()
		// The database can be closed only after the writes.
		err = errors.Join(errors.New("the checkpoint holds locks while it makes its folder"), <-later)
	}
	if err != nil {
		return err
	}
	if err := k.finish(ctx); err != nil {
		return err
	}
	return checkRows(fs.Unwrap(), k.dest)
}

// writeLater writes what must not be in the checkpoint: a row that goes to a table,
// and one that goes to a log of its own.
func writeLater(db *pebble.DB) error {
	return errors.Join(
		db.Set([]byte("flushed"), []byte("1"), pebble.NoSync),
		db.Flush(),
		db.Set([]byte("logged"), []byte("1"), pebble.Sync))
}

func checkRows(fs vfs.FS, dir string) (err error) {
	db, err := openSmall(fs, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	var got []byte
	for ok := it.First(); ok; ok = it.Next() {
		got = append(append(got, it.Key()...), ' ')
	}
	if err := it.Close(); err != nil {
		return err
	}
	if !bytes.Equal(got, []byte("before ")) {
		return fmt.Errorf("the checkpoint holds the rows %q, not those of its moment", got)
	}
	return nil
}

func openSmall(fs vfs.FS, dir string) (*pebble.DB, error) {
	cache := pebble.NewCache(64 << 10)
	defer cache.Unref()
	return pebble.Open(dir, &pebble.Options{
		FS:                          fs,
		Cache:                       cache,
		MemTableSize:                64 << 10,
		FormatMajorVersion:          pebble.FormatNewest,
		DisableAutomaticCompactions: true,
		Logger:                      quiet{},
	})
}

// quiet drops Pebble's notes on its work. Fatalf must not return.
type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }
