package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

func attachments(t testing.TB, e *snapshot.Engine, id string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for a, err := range e.Attachments(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		r, err := e.OpenAttachment(t.Context(), id, a.Name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || r.Name() != a.Name || int64(len(data)) != a.Size {
			t.Errorf("%+v: %d bytes of %s, %v", a, len(data), r.Name(), err)
		}
		out[a.Name] = string(data)
	}
	return out
}

func TestAttach(t *testing.T) {
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"a": &memory{files: fstest.MapFS{"f": {Data: []byte("1")}}}}})
	s := create(t, e, snapshot.CreateOptions{})
	ctx := t.Context()
	for _, data := range []string{"one", "two"} {
		if err := e.Attach(ctx, s.ID, "log", strings.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(map[string]string{"log": "two"}, attachments(t, e, s.ID)); d != "" {
		t.Error(d)
	}
	broken := errors.New("connection reset")
	for _, test := range []struct {
		id, name string
		data     io.Reader
		want     error
	}{
		{s.ID, "log", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), broken},
		{s.ID, "../log", strings.NewReader(""), repo.ErrBadAttachmentName},
		{"../x", "log", strings.NewReader(""), snapshot.ErrBadID},
		{"x", "log", strings.NewReader(""), snapshot.ErrNotFound},
		{s.ID, "log", io.LimitReader(zeros{}, repo.MaxAttachmentSize+1), repo.ErrAttachmentSize},
	} {
		if err := e.Attach(ctx, test.id, test.name, test.data); !errors.Is(err, test.want) {
			t.Errorf("%s/%s: %v", test.id, test.name, err)
		}
	}
	if d := cmp.Diff(map[string]string{"log": "two"}, attachments(t, e, s.ID)); d != "" {
		t.Error(d)
	}
	if err := e.Detach(ctx, s.ID, "log"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.OpenAttachment(ctx, s.ID, "log"); !errors.Is(err, repo.ErrNoAttachment) {
		t.Error(err)
	}
	if _, err := e.OpenAttachment(ctx, "x", "log"); !errors.Is(err, snapshot.ErrNotFound) {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Who gives up is not kept waiting until all has been read.
func TestAttachHeedsItsContext(t *testing.T) {
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"a": &memory{files: fstest.MapFS{"f": {Data: []byte("1")}}}}})
	s := create(t, e, snapshot.CreateOptions{})
	ctx, cancel := context.WithCancelCause(t.Context())
	enough, reads := errors.New("enough"), 0
	slow := readerFunc(func(p []byte) (int, error) {
		if reads++; reads == 3 {
			cancel(enough)
		}
		p[0] = byte(reads)
		return 1, nil
	})
	if err := e.Attach(ctx, s.ID, "log", slow); !errors.Is(err, enough) || reads != 3 {
		t.Errorf("after %d reads: %v", reads, err)
	}
	if d := cmp.Diff(map[string]string{}, attachments(t, e, s.ID)); d != "" {
		t.Error(d)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// paused is a source whose Pin waits until it is told how to end.
func paused() (src *memory, pinning chan struct{}, end chan error) {
	pinning, end = make(chan struct{}), make(chan error)
	src = &memory{files: fstest.MapFS{"f": {Data: []byte("1")}}}
	src.pin = func() error {
		close(pinning)
		return <-end
	}
	return src, pinning, end
}

// What is attached while a snapshot is being made is there when it is, and goes with it.
func TestAttachWhileTheSnapshotIsMade(t *testing.T) {
	for _, how := range []string{"completes", "fails"} {
		t.Run(how, func(t *testing.T) {
			src, pinning, end := paused()
			bucket := newBucket(t)
			e := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"a": src}})
			id, err := snapshot.NewID("early")
			if err != nil {
				t.Fatal(err)
			}
			job, err := e.StartCreate(t.Context(), snapshot.CreateOptions{ID: id, Label: "early"})
			if err != nil {
				t.Fatal(err)
			}
			if job.Status().Snapshot != id {
				t.Errorf("the job is about %q", job.Status().Snapshot)
			}
			// At once, before the work may have begun.
			if err := e.Attach(t.Context(), id, "log", strings.NewReader("one")); err != nil {
				t.Fatal(err)
			}
			<-pinning
			if err := e.Attach(t.Context(), id, "log", strings.NewReader("two")); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(map[string]string{"log": "two"}, attachments(t, e, id)); d != "" {
				t.Error(d)
			}
			if _, err := e.StartCreate(t.Context(), snapshot.CreateOptions{ID: id}); !errors.Is(err, repo.ErrExists) {
				t.Errorf("the same ID again: %v", err)
			}
			if _, err := e.Get(t.Context(), id); !errors.Is(err, snapshot.ErrNotFound) {
				t.Errorf("it is listed: %v", err)
			}
			if result, err := e.Collect(t.Context(), repo.CollectOptions{MaxWait: 1}); err != nil || result.AttachmentsDeleted != 0 {
				t.Errorf("%+v, %v", result, err)
			}
			failed := errors.New("no lock")
			if how == "fails" {
				end <- failed
				if err := job.Wait(t.Context()); !errors.Is(err, failed) {
					t.Fatal(err)
				}
				if err := e.Attach(t.Context(), id, "log", strings.NewReader("x")); !errors.Is(err, snapshot.ErrNotFound) {
					t.Error(err)
				}
				if it := bucket.List(nil); it != nil {
					for o, err := it.Next(t.Context()); err == nil; o, err = it.Next(t.Context()) {
						if o.Key != "holdstill.json" {
							t.Errorf("left %s", o.Key)
						}
					}
				}
				return
			}
			end <- nil
			if err := job.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(map[string]string{"log": "two"}, attachments(t, e, id)); d != "" {
				t.Error(d)
			}
			if s, err := e.Get(t.Context(), id); err != nil || s.Label != "early" {
				t.Errorf("%+v, %v", s, err)
			}
			if err := e.Attach(t.Context(), id, "more", strings.NewReader("x")); err != nil {
				t.Error(err)
			}
			if _, err := e.Create(t.Context(), snapshot.CreateOptions{ID: id}); !errors.Is(err, repo.ErrExists) {
				t.Errorf("an ID that is taken: %v", err)
			}
			src.pin = nil
			if _, err := e.Create(t.Context(), snapshot.CreateOptions{ID: "../x"}); !errors.Is(err, snapshot.ErrBadID) {
				t.Errorf("a bad ID: %v", err)
			}
		})
	}
}

