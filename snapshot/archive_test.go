package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
)

// stillSource is a Source over files that do not change.
type stillSource struct {
	files fs.FS
	hint  func(string) Hint
}

func (s stillSource) Pin(context.Context) (*View, error) {
	return &View{FS: s.files, Hint: s.hint, Kind: "still", Epoch: "1", Position: "7"}, nil
}

func archiveEngine(t testing.TB, sources map[string]Source) *Engine {
	t.Helper()
	b := memblob.OpenBucket(nil)
	e, err := Open(context.Background(), Config{Bucket: b, Sources: sources})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	})
	return e
}

func archiveFiles() fstest.MapFS {
	when := time.Date(2025, 3, 1, 12, 0, 0, 123456789, time.UTC)
	return fstest.MapFS{
		"000012.sst":       {Data: tableRows(1, 3<<20), Mode: 0o644, ModTime: when},
		"bolt.db":          {Data: tableRows(2, 300_000), Mode: 0o640, ModTime: when},
		"empty":            {Mode: 0o600, ModTime: when},
		"log/000001.wl":    {Data: tableRows(3, 700_001), Mode: 0o644, ModTime: when.AddDate(-400, 0, 0)},
		"log.d":            {Data: []byte("sorts between log and log/"), Mode: 0o644, ModTime: when},
		"void":             {Mode: fs.ModeDir | 0o755, ModTime: when},
		"no time, no mode": {Data: []byte("x")},
		"line\nfeed \\ ä":  {Data: []byte("y"), Mode: 0o644, ModTime: when},
		strings.Repeat("long", 50) + "/" + strings.Repeat("name", 60): {Data: []byte("z"), Mode: 0o644, ModTime: when},
	}
}

func archiveHints(name string) Hint {
	switch filepath.Ext(name) {
	case ".sst":
		return Hint{Class: Immutable, Identity: "12\x00\xff"}
	case ".db":
		return Hint{Class: Paged, PageSize: 8192}
	case ".wl":
		return Hint{Class: AppendOnly}
	}
	return Hint{}
}

