package boltsource

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/fstest"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/holdstill/holdstill/snapshot"
)

func TestSnapshotWhileWritersRun(t *testing.T) {
	tests := []struct {
		name       string
		db         bbolt.Options
		opts       Options
		repeatable bool
	}{
		{name: "defaults", repeatable: true},
		{name: "hashmap", db: bbolt.Options{FreelistType: bbolt.FreelistMapType}, repeatable: true},
		{name: "small pages", db: bbolt.Options{PageSize: 1024}, repeatable: true},
		{name: "large pages", db: bbolt.Options{PageSize: 16384}, repeatable: true},
		{name: "no freelist", db: bbolt.Options{NoFreelistSync: true}},
		{name: "no grow sync", db: bbolt.Options{NoGrowSync: true}, repeatable: true},
		{name: "free pages kept", opts: Options{KeepFreePages: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dbOpts := tt.db
			dbOpts.InitialMmapSize, dbOpts.NoSync = 1<<28, true
			db := openDB(t, &dbOpts)
			src := New(db, tt.opts)
			var gate sync.RWMutex
			m := model{}
			r := rand.New(rand.NewPCG(1, 2))
			for range 30 {
				if err := mutate(db, r, m, 100); err != nil {
					t.Fatal(err)
				}
			}
			stop := make(chan struct{})
			var writer sync.WaitGroup
			// So many commits, and no more, may come while nobody looks: what they
			// rewrite under an open view must not outgrow the mapping.
			commits := make(chan struct{}, 50)
			writer.Go(func() {
				for {
					gate.RLock()
					err := mutate(db, r, m, 20)
					gate.RUnlock()
					if err != nil {
						t.Errorf("writer: %v", err)
						close(commits)
						return
					}
					select {
					case <-stop:
						return
					case commits <- struct{}{}:
					}
				}
			})
			defer writer.Wait()
			defer close(stop)
			let := func(n int) { // let much be rewritten under the view
				for range len(commits) + n {
					<-commits
				}
			}
			for range 3 {
				gate.Lock()
				want := m.clone()
				v, err := src.Pin(t.Context())
				gate.Unlock()
				if err != nil {
					t.Fatal(err)
				}
				defer v.Close()
				if err := v.Settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				let(20)
				first := readView(t, v)
				let(20)
				second := readView(t, v)
				if tt.repeatable && !bytes.Equal(first, second) {
					t.Error("two readings of one view differ")
				}
				id := v.Hint("meta.db").Identity
				if (id != "") != tt.repeatable {
					t.Errorf("identity is %q, repeatable is %t", id, tt.repeatable)
				}
				if err := v.Close(); err != nil {
					t.Fatal(err)
				}
				checkCopy(t, first, want, &bbolt.Options{NoSync: true, PageSize: tt.db.PageSize})
				checkCopy(t, second, want, &bbolt.Options{NoSync: true, PageSize: tt.db.PageSize})
			}
		})
	}
}

func TestFreePagesAreZero(t *testing.T) {
	db := openDB(t, roomy())
	m := model{}
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		if err := mutate(db, r, m, 200); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("bucket1")) }); err != nil {
		t.Fatal(err)
	}
	v, err := New(db, Options{}).Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	data := readView(t, v)
	raw, err := os.ReadFile(db.Path())
	if err != nil {
		t.Fatal(err)
	}
	zero, page := 0, make([]byte, db.Info().PageSize)
	for off := 0; off < len(data); off += len(page) {
		got := data[off : off+len(page)]
		switch {
		case bytes.Equal(got, page):
			zero++
		case off >= 2*len(page) && !bytes.Equal(got, raw[off:off+len(page)]):
			t.Errorf("page %d differs from the file", off/len(page))
		}
	}
	stats := db.Stats()
	if want := stats.FreePageN + stats.PendingPageN; zero < want || want == 0 {
		t.Errorf("%d pages are zero, want at least the %d free ones", zero, want)
	}
}

func TestFS(t *testing.T) {
	db := openDB(t, roomy())
	m := model{}
	r := rand.New(rand.NewPCG(5, 6))
	for range 10 {
		if err := mutate(db, r, m, 100); err != nil {
			t.Fatal(err)
		}
	}
	v, err := New(db, Options{Name: "db.bolt"}).Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := fstest.TestFS(v.FS, "db.bolt"); err != nil {
		t.Fatal(err)
	}
	data := readView(t, v)
	f, err := v.FS.Open("db.bolt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != int64(len(data)) || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
		t.Errorf("Stat: %v, %v; read %d bytes", info, err, len(data))
	}
	for range 500 {
		off := r.Int64N(info.Size() + 100)
		buf := make([]byte, r.IntN(40000))
		n, err := f.(io.ReaderAt).ReadAt(buf, off)
		var want []byte
		if off < info.Size() {
			want = data[off:min(off+int64(len(buf)), info.Size())]
		}
		if !bytes.Equal(buf[:n], want) || (n < len(buf)) != (err == io.EOF) {
			t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", len(buf), off, n, err)
		}
	}
	if v.Hint("other") != (snapshot.Hint{}) {
		t.Error("a hint for a file that is not there")
	}
	if h := v.Hint("db.bolt"); h.Class != snapshot.Paged || h.PageSize != db.Info().PageSize {
		t.Errorf("hint is %+v", h)
	}
}

