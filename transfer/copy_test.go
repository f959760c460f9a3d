package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

type mapSource struct{ files fstest.MapFS }

func (s mapSource) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{FS: s.files}, nil
}

// rows returns n bytes that look like rows, and differ by seed.
func rows(seed, n int) []byte {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"customer":"c%d","amount":%d.%02d}`+"\n", seed*1_000_000+i, (i*7919+seed)%9973, (i*31)%5000, i%100)
	}
	return []byte(b.String()[:n])
}

func open(t testing.TB, files fstest.MapFS) (*snapshot.Engine, *blob.Bucket) {
	t.Helper()
	b := newMemory(t)
	return openSource(t, b, mapSource{files}), b
}

func openSource(t testing.TB, b *blob.Bucket, s snapshot.Source) *snapshot.Engine {
	t.Helper()
	e, err := snapshot.Open(t.Context(), snapshot.Config{Bucket: b, Sources: map[string]snapshot.Source{"kv": s}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func create(t testing.TB, e *snapshot.Engine, label string) *snapshot.Snapshot {
	t.Helper()
	s, err := e.Create(t.Context(), snapshot.CreateOptions{Label: label})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func packs(t testing.TB, b *blob.Bucket) (keys []string) {
	t.Helper()
	it := b.List(&blob.ListOptions{Prefix: "pack/"})
	for {
		o, err := it.Next(t.Context())
		if err == io.EOF {
			return keys
		}
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
}

func TestCopySendsOnlyWhatIsMissing(t *testing.T) {
	files := fstest.MapFS{"a": {Data: rows(1, 5<<20)}, "b": {Data: rows(2, 4<<20)}, "dir/c": {Data: []byte("small")}, "empty": {}}
	src, _ := open(t, files)
	dst, _ := open(t, nil)
	first := create(t, src, "first")
	files["b"] = &fstest.MapFile{Data: rows(3, 4<<20)}
	second := create(t, src, "second")

	var last transfer.Progress
	got, err := transfer.Copy(t.Context(), dst.Repository(), src.Repository(), first.ID, transfer.Options{Progress: func(p transfer.Progress) { last = p }})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, got.Snapshot); diff != "" {
		t.Error(diff)
	}
	if last.BytesDone != first.Stats.Bytes || last.BytesTotal != first.Stats.Bytes {
		t.Errorf("last progress %+v", last)
	}
	rest, err := transfer.Copy(t.Context(), dst.Repository(), src.Repository(), second.ID, transfer.Options{Workers: 4})
	if err != nil {
		t.Fatal(err)
	}
	if rest.BytesNew < 4<<20 || rest.BytesNew > 4<<20+100_000 {
		t.Errorf("the second copy sent %d plain bytes", rest.BytesNew)
	}
	report, err := dst.Repository().Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil || !report.OK() || report.Snapshots != 2 || report.UnusedBytes != 0 {
		t.Errorf("check: %+v, error %v", report, err)
	}
	fsys, err := dst.OpenFS(t.Context(), second.ID)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range files {
		if data, err := fsys.ReadFile("kv/" + name); err != nil || string(data) != string(f.Data) {
			t.Errorf("%s: %d bytes, error %v", name, len(data), err)
		}
	}
	again, err := transfer.Copy(t.Context(), dst.Repository(), src.Repository(), first.ID, transfer.Options{})
	if err != nil || again.Chunks != 0 || again.BytesSent != 0 {
		t.Errorf("copy of what is there: %+v, error %v", again, err)
	}
	if _, err := transfer.Copy(t.Context(), dst.Repository(), src.Repository(), "none", transfer.Options{}); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("copy of what is not there: %v", err)
	}
}

func TestFailedCopyLeavesNothing(t *testing.T) {
	files := fstest.MapFS{"a": {Data: rows(1, 9<<20)}}
	src, srcBucket := open(t, files)
	s := create(t, src, "x")

	t.Run("context", func(t *testing.T) {
		dst, bucket := open(t, nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("stop")
		_, err := transfer.Copy(ctx, dst.Repository(), src.Repository(), s.ID, transfer.Options{Discard: true, Progress: func(transfer.Progress) { cancel(stop) }})
		if !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		// Copy does not wait long for its own tidying up.
		left := packs(t, bucket)
		for deadline := time.Now().Add(time.Minute); len(left) > 0 && time.Now().Before(deadline); left = packs(t, bucket) {
			time.Sleep(time.Millisecond)
		}
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("damage", func(t *testing.T) {
		dst, bucket := open(t, nil)
		for _, key := range packs(t, srcBucket) {
			data, err := srcBucket.ReadAll(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := srcBucket.WriteAll(t.Context(), key, data, nil); err != nil {
				t.Fatal(err)
			}
		}
		again, err := snapshot.Open(t.Context(), snapshot.Config{Bucket: srcBucket})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		_, err = transfer.Copy(t.Context(), dst.Repository(), again.Repository(), s.ID, transfer.Options{Discard: true})
		var ce *repo.ChunkError
		if !errors.As(err, &ce) || !errors.Is(err, repo.ErrCorrupt) {
			t.Errorf("error %v", err)
		}
		if left := packs(t, bucket); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		for id, err := range dst.Repository().IDs(t.Context()) {
			t.Errorf("listed: %q, %v", id, err)
		}
	})
}
