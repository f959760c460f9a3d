package pieces_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/e2e/database"
	"github.com/holdstill/holdstill/snapshot/rest/e2e/openapi"
	"github.com/holdstill/holdstill/snapshot/rest/pieces"
)

// A brake holds something up: what passes while it is closed says so and waits.
type brake struct {
	mu     sync.Mutex
	closed chan struct{}
	// waits hears of each that waits.
	waits chan struct{}
}

func newBrake() *brake { return &brake{waits: make(chan struct{}, 100)} }

func (b *brake) close() (open func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	closed := make(chan struct{})
	b.closed = closed
	return sync.OnceFunc(func() {
		b.mu.Lock()
		b.closed = nil
		b.mu.Unlock()
		close(closed)
	})
}

func (b *brake) pass(ctx context.Context) error {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed == nil {
		return nil
	}
	b.waits <- struct{}{}
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Pin makes a brake a source that holds up creations.
func (b *brake) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{FS: fstest.MapFS{"brake": {Data: []byte("on the way"), Mode: 0o644}}, Settle: b.pass}, nil
}

// A server has rows in Pebble and the texts of assets in files, and answers as Pieces OS does.
type server struct {
	db  *database.DB
	url string
	// creating and stopping hold up creations, and restores before they stop the database.
	creating, stopping *brake
	assets             string
	restoredAssets     string
	checker            *openapi.Checker
}

func newServer(t testing.TB) *server {
	t.Helper()
	root := t.TempDir()
	s := &server{creating: newBrake(), stopping: newBrake(), assets: filepath.Join(root, "assets"), restoredAssets: filepath.Join(root, "restored")}
	for id, text := range map[string]string{"a1": "func main() {}", "a2": "select 1", "a3": "#include <stdio.h>"} {
		folder := filepath.Join(s.assets, id)
		if err := errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, "text"), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	source, err := snapshot.Dir(s.assets, snapshot.DirOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	})
	s.db = database.New(t, database.Options{Dir: root, Version: "11.0.1", Configure: func(c *snapshot.Config) {
		c.Sources["assets"], c.Sources["brake"] = source, s.creating
	}})
	restore := s.db.RestoreOptions()
	stop := restore.Stop
	restore.Stop = func(ctx context.Context) error {
		if err := s.stopping.pass(ctx); err != nil {
			return err
		}
		return stop(ctx)
	}
	handler, err := pieces.New(s.db.Engine(), pieces.Options{
		Restore: restore,
		Assets: func(_ context.Context, assets []pieces.Asset) ([]string, error) {
			var patterns []string
			for _, a := range assets {
				if !slices.Contains([]string{"a1", "a2", "a3"}, a.ID) {
					return nil, errors.New("there is no such asset")
				}
				patterns = append(patterns, "assets/"+a.ID+"/**")
			}
			return patterns, nil
		},
		RestoreAssets: func(context.Context, *snapshot.Snapshot) (snapshot.RestoreOptions, error) {
			return snapshot.RestoreOptions{To: s.restoredAssets, Source: "assets"}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.checker = openapi.New(t, pieces.OpenAPI())
	listener := httptest.NewServer(s.checker.Handler(http.Handler(handler), ""))
	s.url = listener.URL
	t.Cleanup(func() {
		if err := handler.Close(); err != nil {
			t.Error(err)
		}
		listener.CloseClientConnections()
		listener.Close()
	})
	return s
}

// rows returns all rows of the database.
func (s *server) rows(t testing.TB) map[string]string {
	t.Helper()
	rows, err := s.db.Rows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rows
}