func TestIdentityNamesTheContent(t *testing.T) {
	db := openDB(t, roomy())
	src := New(db, Options{})
	m := model{}
	r := rand.New(rand.NewPCG(7, 8))
	read := func() (id, epoch string, data []byte) {
		v, err := src.Pin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		data = readView(t, v)
		return v.Hint("meta.db").Identity, v.Epoch, data
	}
	if err := mutate(db, r, m, 500); err != nil {
		t.Fatal(err)
	}
	id1, epoch1, data1 := read()
	// A transaction that is rolled back may write nothing that shows.
	if err := db.Update(func(tx *bbolt.Tx) error {
		_ = tx.DeleteBucket([]byte("bucket1"))
		return errors.New("no")
	}); err == nil {
		t.Fatal("the update went through")
	}
	id2, epoch2, data2 := read()
	if id1 == "" || id1 != id2 || epoch1 == "" || epoch1 != epoch2 || !bytes.Equal(data1, data2) {
		t.Errorf("an unchanged database: %q and %q, content equal: %t", id1, id2, bytes.Equal(data1, data2))
	}
	if err := mutate(db, r, m, 1); err != nil {
		t.Fatal(err)
	}
	if id3, _, data3 := read(); id3 == id1 || bytes.Equal(data1, data3) {
		t.Errorf("a changed database is still %q", id3)
	}
	if other := New(db, Options{}); other.epoch == epoch1 {
		t.Error("two sources share an epoch")
	}
}

func TestCloseLetsGo(t *testing.T) {
	db := openDB(t, roomy())
	m := model{}
	r := rand.New(rand.NewPCG(10, 11))
	if err := mutate(db, r, m, 500); err != nil {
		t.Fatal(err)
	}
	v, err := New(db, Options{}).Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	f, err := v.FS.Open("meta.db")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := mutate(db, r, m, 300); err != nil {
			t.Fatal(err)
		}
	}
	held := db.Stats().PendingPageN
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mutate(db, r, m, 1); err != nil {
		t.Fatal(err)
	}
	if err := mutate(db, r, m, 1); err != nil {
		t.Fatal(err)
	}
	if after := db.Stats().PendingPageN; after >= held || held < 10 {
		t.Errorf("%d pages pending with the view open, %d after", held, after)
	}
	if n := db.Stats().OpenTxN; n != 0 {
		t.Errorf("%d transactions are still open", n)
	}
	if _, err := f.Read(make([]byte, 10)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	if err := v.Settle(t.Context()); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("settle after Close: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestManyPins(t *testing.T) {
	db := openDB(t, roomy())
	src := New(db, Options{})
	m := model{}
	r := rand.New(rand.NewPCG(12, 13))
	if err := mutate(db, r, m, 500); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 5 {
				v, err := src.Pin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(v.Settle(t.Context()), readBoth(v.FS), v.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		if err := mutate(db, r, m, 20); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if n := db.Stats().OpenTxN; n != 0 {
		t.Errorf("%d transactions are still open", n)
	}
}

// readBoth reads the database twice, in two ways, and compares.
func readBoth(fsys fs.FS) error {
	front, err := fs.ReadFile(fsys, "meta.db")
	if err != nil {
		return err
	}
	f, err := fsys.Open("meta.db")
	if err != nil {
		return err
	}
	back := make([]byte, len(front))
	for end := len(back); end > 0; end -= min(end, 10_000) {
		part := back[max(0, end-10_000):end]
		if _, err := f.(io.ReaderAt).ReadAt(part, int64(end-len(part))); err != nil {
			return err
		}
	}
	if !bytes.Equal(front, back) {
		return errors.New("reading from the front and from the back differ")
	}
	return f.Close()
}

func TestErrors(t *testing.T) {
	canceled, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the operator said so")
	cancel(why)

	t.Run("context", func(t *testing.T) {
		db := openDB(t, nil)
		if _, err := New(db, Options{}).Pin(canceled); !errors.Is(err, why) {
			t.Errorf("Pin: %v", err)
		}
		v, err := New(db, Options{}).Pin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if err := v.Settle(canceled); !errors.Is(err, why) {
			t.Errorf("Settle: %v", err)
		}
	})
	t.Run("name", func(t *testing.T) {
		db := openDB(t, nil)
		for _, name := range []string{".", "..", "a/b", "/a", "a/"} {
			if _, err := New(db, Options{Name: name}).Pin(t.Context()); !errors.Is(err, ErrName) {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
	t.Run("closed", func(t *testing.T) {
		db := openDB(t, nil)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := New(db, Options{}).Pin(t.Context()); !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
			t.Errorf("Pin: %v", err)
		}
	})
	t.Run("replaced", func(t *testing.T) {
		db, other := openDB(t, roomy()), openDB(t, roomy())
		r := rand.New(rand.NewPCG(1, 1))
		for range 5 {
			if err := errors.Join(mutate(db, r, model{}, 10), mutate(other, r, model{}, 10)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(other.Path(), db.Path()); err != nil {
			t.Fatal(err)
		}
		v, err := New(db, Options{}).Pin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if err := v.Settle(t.Context()); !errors.Is(err, ErrReplaced) {
			t.Errorf("Settle: %v", err)
		}
	})
	t.Run("removed", func(t *testing.T) {
		db := openDB(t, nil)
		if err := os.Remove(db.Path()); err != nil {
			t.Fatal(err)
		}
		v, err := New(db, Options{}).Pin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if _, err := v.FS.Open("meta.db"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open: %v", err)
		}
	})
}