// An upload takes along what is attached, and a second one what was attached since.
func TestUploadCarriesAttachments(t *testing.T) {
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"a": &memory{files: sample()}}})
	other := newBucket(t)
	s := create(t, e, snapshot.CreateOptions{})
	for n, want := range []map[string]string{{}, {"log": "one"}, {"log": "two", "more": "x"}} {
		for name, data := range want {
			if err := e.Attach(t.Context(), s.ID, name, strings.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
		for _, bucket := range []struct {
			name string
			to   *snapshot.Engine
		}{{"the same", nil}, {"a new one", openEngine(t, snapshot.Config{})}} {
			to := bucket.to
			if to == nil {
				to = openEngine(t, snapshot.Config{Bucket: other})
			}
			if _, err := transfer.Copy(t.Context(), to.Repository(), e.Repository(), s.ID, transfer.Options{}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, attachments(t, to, s.ID)); d != "" {
				t.Errorf("upload %d to %s: %s", n, bucket.name, d)
			}
		}
	}
}

func ExampleEngine_Attach() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	e, err := snapshot.Open(ctx, snapshot.Config{
		Bucket: bucket, Sources: map[string]snapshot.Source{"orders": &table{rows: map[string]string{"42": "pending"}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close()
	s, err := e.Create(ctx, snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := e.Attach(ctx, s.ID, "settings.json", strings.NewReader(`{"region":"north"}`)); err != nil {
		fmt.Println(err)
		return
	}
	for a, err := range e.Attachments(ctx, s.ID) {
		if err != nil {
			fmt.Println(err)
			return
		}
		r, err := e.OpenAttachment(ctx, s.ID, a.Name)
		if err != nil {
			fmt.Println(err)
			return
		}
		data, _ := io.ReadAll(r)
		fmt.Println(a.Name, a.Size, string(data))
	}
	// Output: settings.json 18 {"region":"north"}
}
