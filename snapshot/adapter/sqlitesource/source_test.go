package sqlitesource

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/holdstill/holdstill/snapshot"
)

func readFile(t testing.TB, fsys fs.FS, name string) []byte {
	t.Helper()
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(path string, data []byte) error { return os.WriteFile(path, data, 0o600) }

func TestFS(t *testing.T) {
	for _, dbpage := range []bool{false, true} {
		db, path := openServer(t, "PRAGMA page_size=1024")
		r := rand.New(rand.NewPCG(70, 71))
		for round := range int64(5) {
			if err := write(t.Context(), db, r, round, 30); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		v := pin(t, newSource(t, path, Options{Name: "db", DBPage: dbpage}))
		defer v.Close()
		if err := fstest.TestFS(v.FS, "db"); err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{false: "wal-overlay", true: "dbpage"}[dbpage]
		if v.Method != want || v.Kind != "sqlite" || v.Metadata["page_size"] != "1024" {
			t.Errorf("the view is of kind %q by %q with %v, want %q", v.Kind, v.Method, v.Metadata, want)
		}
		data := readFile(t, v.FS, "db")
		f, err := v.FS.Open("db")
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil || info.Size() != int64(len(data)) || info.Mode() != 0o640 {
			t.Errorf("Stat: %v, %v; read %d bytes", info, err, len(data))
		}
		for range 300 {
			off, buf := r.Int64N(info.Size()+100), make([]byte, r.IntN(9000))
			n, err := f.(io.ReaderAt).ReadAt(buf, off)
			part := data[min(off, info.Size()):min(off+int64(len(buf)), info.Size())]
			if !bytes.Equal(buf[:n], part) || (n < len(buf)) != (err == io.EOF) {
				t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", len(buf), off, n, err)
			}
		}
		if h := v.Hint("db"); h.Class != snapshot.Paged || h.PageSize != 1024 || h.Identity == "" {
			t.Errorf("hint is %+v", h)
		}
		if v.Hint("other") != (snapshot.Hint{}) {
			t.Error("a hint for a file that is not there")
		}
	}
}

// An empty log has no commit to name, and the first connection after a clean
// close has never seen a log at all.
func TestEmptyLog(t *testing.T) {
	db, path := openServer(t)
	r := rand.New(rand.NewPCG(80, 81))
	if err := write(t.Context(), db, r, 1, 500); err != nil {
		t.Fatal(err)
	}
	src := newSource(t, path, Options{})
	check := func(when string, src *Source) {
		t.Helper()
		v := pin(t, src)
		defer v.Close()
		settle(t, v)
		if v.Method != methodOverlay {
			t.Errorf("%s: the method is %q", when, v.Method)
		}
		if err := write(t.Context(), db, r, 2, 50); err != nil {
			t.Fatal(err)
		}
		for _, mode := range []string{"PASSIVE", "TRUNCATE"} {
			checkpoint(t, db, mode)
		}
		compareWithDBPage(t, v.FS.(*view))
		cp := openCopy(t, readView(t, v))
		if n := number(t, cp, "SELECT max(round) FROM log"); n != 1 {
			t.Errorf("%s: the last round is %d", when, n)
		}
	}
	if checkpoint(t, db, "TRUNCATE") {
		t.Fatal("the checkpoint was held up")
	}
	check("after TRUNCATE", src)

	if err := errors.Join(src.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	db = openAt(t, path)
	if _, err := db.Exec("DELETE FROM log WHERE round > 1"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil { // cleans the log up
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the log is still there: %v", err)
	}
	src = newSource(t, path, Options{})
	db = openAt(t, path)
	check("after a clean close", src)
}

// A whole log that is already in the database file is the trap: a plain reader
// would not hold it against being reset.
func TestCheckpointedLog(t *testing.T) {
	db, path := openServer(t)
	r := rand.New(rand.NewPCG(90, 91))
	src := newSource(t, path, Options{})
	if err := write(t.Context(), db, r, 1, 500); err != nil {
		t.Fatal(err)
	}
	if checkpoint(t, db, "FULL") {
		t.Fatal("the checkpoint was held up")
	}
	v := pin(t, src)
	defer v.Close()
	settle(t, v)
	if n := len(v.FS.(*view).file.pages.(*overlay).index.frames); n == 0 {
		t.Fatal("the log is not laid over the file")
	}
	for round := range int64(20) {
		if err := write(t.Context(), db, r, 2+round, 200); err != nil {
			t.Fatal(err)
		}
		checkpoint(t, db, []string{"PASSIVE", "RESTART", "TRUNCATE"}[round%3])
	}
	compareWithDBPage(t, v.FS.(*view))
	if n := number(t, openCopy(t, readView(t, v)), "SELECT max(round) FROM log"); n != 1 {
		t.Errorf("the last round is %d", n)
	}
}

func TestCloseLetsGo(t *testing.T) {
	db, path := openServer(t)
	r := rand.New(rand.NewPCG(100, 101))
	src := newSource(t, path, Options{})
	if err := write(t.Context(), db, r, 1, 100); err != nil {
		t.Fatal(err)
	}
	v := pin(t, src)
	f, err := v.FS.Open("app.db")
	if err != nil {
		t.Fatal(err)
	}
	if err := write(t.Context(), db, r, 2, 100); err != nil {
		t.Fatal(err)
	}
	if !checkpoint(t, db, "TRUNCATE") {
		t.Error("the log was truncated under an open view")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if checkpoint(t, db, "TRUNCATE") {
		t.Error("the log is still held after Close")
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

	// A view outlives its source, and closes its connection itself.
	v = pin(t, src)
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}
	openCopy(t, readView(t, v))
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Pin(t.Context()); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("pin after Close: %v", err)
	}
	// With our connections gone, the last one of the server cleans up.
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a connection was left open: %v", err)
	}
}

// The last connection to close would checkpoint and remove the log. Ours leaves
// it to the server's next start.
func TestNeverWrites(t *testing.T) {
	db, path := openServer(t)
	src := newSource(t, path, Options{})
	if err := write(t.Context(), db, rand.New(rand.NewPCG(1, 1)), 1, 100); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path + "-wal")
	if err != nil || len(before) == 0 {
		t.Fatalf("the log has %d bytes, %v", len(before), err)
	}
	v := pin(t, src)
	readView(t, v)
	if err := errors.Join(v.Close(), src.Close()); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path + "-wal")
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the log changed: %d bytes, then %d, %v", len(before), len(after), err)
	}
}

