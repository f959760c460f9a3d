package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

func TestRegister(t *testing.T) {
	dir := writableDir(t)
	there := openEngine(t, snapshot.Config{Repository: "local:" + filepath.Join(dir, "there"), Sources: map[string]snapshot.Source{"kv": &memory{files: sample()}}})
	far := create(t, there, snapshot.CreateOptions{Label: "far", Metadata: map[string]string{"region": "north"}})
	bucket := newBucket(t)
	here := openEngine(t, snapshot.Config{Bucket: bucket, Locations: repo.LocationConfig{"NORTH": {"type": "local", "description": "hunter2"}}})
	for _, id := range []string{"1", "3"} {
		commitNamed(t, here, snapshot.Snapshot{ID: id, Created: far.Created})
	}
	ctx := t.Context()
	where := "NORTH:" + filepath.Join(dir, "there")
	got, err := here.Register(ctx, far.ID, where, snapshot.RegisterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != far.ID || got.Location != where {
		t.Errorf("registered %+v", got)
	}
	for _, test := range []struct {
		filter snapshot.Filter
		want   string
	}{
		{snapshot.Filter{}, "1 3"},
		{snapshot.Filter{Registered: true}, "1 " + far.ID + " 3"},
		{snapshot.Filter{Registered: true, NewestFirst: true}, "3 " + far.ID + " 1"},
		{snapshot.Filter{Registered: true, NewestFirst: true, After: "3", Limit: 1}, far.ID},
		{snapshot.Filter{Registered: true, After: far.ID}, "3"},
		{snapshot.Filter{Registered: true, After: "4"}, ""},
		{snapshot.Filter{Registered: true, Order: snapshot.OrderCreated}, "1 " + far.ID + " 3"},
		{snapshot.Filter{Registered: true, Order: snapshot.OrderCreated, After: far.ID}, "3"},
		{snapshot.Filter{Registered: true, Metadata: map[string]string{"region": "north"}}, far.ID},
		{snapshot.Filter{Registered: true, IDs: []string{"3", far.ID}}, far.ID + " 3"},
		{snapshot.Filter{Registered: true, Match: func(s *snapshot.Snapshot) bool { return s.Location != "" }}, far.ID},
	} {
		if got := strings.Join(listed(t, here, test.filter), " "); got != test.want {
			t.Errorf("%+v: %s, want %s", test.filter, got, test.want)
		}
	}
	if s, err := here.Get(ctx, far.ID); err != nil || s.Location != where || s.Label != "far" {
		t.Errorf("%+v, %v", s, err)
	}
	// No secret is stored.
	it := bucket.List(nil)
	for o, err := it.Next(ctx); err == nil; o, err = it.Next(ctx) {
		if data, err := bucket.ReadAll(ctx, o.Key); err != nil || strings.Contains(string(data), "hunter2") {
			t.Errorf("%s: %v", o.Key, err)
		}
	}
	to := filepath.Join(dir, "restored")
	if result, err := here.Restore(ctx, far.ID, snapshot.RestoreOptions{To: to}); err != nil || result.Bytes != far.Stats.Bytes {
		t.Fatalf("%+v, %v", result, err)
	}
	if data, err := os.ReadFile(filepath.Join(to, "kv", "CURRENT")); err != nil || string(data) != "MANIFEST-1\n" {
		t.Errorf("%q, %v", data, err)
	}
	// Nothing may replace the repository that it reads.
	if _, err := here.Restore(ctx, far.ID, snapshot.RestoreOptions{To: filepath.Join(dir, "there"), InPlace: true}); !errors.Is(err, snapshot.ErrTarget) {
		t.Error(err)
	}
	job, err := here.Download(ctx, far.ID, where, snapshot.TransferOptions{})
	if err == nil {
		err = job.Wait(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s, err := here.Get(ctx, far.ID); err != nil || s.Location != "" {
		t.Errorf("%+v, %v", s, err)
	}
	if got := strings.Join(listed(t, here, snapshot.Filter{Registered: true}), " "); got != "1 "+far.ID+" 3" {
		t.Errorf("listed %s", got)
	}
	// First what is here goes, then the registration.
	for range 2 {
		if err := here.Delete(ctx, far.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := here.Delete(ctx, far.ID); !errors.Is(err, snapshot.ErrNotFound) {
		t.Error(err)
	}
	if _, err := there.Get(ctx, far.ID); err != nil {
		t.Errorf("what is there: %v", err)
	}
}

func TestRegisterRefuses(t *testing.T) {
	dir := t.TempDir()
	there := openEngine(t, snapshot.Config{Repository: "local:" + filepath.Join(dir, "there"), Sources: map[string]snapshot.Source{"kv": &memory{files: sample()}}})
	far := create(t, there, snapshot.CreateOptions{})
	bucket := newBucket(t)
	here := openEngine(t, snapshot.Config{Bucket: bucket})
	where := "local:" + filepath.Join(dir, "there")
	var location *repo.LocationError
	if _, err := here.Register(t.Context(), far.ID, "nowhere:/x", snapshot.RegisterOptions{}); !errors.As(err, &location) {
		t.Error(err)
	}
	for _, test := range []struct {
		id, where string
		want      error
	}{
		{"x", where, snapshot.ErrNotFound},
		{"../x", where, snapshot.ErrBadID},
		{far.ID, where + "-not", repo.ErrNotRepository},
		{far.ID, where, nil},
		{far.ID, where, repo.ErrExists},
	} {
		if _, err := here.Register(t.Context(), test.id, test.where, snapshot.RegisterOptions{}); !errors.Is(err, test.want) {
			t.Errorf("%s at %s: %v", test.id, test.where, err)
		}
	}
	// What is gone there cannot be restored, and is still known here.
	if err := there.Delete(t.Context(), far.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Restore(t.Context(), far.ID, snapshot.RestoreOptions{To: filepath.Join(dir, "to")}); !errors.Is(err, snapshot.ErrNotFound) {
		t.Error(err)
	}
	// A damaged record is told, hides nothing, and can be deleted.
	if err := bucket.WriteAll(t.Context(), "remote/"+far.ID, []byte("not a record"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Get(t.Context(), far.ID); !errors.Is(err, repo.ErrCorrupt) {
		t.Error(err)
	}
	if report, err := here.Repository().Check(t.Context(), repo.CheckOptions{}); err != nil || len(report.Damage) != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	if err := here.Delete(t.Context(), far.ID); err != nil {
		t.Error(err)
	}
}

// An encrypted engine restores what it has registered from a repository that is not encrypted.
func TestRegisterFromPlainRepository(t *testing.T) {
	dir := writableDir(t)
	files := sample()
	there := openEngine(t, snapshot.Config{Repository: "local:" + filepath.Join(dir, "there"), Sources: map[string]snapshot.Source{"kv": &memory{files: files}}})
	far := create(t, there, snapshot.CreateOptions{})
	key := repo.Passphrase([]byte("correct horse"), repo.PassphraseOptions{})
	here := openEngine(t, snapshot.Config{Repository: "local:" + filepath.Join(dir, "here"), Key: key})
	where := "local:" + filepath.Join(dir, "there")
	if _, err := here.Register(t.Context(), far.ID, where, snapshot.RegisterOptions{}); !errors.Is(err, repo.ErrKey) {
		t.Errorf("under the engine's key: %v", err)
	}
	if _, err := here.Register(t.Context(), far.ID, where, snapshot.RegisterOptions{Plain: true, Key: key}); !errors.Is(err, snapshot.ErrConfig) {
		t.Errorf("plain, and with a key: %v", err)
	}
	plain := snapshot.RegisterOptions{Plain: true}
	if _, err := here.Register(t.Context(), far.ID, where, plain); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "restored")
	if _, err := here.Restore(t.Context(), far.ID, snapshot.RestoreOptions{To: to, Remote: plain}); err != nil {
		t.Fatal(err)
	}
	for name, f := range files {
		if f.Mode.IsDir() {
			continue
		}
		if data, err := os.ReadFile(filepath.Join(to, "kv", filepath.FromSlash(name))); err != nil || !bytes.Equal(data, f.Data) {
			t.Errorf("%s: %d bytes, error %v", name, len(data), err)
		}
	}
}

func ExampleEngine_Register() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "holdstill")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	north, err := snapshot.Open(ctx, snapshot.Config{
		Repository: "local:" + filepath.ToSlash(filepath.Join(dir, "north")), Sources: map[string]snapshot.Source{"orders": &table{rows: map[string]string{"42": "pending"}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer north.Close()
	snap, err := north.Create(ctx, snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		log.Fatal(err)
	}

	south, err := snapshot.Open(ctx, snapshot.Config{Repository: "local:" + filepath.ToSlash(filepath.Join(dir, "south"))})
	if err != nil {
		log.Fatal(err)
	}
	defer south.Close()
	if _, err := south.Register(ctx, snap.ID, "local:"+filepath.ToSlash(filepath.Join(dir, "north")), snapshot.RegisterOptions{}); err != nil {
		log.Fatal(err)
	}
	for s, err := range south.List(ctx, snapshot.Filter{Registered: true}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(s.Label, s.Location != "")
	}
	// Output: nightly true
}
