package sqlitesource

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/holdstill/holdstill/snapshot/adapter/boltsource"
)

// The proof of the overlay: while writers commit, tables shrink and every kind of
// checkpoint runs, each pinned view must be what sqlite_dbpage says on the very
// same transaction, byte for byte, and whole. There is no lock around Pin here.
func TestOverlayIsDBPage(t *testing.T) {
	tests := []struct {
		name    string
		pragmas []string
	}{
		{"4096", nil},
		{"512", []string{"PRAGMA page_size=512"}},
		{"65536", []string{"PRAGMA page_size=65536"}},
		{"auto vacuum", []string{"PRAGMA page_size=1024", "PRAGMA auto_vacuum=FULL"}},
		{"eager checkpoints", []string{"PRAGMA page_size=1024"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			db, path := openServer(t, tt.pragmas...)
			src := newSource(t, path, Options{})
			stop := make(chan struct{})
			var load sync.WaitGroup
			defer load.Wait()
			defer close(stop)
			commits := newCommits()
			for w := range 2 {
				load.Go(func() {
					r := rand.New(rand.NewPCG(50, uint64(w)))
					for round := int64(1); ; round++ {
						select {
						case <-stop:
							return
						case commits <- struct{}{}:
						}
						if err := write(context.Background(), db, r, round, 1+r.IntN(40)); err != nil {
							t.Errorf("writer: %v", err)
							return
						}
						if round%40 == 0 {
							if _, err := db.Exec("DELETE FROM rows WHERE id > ?", r.Int64N(3000)); err != nil {
								t.Errorf("delete: %v", err)
							}
						}
						if round%60 == 0 && w == 0 {
							if _, err := db.Exec("VACUUM"); err != nil {
								t.Errorf("vacuum: %v", err)
							}
						}
					}
				})
			}
			load.Go(func() { checkpoints(t, path, stop) })

			overlays := 0
			for range 25 {
				v := pin(t, src)
				settle(t, v)
				commits.more(1)
				if v.Method == methodOverlay {
					overlays++
				}
				compareWithDBPage(t, v.FS.(*view))
				commits.more(1)
				compareWithDBPage(t, v.FS.(*view)) // still, after more of everything
				data := readView(t, v)
				if err := v.Close(); err != nil {
					t.Fatal(err)
				}
				openCopy(t, data)
			}
			if overlays != 25 {
				t.Errorf("%d of 25 views were read directly", overlays)
			}
		})
	}
}

// commits gets a token before each commit. Only so many may be made while nobody looks:
// under an open view the log grows with each.
type commits chan struct{}

func newCommits() commits { return make(commits, 50) }

// more waits until n more commits have begun than by now.
func (c commits) more(n int) {
	for range len(c) + n {
		<-c
	}
}

// checkpoints runs all modes in turn, on a connection without patience.
func checkpoints(t *testing.T, path string, stop <-chan struct{}) {
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(2)&_pragma=synchronous(off)")
	if err != nil {
		t.Error(err)
		return
	}
	defer db.Close()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(i%7) * time.Millisecond):
		}
		mode := []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}[i%4]
		var busy, log, done int
		_ = db.QueryRow("PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &log, &done) // busy is a fair answer
	}
}

func compareWithDBPage(t *testing.T, v *view) {
	t.Helper()
	size := v.pageSize
	slow := &dbpageReader{conn: v.conn, pageSize: size}
	got, want := make([]byte, size), make([]byte, size)
	for off := int64(0); off < v.file.size; off += size {
		if _, err := v.readAt(got, off); err != nil {
			t.Fatal(err)
		}
		if err := slow.readPages(want, off/size); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			_, inLog := v.file.pages.(*overlay).index.frames[uint32(off/size+1)]
			t.Fatalf("page %d of %d differs from sqlite_dbpage (in the log: %t, pinned at frame %d)",
				off/size+1, v.file.size/size, inLog, v.header.maxFrame)
		}
	}
	if err := slow.readPages(want, v.file.size/size); err == nil {
		t.Fatalf("the database has more than %d pages", v.file.size/size)
	}
}

// What was committed before the freeze is in the snapshot, what came later is
// not; and so for a transaction that writes to two databases.
func TestTwoDatabasesBehindOneGate(t *testing.T) {
	db, path := openServer(t)
	bolt, err := bbolt.Open(filepath.Join(t.TempDir(), "meta.db"), 0o600, &bbolt.Options{NoSync: true, InitialMmapSize: 1 << 28})
	if err != nil {
		t.Fatal(err)
	}
	defer bolt.Close()
	src, boltSrc := newSource(t, path, Options{}), boltsource.New(bolt, boltsource.Options{})

	var gate sync.RWMutex
	var round, sum int64 // written under gate.RLock by the one writer
	put := func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("rounds"))
		if err != nil {
			return err
		}
		return b.Put(fmt.Appendf(nil, "%08d", round), body(round, round))
	}
	stop := make(chan struct{})
	commits := newCommits()
	var writer sync.WaitGroup
	writer.Go(func() {
		r := rand.New(rand.NewPCG(60, 61))
		for {
			select {
			case <-stop:
				return
			case commits <- struct{}{}:
			}
			gate.RLock()
			round++
			sum += round
			err := write(context.Background(), db, r, round, 5)
			if err == nil {
				err = bolt.Update(put)
			}
			gate.RUnlock()
			if err != nil {
				t.Errorf("writer: %v", err)
				return
			}
		}
	})
	defer writer.Wait()
	defer close(stop)
	for range 10 {
		commits.more(2)
		gate.Lock()
		wantRound, wantSum := round, sum
		v := pin(t, src)
		bv, err := boltSrc.Pin(t.Context())
		gate.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		defer bv.Close()
		settle(t, v)
		commits.more(2)
		data := readView(t, v)
		boltData := readFile(t, bv.FS, "meta.db")
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if err := bv.Close(); err != nil {
			t.Fatal(err)
		}
		cp := openCopy(t, data)
		if n := number(t, cp, "SELECT count(*) FROM log"); n != wantRound {
			t.Errorf("SQLite holds %d rounds, want %d", n, wantRound)
		}
		if n := number(t, cp, "SELECT coalesce(sum(round), 0) FROM log"); n != wantSum {
			t.Errorf("SQLite's rounds add up to %d, want %d", n, wantSum)
		}
		checkBolt(t, boltData, wantRound)
	}
}

func checkBolt(t *testing.T, data []byte, want int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := writeFile(path, data); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		n := int64(0)
		err := tx.Bucket([]byte("rounds")).ForEach(func(k, v []byte) error {
			n++
			if string(k) != fmt.Sprintf("%08d", n) || !bytes.Equal(v, body(n, n)) {
				return fmt.Errorf("round %d is %q", n, k)
			}
			return nil
		})
		if err == nil && n != want {
			err = fmt.Errorf("bbolt holds %d rounds, want %d", n, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
