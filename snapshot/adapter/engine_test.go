// Package adapter_test runs the engine over all adapters at once.
package adapter_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/bbolt"
	_ "modernc.org/sqlite"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/adapter/boltsource"
	"github.com/holdstill/holdstill/snapshot/adapter/pebblesource"
	"github.com/holdstill/holdstill/snapshot/adapter/sqlitesource"
)

const writers = 3

// server is three databases behind one gate. Each transaction of writer w writes
// row n to all three, with n one more than before.
type server struct {
	gate *lock.Gate
	kv   *pebble.DB
	meta *bbolt.DB
	sql  *sql.DB
	// sources are the three, and one that writes down what is committed.
	sources map[string]snapshot.Source
	// committed is guarded by the gate: a writer changes its own number inside a
	// transaction, the oracle reads all of them inside the freeze.
	committed [writers]uint64
	rows      atomic.Int64
	// limit is for rows: on a slow machine the databases would else grow faster than
	// a snapshot of them can be taken.
	limit atomic.Int64
}

var bucketName = []byte("rows")

func openServer(t *testing.T) *server {
	t.Helper()
	s := &server{gate: lock.New(lock.Options{})}
	kvDir, metaDir, sqlDir := t.TempDir(), t.TempDir(), t.TempDir()
	var kvSource *pebblesource.Source
	var err error
	s.kv, kvSource, err = pebblesource.Open(kvDir, &pebble.Options{MemTableSize: 256 << 10, Logger: silent{}}, pebblesource.Options{})
	must(t, err)
	s.meta, err = bbolt.Open(filepath.Join(metaDir, "meta.db"), 0o600, &bbolt.Options{InitialMmapSize: 1 << 30, NoSync: true})
	must(t, err)
	must(t, s.meta.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketName)
		return err
	}))
	path := filepath.Join(sqlDir, "app.db")
	s.sql = openSQL(t, path)
	_, err = s.sql.Exec("PRAGMA journal_mode=WAL; CREATE TABLE rows (w INTEGER, n INTEGER, body TEXT, PRIMARY KEY (w, n))")
	must(t, err)
	sqlSource, err := sqlitesource.New(t.Context(), path, sqlitesource.Options{})
	must(t, err)
	t.Cleanup(func() {
		must(t, kvSource.Close())
		must(t, s.kv.Close())
		must(t, s.meta.Close())
		must(t, sqlSource.Close())
		must(t, s.sql.Close())
	})
	s.sources = map[string]snapshot.Source{
		"kv": kvSource, "meta": boltsource.New(s.meta, boltsource.Options{}), "sql": sqlSource, "oracle": oracle{s},
	}
	return s
}

func openSQL(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(60000)&_pragma=synchronous(OFF)")
	must(t, err)
	db.SetMaxOpenConns(1)
	return db
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(f string, a ...any) {
	panic(fmt.Sprintf(f, a...))
}

// oracle is a Source whose one file says what is committed at the moment of the pin.
type oracle struct{ s *server }

func (o oracle) Pin(context.Context) (*snapshot.View, error) {
	var b []byte
	for _, n := range o.s.committed {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return &snapshot.View{FS: fstest.MapFS{"committed": {Data: b}}}, nil
}

// write makes transactions until stop is closed.
func (s *server) write(ctx context.Context, w int, stop <-chan struct{}) error {
	r := rand.New(rand.NewPCG(11, uint64(w)))
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if s.rows.Load() >= s.limit.Load() {
			time.Sleep(time.Millisecond)
			continue
		}
		tx, err := s.gate.Begin(ctx)
		if err != nil {
			return err
		}
		n := s.committed[w] + 1
		err = s.put(w, n, r)
		if err == nil {
			s.committed[w] = n
			s.rows.Add(1)
		}
		tx.End()
		if err != nil {
			return err
		}
	}
}

// put writes one row to all three databases.
func (s *server) put(w int, n uint64, r *rand.Rand) error {
	body := make([]byte, 200+r.IntN(2000))
	for i := range body {
		body[i] = byte('a' + r.IntN(16))
	}
	sync := pebble.NoSync
	if r.IntN(8) == 0 {
		sync = pebble.Sync
	}
	if err := s.kv.Set(key(w, n), body, sync); err != nil {
		return err
	}
	err := s.meta.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketName)
		b.FillPercent = 0.9
		return b.Put(key(w, n), body)
	})
	if err != nil {
		return err
	}
	_, err = s.sql.Exec("INSERT INTO rows VALUES (?, ?, ?)", w, int64(n), string(body))
	return err
}

func key(w int, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(w)}, n)
}

