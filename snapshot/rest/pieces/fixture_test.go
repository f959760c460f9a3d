package pieces_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/pieces"
)

// files is a source of files that a test changes, and whose reading it can hold up.
type files struct {
	mu sync.Mutex
	fs fstest.MapFS
	// hold, if not nil, is waited for after each pin; entered hears of each that waits.
	hold    chan struct{}
	entered chan struct{}
}

func (f *files) Pin(context.Context) (*snapshot.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	frozen := fstest.MapFS{}
	for name, file := range f.fs {
		c := *file
		frozen[name] = &c
		// Without an entry a folder has the mode 0555, and what is restored to it can be removed by root alone.
		for folder := path.Dir(name); ; folder = path.Dir(folder) {
			frozen[folder] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
			if folder == "." {
				break
			}
		}
	}
	hold := f.hold
	return &snapshot.View{FS: frozen, Settle: func(ctx context.Context) error {
		if hold == nil {
			return nil
		}
		f.entered <- struct{}{}
		select {
		case <-hold:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}, nil
}

func (f *files) set(name, data string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fs[name] = &fstest.MapFile{Data: []byte(data), Mode: 0o644}
}

// block holds up all snapshots that begin from now on, until release is called.
func (f *files) block() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hold := make(chan struct{})
	f.hold = hold
	return sync.OnceFunc(func() {
		f.mu.Lock()
		f.hold = nil
		f.mu.Unlock()
		close(hold)
	})
}

// A server is a Handler that listens, with an engine and a folder to restore to.
type server struct {
	t       testing.TB
	engine  *snapshot.Engine
	handler *pieces.Handler
	url     string
	source  *files
	dir     string
	bucket  *blob.Bucket
	// stop and start, if not nil, are what stopping and starting the database do.
	stop, start func(ctx context.Context) error
}

func newServer(t testing.TB, change func(*snapshot.Config, *pieces.Options)) *server {
	t.Helper()
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "data")}
	s.source = &files{fs: fstest.MapFS{}, entered: make(chan struct{}, 100)}
	for i := range 20 {
		s.source.set(fmt.Sprintf("a%d/rows.json", i), fmt.Sprintf(`{"_key":"%d","name":"customer %x","city":"Lisbon"}`, i, i*7919))
	}
	if err := errors.Join(os.MkdirAll(s.dir, 0o755), os.WriteFile(filepath.Join(s.dir, "present"), []byte("as it is"), 0o644)); err != nil {
		t.Fatal(err)
	}
	bucket := memblob.OpenBucket(nil)
	s.bucket = bucket
	config := snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": s.source}, DatabaseVersion: "11.0.1"}
	options := pieces.Options{DeviceName: "bench 3", Restore: snapshot.RestoreOptions{
		To: s.dir, Source: "kv", InPlace: true,
		Stop: func(ctx context.Context) error {
			if s.stop == nil {
				return nil
			}
			return s.stop(ctx)
		},
		Start: func(ctx context.Context) error {
			if s.start == nil {
				return nil
			}
			return s.start(ctx)
		},
	}}
	if change != nil {
		change(&config, &options)
	}
	var err error
	if s.engine, err = snapshot.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if s.handler, err = pieces.New(s.engine, options); err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(s.handler)
	s.url = listener.URL
	t.Cleanup(func() {
		if err := s.handler.Close(); err != nil && !errors.Is(err, pieces.ErrClosed) {
			t.Error(err)
		}
		listener.CloseClientConnections()
		listener.Close()
		if err := s.engine.Close(); err != nil && !errors.Is(err, snapshot.ErrClosed) {
			t.Error(err)
		}
		bucket.Close()
	})
	return s
}

type reply struct {
	code   int
	header http.Header
	body   string
}

// send makes a request: header holds keys and values in turn.
func (s *server) send(method, path, body string, header ...string) reply {
	s.t.Helper()
	r, err := s.try(s.t.Context(), method, path, body, header...)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *server) try(ctx context.Context, method, path, body string, header ...string) (reply, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, string(data)}, err
}

// want checks the status of a reply.
func (s *server) want(r reply, code int) reply {
	s.t.Helper()
	if r.code != code {
		s.t.Fatalf("status %d, want %d; body %q", r.code, code, r.body)
	}
	if kind := r.header.Get("Content-Type"); code >= 400 && (!strings.HasPrefix(kind, "text/plain") || strings.Count(r.body, "\n") != 1) {
		s.t.Errorf("an error of type %q: %q", kind, r.body)
	}
	return r
}

type backupBody struct {
	ID, Version, Timestamp string
	Bytes                  int64
	Created                struct{ Value string }
	DeviceName             string `json:"device_name"`
	Platform               string
}

func (b *backupBody) name() string { return b.Version + "_" + b.Timestamp }

type progressBody struct {
	Status     string
	Percentage *int
	Backup     *backupBody
}

type statusBody struct {
	Backup     backupBody
	Value      string
	Percentage int
}

type allBody struct{ Backups, Restorations []progressBody }

type backupsBody struct {
	Iterable []backupBody
	Indices  map[string]int
}

// decode reads all of a body as one JSON object.
func decode[T any](t testing.TB, body string) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(body))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("more than one object: %q", body)
	}
	return v
}

func (s *server) create() backupBody {
	s.t.Helper()
	return decode[backupBody](s.t, s.want(s.send("POST", "/backups/create", `{"schema":{"migration":1}}`), 200).body)
}

func (s *server) list() backupsBody {
	s.t.Helper()
	return decode[backupsBody](s.t, s.want(s.send("GET", "/backups", ""), 200).body)
}

// running waits until a creation is being held up, and returns its Backup.
func (s *server) running() backupBody {
	s.t.Helper()
	select {
	case <-s.source.entered:
	case <-time.After(time.Minute):
		s.t.Fatal("no creation began")
	}
	all := decode[allBody](s.t, s.want(s.send("GET", "/backups/streamed/progress", ""), 200).body)
	for _, p := range all.Backups {
		if p.Backup != nil {
			return *p.Backup
		}
	}
	s.t.Fatalf("no creation is under way: %+v", all)
	return backupBody{}
}

// later runs a request beside the test.
func (s *server) later(method, path, body string, header ...string) <-chan reply {
	out := make(chan reply, 1)
	go func() {
		r, err := s.try(context.Background(), method, path, body, header...)
		if err != nil {
			r.body += " error: " + err.Error()
		}
		out <- r
	}()
	return out
}

// restored reads what stands in the folder.
func (s *server) restored(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, filepath.FromSlash(name)))
	if errors.Is(err, os.ErrNotExist) {
		return "none"
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return string(bytes.TrimSpace(data))
}

// A stream is a response that is read bit by bit.
type stream struct {
	t      testing.TB
	answer *http.Response
}

func (s *server) open(method, path, accept string) *stream {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { answer.Body.Close() })
	return &stream{s.t, answer}
}

// read waits for n bytes.
func (s *stream) read(n int) string {
	s.t.Helper()
	data := make([]byte, n)
	if _, err := io.ReadFull(s.answer.Body, data); err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

// rest reads to the end.
func (s *stream) rest() reply {
	s.t.Helper()
	data, err := io.ReadAll(s.answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{s.answer.StatusCode, s.answer.Header, string(data)}
}
