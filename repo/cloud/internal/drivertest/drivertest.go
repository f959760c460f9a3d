// Package drivertest is what every driver of repo/cloud has to pass, against a real server.
package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/repotest"
)

// Store says how to reach a server.
type Store struct {
	// Section is the section of a config that reaches it, with its type.
	Section map[string]string
	// Bucket is a bucket that exists and is empty, NoBucket one that does not exist.
	Bucket, NoBucket string
	// Refused are sections that the server refuses.
	Refused []Refusal
	// Invalid are sections that cannot be opened, and what the error says.
	Invalid []Invalid
}

// Refusal is a section that the server refuses, and the error for it.
type Refusal struct {
	Name    string
	Section map[string]string
	Want    error
}

// Invalid is a change to Store.Section, "" to leave a key out, and what the error must say of it.
type Invalid struct {
	Change map[string]string
	Says   string
}

// quick tries again without much ado.
var quick = repo.Retry{Attempts: 3, Base: 10 * time.Millisecond, Max: 50 * time.Millisecond}

// Secret stands in values that must show nowhere.
const Secret = "canary-hW5kZ2"

// Open opens a place in the store.
func Open(t testing.TB, section map[string]string, where string) *blob.Bucket {
	t.Helper()
	b, err := open(t.Context(), section, where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func open(ctx context.Context, section map[string]string, where string) (*blob.Bucket, error) {
	l, err := repo.ParseLocation("store:"+where, repo.LocationConfig{"store": section})
	if err != nil {
		return nil, err
	}
	return repo.OpenLocation(ctx, l, repo.OpenLocationOptions{})
}

// Run runs the suite.
func Run(t *testing.T, s Store) {
	t.Run("Suite", func(t *testing.T) {
		repotest.Run(t, func(t *testing.T) *blob.Bucket {
			return Open(t, s.Section, fmt.Sprintf("%s/%s %016x", s.Bucket, strings.ReplaceAll(t.Name(), "/", "_"), rand.Uint64()))
		})
	})
	t.Run("Prefix", func(t *testing.T) { prefix(t, s) })
	t.Run("Refused", func(t *testing.T) { refused(t, s) })
	t.Run("NoBucket", func(t *testing.T) { noBucket(t, s) })
	t.Run("Invalid", func(t *testing.T) { invalid(t, s) })
	t.Run("Cancelled", func(t *testing.T) { cancelled(t, s) })
	t.Run("JobsResume", func(t *testing.T) { resumed(t, s) })
	t.Run("JobErrors", func(t *testing.T) { jobErrors(t, s) })
	t.Run("OneRequest", func(t *testing.T) { oneRequest(t, s) })
}

// prefix: repositories in one bucket do not see each other.
func prefix(t *testing.T, s Store) {
	outer, inner := Open(t, s.Section, s.Bucket+"/prefix"), Open(t, s.Section, s.Bucket+"/prefix/inner")
	if err := repo.Init(t.Context(), inner, repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Open(t.Context(), outer, repo.Options{}); !errors.Is(err, repo.ErrNotRepository) {
		t.Errorf("the place around a repository: %v", err)
	}
	if ok, err := outer.Exists(t.Context(), "inner/holdstill.json"); err != nil || !ok {
		t.Errorf("the repository is not where its path says: %v, %v", ok, err)
	}
	if _, err := open(t.Context(), s.Section, ""); !errors.Is(err, repo.ErrLocation) || !strings.Contains(err.Error(), "store:bucket/path") {
		t.Errorf("no bucket is named: %v", err)
	}
}

// refused: no error of credentials looks like an empty place, and none shows a secret.
func refused(t *testing.T, s Store) {
	for _, r := range s.Refused {
		t.Run(r.Name, func(t *testing.T) {
			var log strings.Builder
			opts := repo.Options{Retry: quick, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
			b := Open(t, r.Section, s.Bucket+"/refused")
			_, openErr := repo.Open(t.Context(), b, opts)
			initErr := repo.Init(t.Context(), b, repo.InitOptions{Retry: quick})
			for what, err := range map[string]error{"Open": openErr, "Init": initErr} {
				if !errors.Is(err, r.Want) || errors.Is(err, repo.ErrNotRepository) || errors.Is(err, repo.ErrRepositoryExists) {
					t.Errorf("%s: %v, want %v", what, err, r.Want)
				}
				if text := fmt.Sprintf("%v\n%+v\n%s", err, err, log.String()); strings.Contains(text, Secret) {
					t.Errorf("%s shows a secret: %s", what, text)
				}
			}
		})
	}
}

func noBucket(t *testing.T, s Store) {
	b := Open(t, s.Section, s.NoBucket+"/x")
	_, err := repo.Open(t.Context(), b, repo.Options{Retry: quick})
	if !errors.Is(err, repo.ErrNoBucket) || errors.Is(err, repo.ErrNotRepository) {
		t.Errorf("Open: %v", err)
	}
	if err := repo.Init(t.Context(), b, repo.InitOptions{Retry: quick}); !errors.Is(err, repo.ErrNoBucket) {
		t.Errorf("Init: %v", err)
	}
}

func invalid(t *testing.T, s Store) {
	for _, i := range append(s.Invalid, Invalid{map[string]string{"no_such_key": Secret}, `key "no_such_key"`}) {
		section := maps.Clone(s.Section)
		for key, value := range i.Change {
			if section[key] = value; value == "" {
				delete(section, key)
			}
		}
		b, err := open(t.Context(), section, s.Bucket)
		if err == nil {
			t.Errorf("%v: taken", i.Change)
			_ = b.Close()
			continue
		}
		var lerr *repo.LocationError
		if text := fmt.Sprintf("%v %+v %#v", err, err, err); !errors.As(err, &lerr) || !strings.Contains(err.Error(), i.Says) || strings.Contains(text, Secret) {
			t.Errorf("%v: %v", i.Change, err)
		}
	}
}

// cancelled: a session whose context ends while it stores leaves nothing that counts.
func cancelled(t *testing.T, s Store) {
	b := Open(t, s.Section, s.Bucket+"/cancelled")
	if err := repo.Init(t.Context(), b, repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), b, repo.Options{PackSize: 1 << 20, Retry: quick})
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 12<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	for _, after := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(after, cancel)
		if err := repotest.Store(ctx, r, fmt.Sprintf("s%d", after), data); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("after %v: %v", after, err)
		}
		cancel()
	}
	repotest.Sound(t, r)
	// A server may go on with a request that was cancelled, and store what was deleted before: that is garbage, which the
	// next collection takes.
	for begin := time.Now(); ; {
		if _, err := r.Collect(t.Context(), repo.CollectOptions{MinDead: 1, LeaseTimeout: time.Second}); err != nil {
			t.Fatal(err)
		}
		obj, err := b.List(&blob.ListOptions{Prefix: "pack/"}).Next(t.Context())
		if err == io.EOF || err == nil && len(repotest.IDs(t, r)) > 0 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) > time.Minute {
			t.Fatalf("%s is left", obj.Key)
		}
	}
}

// oneRequest: an object of any size travels in one attempt, and is counted once.
func oneRequest(t *testing.T, s Store) {
	b := Open(t, s.Section, s.Bucket+"/one")
	if err := repo.Init(t.Context(), b, repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), b, repo.Options{PackSize: 20 << 20, Retry: repo.Retry{Attempts: 1}})
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 19<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data)
	if err := repotest.Store(t.Context(), r, "large", data); err != nil {
		t.Fatal(err)
	}
	got, err := repotest.Read(t.Context(), r, "large")
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, error %v", len(got), err)
	}
	traffic := r.Traffic()
	if traffic.Retries != 0 || traffic.BytesSent < int64(len(data)) || traffic.BytesReceived < int64(len(data)) || traffic.BytesSent > int64(len(data))*11/10 {
		t.Errorf("%+v", traffic)
	}
}