func TestFallsBack(t *testing.T) {
	db, path := openServer(t)
	if err := write(t.Context(), db, rand.New(rand.NewPCG(1, 1)), 1, 300); err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []func(h *indexHeader){
		func(h *indexHeader) { h.checksum[1]++ },
		func(h *indexHeader) { h.salt[3]++ },
		func(h *indexHeader) { h.pages++ },
		func(h *indexHeader) { h.pageSize *= 2 },
		func(h *indexHeader) { h.maxFrame-- },
		func(h *indexHeader) { h.maxFrame += 1000 },
	} {
		var log bytes.Buffer
		v := pin(t, newSource(t, path, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
		defer v.Close()
		spoil(v.FS.(*view).header)
		settle(t, v)
		if v.Method != methodDBPage || !strings.Contains(log.String(), "reason=") {
			t.Errorf("method %q, log %q", v.Method, log.String())
		}
		if n := number(t, openCopy(t, readView(t, v)), "SELECT count(*) FROM log"); n != 1 {
			t.Errorf("%d rounds, want 1", n)
		}
	}
}

func TestMaxLogGrowth(t *testing.T) {
	db, path := openServer(t)
	r := rand.New(rand.NewPCG(110, 111))
	src := newSource(t, path, Options{MaxLogGrowth: 1 << 20})
	v := pin(t, src)
	defer v.Close()
	readView(t, v)
	for round := range int64(60) {
		if err := write(t.Context(), db, r, round, 200); err != nil {
			t.Fatal(err)
		}
	}
	f, err := v.FS.Open("app.db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(make([]byte, 10)); !errors.Is(err, ErrLogGrowth) {
		t.Errorf("read: %v", err)
	}
	if checkpoint(t, db, "TRUNCATE") {
		t.Error("the log is still held")
	}
	v = pin(t, src)
	defer v.Close()
	openCopy(t, readView(t, v))
}

func TestManyPins(t *testing.T) {
	db, path := openServer(t)
	src := newSource(t, path, Options{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				v, err := src.Pin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				first, err1 := fs.ReadFile(v.FS, "app.db")
				second, err2 := fs.ReadFile(v.FS, "app.db")
				if err := errors.Join(err1, err2, v.Close()); err != nil || !bytes.Equal(first, second) {
					t.Errorf("%d and %d bytes, %v", len(first), len(second), err)
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(120, 121))
	for round := range int64(30) {
		if err := write(t.Context(), db, r, round, 20); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

func TestIdentityNamesTheContent(t *testing.T) {
	db, path := openServer(t)
	src := newSource(t, path, Options{})
	r := rand.New(rand.NewPCG(130, 131))
	seen := map[string][]byte{}
	for round := range int64(30) {
		if round%3 != 2 { // every third is read again without a commit
			if err := write(t.Context(), db, r, round, 50); err != nil {
				t.Fatal(err)
			}
		}
		if round%5 == 0 {
			checkpoint(t, db, []string{"FULL", "TRUNCATE"}[round%2])
		}
		v := pin(t, src)
		data, id := readView(t, v), v.Hint("app.db").Identity
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if old, ok := seen[id]; ok && id != "" && !bytes.Equal(old, data) {
			t.Fatalf("%q has two contents", id)
		}
		seen[id] = data
	}
	if len(seen) < 15 || len(seen) > 25 {
		t.Errorf("%d identities in 30 rounds", len(seen))
	}
}

func TestErrors(t *testing.T) {
	canceled, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the operator said so")
	cancel(why)

	t.Run("context", func(t *testing.T) {
		_, path := openServer(t)
		if _, err := New(canceled, path, Options{}); !errors.Is(err, why) {
			t.Errorf("New: %v", err)
		}
		src := newSource(t, path, Options{})
		if _, err := src.Pin(canceled); !errors.Is(err, why) {
			t.Errorf("Pin: %v", err)
		}
		if err := src.Prepare(canceled); !errors.Is(err, why) {
			t.Errorf("Prepare: %v", err)
		}
		v := pin(t, src)
		defer v.Close()
		if err := v.Settle(canceled); !errors.Is(err, why) {
			t.Errorf("Settle: %v", err)
		}
	})
	t.Run("path", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := New(t.Context(), filepath.Join(dir, "none"), Options{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("missing: %v", err)
		}
		var path *fs.PathError
		if _, err := New(t.Context(), dir, Options{}); !errors.As(err, &path) {
			t.Errorf("folder: %v", err)
		}
		for _, odd := range []string{"", ":memory:", "file::memory:?cache=shared", "file:" + filepath.Join(dir, "none")} {
			if _, err := New(t.Context(), odd, Options{}); !errors.Is(err, fs.ErrInvalid) || !errors.As(err, &path) || path.Path != odd {
				t.Errorf("%q: %v", odd, err)
			}
		}
		text := filepath.Join(dir, "text")
		if err := writeFile(text, bytes.Repeat([]byte("not a database, but long enough "), 100)); err != nil {
			t.Fatal(err)
		}
		var coded *Error
		if _, err := New(t.Context(), text, Options{}); !errors.As(err, &coded) || coded.Code != 26 {
			t.Errorf("text: %v", err)
		}
	})
	t.Run("name", func(t *testing.T) {
		_, path := openServer(t)
		for _, name := range []string{".", "..", "a/b", "/a"} {
			if _, err := New(t.Context(), path, Options{Name: name}); !errors.Is(err, ErrName) {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
	t.Run("journal mode", func(t *testing.T) {
		db, path := openServer(t)
		src := newSource(t, path, Options{})
		if err := src.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("PRAGMA journal_mode=DELETE"); err != nil {
			t.Fatal(err)
		}
		if _, err := New(t.Context(), path, Options{}); !errors.Is(err, ErrNotWAL) || !strings.Contains(err.Error(), `"delete"`) {
			t.Errorf("New: %v", err)
		}
	})
	t.Run("locked", func(t *testing.T) {
		db, path := openServer(t)
		c, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, q := range []string{"PRAGMA locking_mode=EXCLUSIVE", "INSERT INTO log(round) VALUES(1)"} {
			if _, err := c.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		var coded *Error
		if _, err := New(t.Context(), path, Options{BusyTimeout: -1}); !errors.As(err, &coded) || coded.Code&0xff != 5 {
			t.Errorf("New: %v", err)
		}
	})
	t.Run("replaced", func(t *testing.T) {
		db, path := openServer(t)
		src := newSource(t, path, Options{})
		v := pin(t, src)
		defer v.Close()
		if err := os.Rename(path, path+".old"); err != nil {
			t.Fatal(err)
		}
		if err := v.Settle(t.Context()); !errors.Is(err, ErrReplaced) {
			t.Errorf("Settle: %v", err)
		}
		var coded *Error
		if _, err := src.Pin(t.Context()); !errors.As(err, &coded) || coded.Code&0xff != 14 {
			t.Errorf("Pin: %v", err)
		}
		if err := os.Rename(path+".old", path); err != nil {
			t.Fatal(err)
		}
		if err := write(t.Context(), db, rand.New(rand.NewPCG(1, 1)), 1, 1); err != nil {
			t.Fatal(err)
		}
	})
}