// TestOneMomentInThreeDatabases takes snapshots while writers go on without a
// pause, restores each, opens the restored databases, and compares every row.
func TestOneMomentInThreeDatabases(t *testing.T) {
	s := openServer(t)
	e, err := snapshot.Open(t.Context(), snapshot.Config{Repository: "local:" + t.TempDir(), Lock: s.gate, Sources: s.sources})
	must(t, err)
	defer e.Close()
	stop := make(chan struct{})
	failed := make(chan error, writers)
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() { failed <- s.write(t.Context(), w, stop) })
	}
	var ids []string
	var last uint64
	for len(ids) < 4 {
		enough := s.rows.Load() + 400
		for s.limit.Store(enough + 1500); s.rows.Load() < enough && len(failed) == 0; {
			time.Sleep(time.Millisecond)
		}
		snap, err := e.Create(t.Context(), snapshot.CreateOptions{Label: "load", Verify: len(ids)%2 == 1})
		if err != nil {
			t.Error(err)
			break
		}
		if snap.Consistency != repo.ConsistencyFrozen {
			t.Errorf("snapshot %s: consistency %q", snap.ID, snap.Consistency)
		}
		for _, info := range snap.Sources {
			t.Logf("%s: %s %s at %s", snap.ID, info.Kind, info.Method, info.Position)
		}
		ids = append(ids, snap.ID)
	}
	close(stop)
	running.Wait()
	for range writers {
		must(t, <-failed)
	}
	for _, id := range ids {
		to := filepath.Join(t.TempDir(), "restored")
		_, err := e.Restore(t.Context(), id, snapshot.RestoreOptions{To: to})
		must(t, err)
		fsys, err := e.OpenFS(t.Context(), id)
		must(t, err)
		total := verify(t, to, committedIn(t, fsys))
		if total <= last {
			t.Errorf("snapshot %s holds %d rows, the one before %d: no writer got on", id, total, last)
		}
		last = total
	}
}

func committedIn(t *testing.T, fsys fs.FS) (out [writers]uint64) {
	t.Helper()
	b, err := fs.ReadFile(fsys, "oracle/committed")
	must(t, err)
	for w := range out {
		out[w] = binary.LittleEndian.Uint64(b[8*w:])
	}
	return out
}

// verify opens the restored databases and makes sure that each holds rows 1 to n of
// every writer, with equal bodies, and no other.
func verify(t *testing.T, dir string, committed [writers]uint64) (total uint64) {
	t.Helper()
	kv, err := pebble.Open(filepath.Join(dir, "kv"), &pebble.Options{Logger: silent{}})
	must(t, err)
	defer func() { must(t, kv.Close()) }()
	meta, err := bbolt.Open(filepath.Join(dir, "meta", "meta.db"), 0o600, nil)
	must(t, err)
	defer func() { must(t, meta.Close()) }()
	db := openSQL(t, filepath.Join(dir, "sql", "app.db"))
	defer func() { must(t, db.Close()) }()
	var sound string
	must(t, db.QueryRow("PRAGMA integrity_check").Scan(&sound))
	if sound != "ok" {
		t.Errorf("integrity_check: %s", sound)
	}
	want := map[string]string{}
	for w, n := range committed {
		total += n
		for i := uint64(1); i <= n; i++ {
			body, closer, err := kv.Get(key(w, i))
			if err != nil {
				t.Fatalf("kv: writer %d, row %d of %d: %v", w, i, n, err)
			}
			want[string(key(w, i))] = string(body)
			must(t, closer.Close())
		}
	}
	it, err := kv.NewIter(nil)
	must(t, err)
	rows := 0
	for it.First(); it.Valid(); it.Next() {
		rows++
	}
	must(t, it.Close())
	if rows != len(want) {
		t.Errorf("kv holds %d rows, %d were committed", rows, len(want))
	}
	compare(t, "meta", want, func(row func(k, v []byte)) error {
		return meta.View(func(tx *bbolt.Tx) error {
			return errors.Join(func() error {
				for err := range tx.Check() {
					return err
				}
				return nil
			}(), tx.Bucket(bucketName).ForEach(func(k, v []byte) error { row(k, v); return nil }))
		})
	})
	compare(t, "sql", want, func(row func(k, v []byte)) error {
		r, err := db.Query("SELECT w, n, body FROM rows")
		if err != nil {
			return err
		}
		defer r.Close()
		for r.Next() {
			var w int
			var n int64
			var body []byte
			if err := r.Scan(&w, &n, &body); err != nil {
				return err
			}
			row(key(w, uint64(n)), body)
		}
		return r.Err()
	})
	return total
}

// compare makes sure that a database holds just the rows wanted.
func compare(t *testing.T, name string, want map[string]string, each func(func(k, v []byte)) error) {
	t.Helper()
	rows, wrong := 0, 0
	err := each(func(k, v []byte) {
		rows++
		if body, ok := want[string(k)]; !ok || body != string(v) {
			wrong++
		}
	})
	must(t, err)
	if rows != len(want) || wrong > 0 {
		t.Errorf("%s holds %d rows, %d of them wrong; %d were committed", name, rows, wrong, len(want))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