// exported makes a snapshot with attachments and exports it.
func exported(t testing.TB, files fstest.MapFS, opts ExportOptions) (*Engine, *Snapshot, []byte) {
	t.Helper()
	e := archiveEngine(t, map[string]Source{"kv": stillSource{WithFolders(files), archiveHints}, "meta": stillSource{WithFolders(fstest.MapFS{"a": {Data: []byte("m"), Mode: 0o600}}), nil}})
	s, err := e.Create(t.Context(), CreateOptions{Label: "out", Description: "d", Metadata: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"settings", "log.txt"} {
		if err := e.Attach(t.Context(), s.ID, name, strings.NewReader("content of "+name)); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := e.Export(t.Context(), s.ID, &b, opts); err != nil {
		t.Fatal(err)
	}
	return e, s, b.Bytes()
}

// smallArchive is one without compression that has few bytes.
func smallArchive(t testing.TB) []byte {
	_, _, data := exported(t, fstest.MapFS{"CURRENT": {Data: []byte("MANIFEST-1"), Mode: 0o644}, "log/1": {Data: tableRows(1, 1500), Mode: 0o644}}, ExportOptions{Compression: CompressNone})
	return data
}

func tableOf(t testing.TB, e *Engine, s *Snapshot) (out []repo.File) {
	t.Helper()
	for f, err := range e.repo.Files(t.Context(), s) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// The same files, chunks, hints and attachments come back, in whatever form they travel.
func TestExportAndImport(t *testing.T) {
	for _, c := range []Compression{"", CompressZstd, CompressGzip, CompressNone} {
		t.Run(string(c), func(t *testing.T) {
			e, s, data := exported(t, archiveFiles(), ExportOptions{Compression: c})
			to := archiveEngine(t, nil)
			got, err := to.Import(t.Context(), bytes.NewReader(data), ImportOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tableOf(t, e, s), tableOf(t, to, got)); d != "" {
				t.Error(d)
			}
			want := *s
			want.Stats, want.Table = got.Stats, got.Table
			if d := cmp.Diff(&want, got); d != "" {
				t.Error(d)
			}
			listed, err := to.Get(t.Context(), s.ID)
			if d := cmp.Diff(got, listed); d != "" || err != nil {
				t.Error(d, err)
			}
			for _, name := range []string{"settings", "log.txt"} {
				if a, err := to.repo.ReadAttachment(t.Context(), s.ID, name); err != nil || string(a) != "content of "+name {
					t.Errorf("%s: %q, %v", name, a, err)
				}
			}
			if report, err := to.repo.Check(t.Context(), repo.CheckOptions{ReadData: true}); err != nil || !report.OK() {
				t.Errorf("%+v, %v", report, err)
			}
			if _, err := to.Import(t.Context(), bytes.NewReader(data), ImportOptions{}); !errors.Is(err, repo.ErrExists) {
				t.Errorf("a second time: %v", err)
			}
			again, err := to.Import(t.Context(), bytes.NewReader(data), ImportOptions{ID: "other", NoAttachments: true})
			if err != nil || again.ID != "other" || again.Stats.BytesNew != 0 {
				t.Errorf("%+v, %v", again, err)
			}
			for a, err := range to.Attachments(t.Context(), "other") {
				t.Errorf("it has %v, %v", a, err)
			}
		})
	}
}

// wantRefused imports what must be refused, and looks that nothing is left.
func wantRefused(t *testing.T, what string, r io.Reader, want error, opts ImportOptions) error {
	t.Helper()
	e := archiveEngine(t, nil)
	s, err := e.Import(t.Context(), r, opts)
	if !errors.Is(err, want) || s != nil {
		t.Errorf("%s: %v", what, err)
	}
	it := e.bucket.List(nil)
	for o, err := it.Next(t.Context()); err == nil; o, err = it.Next(t.Context()) {
		if o.Key != "holdstill.json" {
			t.Errorf("%s: left %s", what, o.Key)
		}
	}
	return err
}

// An archive that ends early is refused wherever it ends.
func TestImportRefusesWhatIsCutOff(t *testing.T) {
	data := smallArchive(t)
	end := len(bytes.TrimRight(data, "\x00")) // what follows are zeros without meaning
	for n := 0; n < end; n += 97 {
		wantRefused(t, fmt.Sprintf("%d bytes", n), bytes.NewReader(data[:n]), ErrArchive, ImportOptions{})
	}
	for _, c := range []Compression{CompressZstd, CompressGzip} {
		_, _, data := exported(t, fstest.MapFS{"a": {Data: tableRows(1, 20_000)}}, ExportOptions{Compression: c})
		for n := 1; n < len(data); n += len(data)/20 + 1 {
			wantRefused(t, fmt.Sprintf("%s, %d bytes", c, n), bytes.NewReader(data[:n]), ErrArchive, ImportOptions{})
		}
		wantRefused(t, string(c)+" without its last byte", bytes.NewReader(data[:len(data)-1]), ErrArchive, ImportOptions{})
	}
}

// A bit that flips is found, or had no meaning.
func TestImportFindsDamage(t *testing.T) {
	data := smallArchive(t)
	e := archiveEngine(t, nil)
	want, err := e.Import(t.Context(), bytes.NewReader(data), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	table := tableOf(t, e, want)
	// One engine for all: what is refused leaves nothing, and what is not is deleted.
	to := archiveEngine(t, nil)
	tried, harmless := 0, 0
	for n := 0; n < len(data); n += 3 {
		// Amid zeros, which fill up blocks, one in ten is enough.
		around := data[max(0, n-8):min(len(data), n+8)]
		if n%10 > 0 && len(bytes.Trim(around, "\x00")) == 0 {
			continue
		}
		tried++
		hurt := bytes.Clone(data)
		hurt[n] ^= 1 << (n % 8)
		got, err := to.Import(t.Context(), bytes.NewReader(hurt), ImportOptions{})
		if err != nil {
			if !errors.Is(err, ErrArchive) && !errors.Is(err, ErrBadID) {
				t.Fatalf("byte %d: %v", n, err)
			}
			continue
		}
		harmless++
		got.Stats = want.Stats
		if d := cmp.Diff(want, got) + cmp.Diff(table, tableOf(t, to, got)); d != "" {
			t.Fatalf("byte %d changed: %s", n, d)
		}
		if err := to.Delete(t.Context(), got.ID); err != nil {
			t.Fatal(err)
		}
	}
	if harmless > tried*9/10 {
		t.Errorf("%d of %d changes were not found: this test shows nothing", harmless, tried)
	}
	t.Logf("%d of %d changes were not found, of %d bytes", harmless, tried, len(data))
}

// memberOf is a member of an archive that a forger makes.
type memberOf struct {
	tar.Header
	data []byte
}

func unpack(t testing.TB, data []byte) (out []memberOf) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, memberOf{*h, content})
	}
}

// forge writes members with checksums and an end that are right.
func forge(t testing.TB, members []memberOf) []byte {
	t.Helper()
	var b bytes.Buffer
	w, l := tar.NewWriter(&b), newLedger()
	write := func(m memberOf) {
		m.Size = int64(len(m.data))
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.data); err != nil && m.Typeflag == tar.TypeReg {
			t.Fatal(err)
		}
	}
	for _, m := range members {
		switch {
		case strings.HasPrefix(m.Name, archiveSums):
			m.data = bytes.Clone(l.lines)
			l.lines = l.lines[:0]
			l.lists++
		case m.Name == archiveEnd:
			m.data, _ = json.Marshal(l.end())
		}
		write(m)
		sum := sha256.Sum256(m.data)
		l.member(strings.TrimSuffix(m.Name, "/"), m.Typeflag == tar.TypeDir, int64(len(m.data)), m.PAXRecords[archiveRecord], sum[:])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestImportRefusesForgeries(t *testing.T) {
	whole := unpack(t, smallArchive(t))
	at := func(name string) int {
		return slices.IndexFunc(whole, func(m memberOf) bool { return m.Name == name })
	}
	current, log := at("kv/CURRENT"), at("kv/log/1")
	if current < 0 || log < 0 {
		t.Fatal("the archive is another one")
	}
	if _, err := archiveEngine(t, nil).Import(t.Context(), bytes.NewReader(forge(t, whole)), ImportOptions{}); err != nil {
		t.Fatalf("what is forged to be the same: %v", err)
	}
	rename := func(n int, name string) func([]memberOf) []memberOf {
		return func(m []memberOf) []memberOf { m[n].Name = name; return m }
	}
	record := func(value string) func([]memberOf) []memberOf {
		return func(m []memberOf) []memberOf { m[current].PAXRecords[archiveRecord] = value; return m }
	}
	kind := func(flag byte, link string) func([]memberOf) []memberOf {
		return func(m []memberOf) []memberOf {
			m[current].Typeflag, m[current].Linkname, m[current].data = flag, link, nil
			return m
		}
	}
	manifest := func(change func(*Snapshot)) func([]memberOf) []memberOf {
		return func(m []memberOf) []memberOf {
			var doc archivedManifest
			if err := json.Unmarshal(m[0].data, &doc); err != nil {
				t.Fatal(err)
			}
			change(doc.Snapshot)
			m[0].data, _ = json.Marshal(doc)
			return m
		}
	}
	for name, change := range map[string]func([]memberOf) []memberOf{
		"up and away":                 rename(current, "../CURRENT"),
		"up from within":              rename(current, "kv/../../CURRENT"),
		"absolute":                    rename(current, "/etc/passwd"),
		"longer than any path":        rename(current, "kv/"+strings.Repeat("x", 4094)),
		"a dot":                       rename(current, "./kv/CURRENT"),
		"two slashes":                 rename(current, "kv//CURRENT"),
		"beside the sources":          rename(current, "CURRENT"),
		"another source":              rename(current, "kw/CURRENT"),
		"out of order":                rename(current, "kv/zzz"),
		"its own folder":              rename(current, archiveFolder+"/x"),
		"an attachment too early":     rename(current, archiveAttachments+"x"),
		"a symbolic link":             kind(tar.TypeSymlink, "/etc/passwd"),
		"a hard link":                 kind(tar.TypeLink, "kv/log/1"),
		"a device":                    kind(tar.TypeChar, ""),
		"a fifo":                      kind(tar.TypeFifo, ""),
		"no record":                   func(m []memberOf) []memberOf { delete(m[current].PAXRecords, archiveRecord); return m },
		"a record with less":          record("644 0 0 0 0"),
		"a record in other form":      record("0644 0 0 0 0 -"),
		"a record with too much time": record("644 0 1000000000 0 0 -"),
		"set user ID":                 record("4644 0 0 0 0 -"),
		"pages that cannot be":        record("644 0 0 2 12345 -"),
		"an unknown record": func(m []memberOf) []memberOf {
			m[current].PAXRecords["SCHILY.xattr.user.x"] = "1"
			return m
		},
		"twice":         func(m []memberOf) []memberOf { return slices.Insert(m, current, m[current]) },
		"one missing":   func(m []memberOf) []memberOf { return slices.Delete(m, current, current+1) },
		"no end":        func(m []memberOf) []memberOf { return m[:len(m)-1] },
		"after the end": func(m []memberOf) []memberOf { return append(m, m[current]) },
		"no list":       func(m []memberOf) []memberOf { return slices.Delete(m, len(m)-2, len(m)-1) },
		"no manifest":   func(m []memberOf) []memberOf { return m[1:] },
		"two manifests": func(m []memberOf) []memberOf { return slices.Insert(m, 1, m[0]) },
		"no folder":     func(m []memberOf) []memberOf { return slices.Delete(m, log-1, log) },
		"attachments out of order": func(m []memberOf) []memberOf {
			n := slices.IndexFunc(m, func(m memberOf) bool { return strings.HasPrefix(m.Name, archiveAttachments) })
			m[n], m[n+1] = m[n+1], m[n]
			return m
		},
		"a manifest that tells of fewer files":   manifest(func(s *Snapshot) { s.Stats.Files-- }),
		"a manifest that tells of more files":    manifest(func(s *Snapshot) { s.Stats.Files++ }),
		"a manifest that tells of fewer bytes":   manifest(func(s *Snapshot) { s.Stats.Bytes-- }),
		"a manifest with impossible figures":     manifest(func(s *Snapshot) { s.Stats.Bytes = -1 }),
		"a manifest with a source that leads up": manifest(func(s *Snapshot) { s.Sources[0].Name = ".." }),
		"a manifest with a source twice":         manifest(func(s *Snapshot) { s.Sources[1].Name = s.Sources[0].Name }),
		"a manifest of a later format":           func(m []memberOf) []memberOf { m[0].data = []byte(`{"format":2}`); return m },
		"a manifest without a snapshot":          func(m []memberOf) []memberOf { m[0].data = []byte(`{"format":1}`); return m },
	} {
		members := slices.Clone(whole)
		for i := range members {
			members[i].PAXRecords = maps.Clone(members[i].PAXRecords)
		}
		t.Run(name, func(t *testing.T) {
			wantRefused(t, name, bytes.NewReader(forge(t, change(members))), ErrArchive, ImportOptions{})
		})
	}
}

func TestImportRefuses(t *testing.T) {
	data := smallArchive(t)
	broken := errors.New("connection reset")
	wantRefused(t, "a reader that fails", io.MultiReader(bytes.NewReader(data[:3000]), failingReader{broken}), broken, ImportOptions{})
	wantRefused(t, "nothing", strings.NewReader(""), ErrArchive, ImportOptions{})
	wantRefused(t, "text", strings.NewReader(strings.Repeat("not an archive ", 1000)), ErrArchive, ImportOptions{})
	wantRefused(t, "what follows", io.MultiReader(bytes.NewReader(data), strings.NewReader("more")), ErrArchive, ImportOptions{})
	wantRefused(t, "zeros for ever", io.MultiReader(bytes.NewReader(data), zeroReader{}), ErrArchive, ImportOptions{})
	wantRefused(t, "too many bytes", bytes.NewReader(data), ErrArchive, ImportOptions{MaxBytes: 100})
	wantRefused(t, "too many files", bytes.NewReader(data), ErrArchive, ImportOptions{MaxFiles: 3})
	wantRefused(t, "a bad ID", bytes.NewReader(data), ErrBadID, ImportOptions{ID: "../x"})
	wantRefused(t, "a bad bound", bytes.NewReader(data), ErrConfig, ImportOptions{MaxBytes: -1})
	e := archiveEngine(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	_, err := e.Import(ctx, io.MultiReader(bytes.NewReader(data[:4000]), readerFunc(func([]byte) (int, error) { cancel(stopped); return 0, nil }), bytes.NewReader(data[4000:])), ImportOptions{})
	if !errors.Is(err, stopped) {
		t.Error(err)
	}
	if err := e.Export(t.Context(), "x", io.Discard, ExportOptions{}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	other, snap, _ := exported(t, archiveFiles(), ExportOptions{})
	if err := other.Export(t.Context(), snap.ID, io.Discard, ExportOptions{Compression: "lzma"}); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}

// An export whose writer fails, or whose repository does, leaves what Import refuses.
func TestExportFails(t *testing.T) {
	for _, c := range []Compression{CompressZstd, CompressGzip, CompressNone} {
		e, s, _ := exported(t, archiveFiles(), ExportOptions{})
		full := errors.New("disk full")
		if err := e.Export(t.Context(), s.ID, &limitedWriter{left: 100_000, err: full}, ExportOptions{Compression: c}); !errors.Is(err, full) {
			t.Errorf("%s: %v", c, err)
		}
		it := e.bucket.List(nil)
		for o, err := it.Next(t.Context()); err == nil; o, err = it.Next(t.Context()) {
			if strings.HasPrefix(o.Key, "pack/") && o.Size > 500_000 {
				if err := e.bucket.Delete(t.Context(), o.Key); err != nil {
					t.Fatal(err)
				}
			}
		}
		var b bytes.Buffer
		if err := e.Export(t.Context(), s.ID, &b, ExportOptions{Compression: c}); !errors.Is(err, repo.ErrMissing) {
			t.Errorf("%s: %v", c, err)
		}
		wantRefused(t, string(c), &b, ErrArchive, ImportOptions{})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) {
	n, err := f(p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type limitedWriter struct {
	left int
	err  error
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	n := min(w.left, len(p))
	w.left -= n
	if n < len(p) {
		return n, w.err
	}
	return n, nil
}

func FuzzImport(f *testing.F) {
	data := smallArchive(f)
	f.Add(data)
	f.Add(data[:2000])
	f.Add(forge(f, unpack(f, data)))
	_, _, packed := exported(f, fstest.MapFS{"a": {Data: []byte("x")}}, ExportOptions{})
	f.Add(packed)
	e := archiveEngine(f, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := e.Import(context.Background(), bytes.NewReader(data), ImportOptions{ID: "fuzz", MaxBytes: 1 << 20, MaxFiles: 1000})
		if err != nil {
			if s != nil || !errors.Is(err, ErrArchive) && !errors.Is(err, repo.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if _, err := e.OpenFS(context.Background(), "fuzz"); err != nil {
			t.Error(err)
		}
		if err := e.Delete(context.Background(), "fuzz"); err != nil {
			t.Error(err)
		}
	})
}

func FuzzArchiveRecord(f *testing.F) {
	f.Add("644 0 0 0 0 -")
	f.Add("7777 -62135596800 999999999 3 4096 00ff")
	f.Fuzz(func(t *testing.T, record string) {
		var file repo.File
		if parseRecord(record, &file) == nil && formatRecord(&file) != record {
			t.Errorf("%q comes back as %q", record, formatRecord(&file))
		}
	})
}
