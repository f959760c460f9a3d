package repotest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/repotest"
)

func newHooked(t testing.TB) (*repotest.HookedBucket, *blob.Bucket) {
	inner := memblob.OpenBucket(nil)
	b := repotest.NewHooked(inner)
	t.Cleanup(func() { _ = errors.Join(b.Close(), inner.Close()) })
	return b, inner
}

// What stands behind a hook is as good a store as before.
func TestHooked(t *testing.T) {
	repotest.Run(t, func(t *testing.T) *blob.Bucket {
		b, _ := newHooked(t)
		b.Hook(func(context.Context, repotest.Request) error { return nil })
		return b.Bucket
	})
}

func TestHookSeesRequests(t *testing.T) {
	b, _ := newHooked(t)
	var mu sync.Mutex
	var got []repotest.Request
	b.Hook(func(_ context.Context, r repotest.Request) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r)
		return nil
	})
	ctx := t.Context()
	w, err := b.NewWriter(ctx, "a/b", &blob.WriterOptions{ContentType: "text/plain"})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"some ", "rows"} {
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err := b.Attributes(ctx, "a/b"); err != nil || a.Size != 9 || a.ContentType != "text/plain" {
		t.Errorf("%+v, error %v", a, err)
	}
	if data, err := b.ReadAll(ctx, "a/b"); err != nil || string(data) != "some rows" {
		t.Errorf("%q, error %v", data, err)
	}
	if r, err := b.NewRangeReader(ctx, "a/b", 5, 3, nil); err != nil || r.Size() != 9 || r.Close() != nil {
		t.Errorf("error %v", err)
	}
	if o, err := b.List(&blob.ListOptions{Prefix: "a/"}).Next(ctx); err != nil || o.Key != "a/b" || o.Size != 9 {
		t.Errorf("%+v, error %v", o, err)
	}
	if err := b.Delete(ctx, "a/b"); err != nil {
		t.Error(err)
	}
	want := []repotest.Request{
		{repotest.VerbWrite, "a/b", 5}, {repotest.VerbWrite, "a/b", 4}, {repotest.VerbCreate, "a/b", 9},
		{repotest.VerbSize, "a/b", 0}, {repotest.VerbRead, "a/b", -1}, {repotest.VerbRead, "a/b", 3},
		{repotest.VerbList, "a/", 0}, {repotest.VerbDelete, "a/b", 0},
	}
	if !slices.Equal(got, want) {
		t.Errorf("requests\n%v, want\n%v", got, want)
	}
}

// What a hook refuses has no effect, and its error comes through.
func TestHookRefuses(t *testing.T) {
	b, inner := newHooked(t)
	ctx := t.Context()
	if err := inner.WriteAll(ctx, "old", []byte("rows"), nil); err != nil {
		t.Fatal(err)
	}
	for verb, call := range map[repotest.Verb]func() error{
		repotest.VerbSize:   func() error { _, err := b.Attributes(ctx, "old"); return err },
		repotest.VerbList:   func() error { _, err := b.List(nil).Next(ctx); return err },
		repotest.VerbRead:   func() error { _, err := b.ReadAll(ctx, "old"); return err },
		repotest.VerbWrite:  func() error { return b.WriteAll(ctx, "new", []byte(strings.Repeat("row;", 5000)), nil) },
		repotest.VerbCreate: func() error { return b.WriteAll(ctx, "new", []byte("rows"), nil) },
		repotest.VerbDelete: func() error { return b.Delete(ctx, "old") },
	} {
		b.Hook(func(_ context.Context, r repotest.Request) error {
			if r.Verb == verb {
				return syscall.EIO
			}
			return nil
		})
		if err := call(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", verb, err)
		}
		b.Hook(nil)
		for key, want := range map[string]bool{"old": true, "new": false} {
			if got, err := b.Exists(ctx, key); err != nil || got != want {
				t.Errorf("after %s was refused: %s exists: %v, error %v", verb, key, got, err)
			}
		}
	}
	// What the inner bucket refuses keeps its kind.
	if err := b.WriteAll(ctx, "old", nil, &blob.WriterOptions{IfNotExist: true}); gcerrors.Code(err) != gcerrors.FailedPrecondition {
		t.Errorf("object that exists: %v", err)
	}
	if _, err := b.ReadAll(ctx, "new"); gcerrors.Code(err) != gcerrors.NotFound {
		t.Errorf("object that does not: %v", err)
	}
}

// A store that fills up: the snapshot fails, and nothing is listed.
func ExampleNewHooked() {
	ctx := context.Background()
	inner := memblob.OpenBucket(nil)
	defer inner.Close()
	bucket := repotest.NewHooked(inner)
	defer bucket.Close()
	if err := repo.Init(ctx, bucket.Bucket, repo.InitOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	r, err := repo.Open(ctx, bucket.Bucket, repo.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()

	bucket.Hook(func(_ context.Context, request repotest.Request) error {
		if request.Verb == repotest.VerbCreate && strings.HasPrefix(request.Key, "pack/") {
			return syscall.ENOSPC
		}
		return nil
	})
	err = repotest.Store(ctx, r, "nightly", []byte("some rows"))
	fmt.Println(errors.Is(err, repo.ErrNoSpace))

	bucket.Hook(nil)
	fmt.Println(repotest.Store(ctx, r, "nightly", []byte("some rows")))
	// Output:
	// true
	// <nil>
}
