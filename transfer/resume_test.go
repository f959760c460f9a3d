package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// oneTry makes failures final at once.
var oneTry = repo.Retry{Attempts: 1}

func openBucket(t testing.TB, b *blob.Bucket, opts repo.Options) *repo.Repository {
	t.Helper()
	if err := repo.Init(t.Context(), b, repo.InitOptions{Retry: opts.Retry}); err != nil && !errors.Is(err, repo.ErrRepositoryExists) {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), b, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// wantWhole checks everything in a repository and that it lists these snapshots.
func wantWhole(t testing.TB, r *repo.Repository, ids ...string) *repo.Report {
	t.Helper()
	var listed []string
	for id, err := range r.IDs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, id)
	}
	if strings.Join(listed, " ") != strings.Join(ids, " ") {
		t.Fatalf("listed: %q, want %q", listed, ids)
	}
	report, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil || !report.OK() {
		t.Fatalf("check: %+v, error %v", report, err)
	}
	return report
}

// noisy returns n bytes of which little compresses away.
func noisy(seed, n int) []byte {
	out := make([]byte, n)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := range out {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		out[i] = byte(x >> 32)
	}
	return out
}

// Every request to the destination fails in turn. Nothing is listed then, nothing is
// damaged, and the next try sends only what had not arrived.
func TestEveryRequestOfACopyFails(t *testing.T) {
	src, _ := open(t, fstest.MapFS{"a": {Data: noisy(1, 5<<20)}, "b": {Data: rows(2, 300_000)}})
	s := create(t, src, "x")
	small := repo.Options{PackSize: 1 << 20, Retry: oneTry}
	opts := transfer.Options{CheckpointBytes: 1}
	hits := 0
	for n := int64(0); ; n++ {
		hooked, bucket := newHooked(t)
		dst := openBucket(t, hooked.Bucket, small)
		hook, hit := nth(n, false, syscall.ENOSPC, func(r repotest.Request) bool { return r.Verb != repotest.VerbWrite })
		hooked.Hook(hook)
		_, err := transfer.Copy(t.Context(), dst, src.Repository(), s.ID, opts)
		hooked.Hook(nil)
		if !hit.Load() {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		hits++
		again := openBucket(t, bucket, small)
		if err == nil {
			// What failed was not needed, such as a merge of indexes.
			wantWhole(t, again, s.ID)
			continue
		}
		if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, repo.ErrNoSpace) {
			t.Fatalf("request %d: %v", n, err)
		}
		listed := 0
		for range again.IDs(t.Context()) {
			listed++
		}
		if listed > 0 {
			// What failed came after the commit point: the commit did not hear how it ended.
			wantWhole(t, again, s.ID)
			if result, err := transfer.Copy(t.Context(), again, src.Repository(), s.ID, opts); err != nil || result.Chunks > 0 {
				t.Fatalf("after request %d failed: %+v, error %v", n, result, err)
			}
			continue
		}
		wantWhole(t, again)
		kept := packBytes(t, bucket)
		result, err := transfer.Copy(t.Context(), again, src.Repository(), s.ID, opts)
		if err != nil {
			t.Fatalf("after request %d failed: %v", n, err)
		}
		report := wantWhole(t, again, s.ID)
		if report.UnusedBytes > 0 {
			t.Fatalf("request %d: %d bytes are unused", n, report.UnusedBytes)
		}
		if total := s.Stats.BytesStored; result.BytesSent > total-kept+100_000 {
			t.Fatalf("request %d: %d bytes had arrived of %d, and %d were sent again", n, kept, total, result.BytesSent)
		}
	}
	if hits < 15 {
		t.Errorf("only %d requests", hits)
	}
}

func packBytes(t testing.TB, b *blob.Bucket) (n int64) {
	t.Helper()
	it := b.List(&blob.ListOptions{Prefix: "pack/"})
	for {
		o, err := it.Next(t.Context())
		if err != nil {
			return n
		}
		n += o.Size
	}
}

// Every read of the source fails in turn.
func TestEveryReadOfACopyFails(t *testing.T) {
	hooked, bucket := newHooked(t)
	files := fstest.MapFS{"a": {Data: noisy(1, 5<<20)}, "b": {Data: rows(2, 300_000)}}
	s := create(t, openSource(t, bucket, mapSource{files}), "x")
	for n := int64(0); ; n++ {
		src := openBucket(t, hooked.Bucket, repo.Options{Retry: oneTry})
		dst := openBucket(t, newMemory(t), repo.Options{})
		hook, hit := nth(n, true, errors.New("broken"), func(r repotest.Request) bool { return r.Verb == repotest.VerbRead })
		hooked.Hook(hook)
		_, err := transfer.Copy(t.Context(), dst, src, s.ID, transfer.Options{Fetches: 1, Workers: 1})
		hooked.Hook(nil)
		if !hit.Load() {
			if err != nil {
				t.Fatal(err)
			}
			wantWhole(t, dst, s.ID)
			return
		}
		if err == nil {
			t.Fatalf("read %d failed and the copy did not", n)
		}
		wantWhole(t, dst)
	}
}

// What had arrived is noted also where the store is slow: only who aborts a copy does not wait.
func TestFailedCopyTakesItsTime(t *testing.T) {
	src, _ := open(t, fstest.MapFS{"a": {Data: noisy(1, 5<<20)}})
	s := create(t, src, "x")
	hooked, bucket := newHooked(t)
	dst := openBucket(t, hooked.Bucket, repo.Options{PackSize: 1 << 20, Uploads: 1, Retry: oneTry})
	synctest.Test(t, func(t *testing.T) {
		packs := 0
		hooked.Hook(func(ctx context.Context, r repotest.Request) error {
			switch {
			case r.Verb != repotest.VerbCreate:
			case isPack(r):
				if packs++; packs > 3 {
					return syscall.ENOSPC
				}
			case strings.HasPrefix(r.Key, "index/"):
				select {
				case <-time.After(5 * time.Second):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
		if _, err := transfer.Copy(t.Context(), dst, src.Repository(), s.ID, transfer.Options{}); !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("error %v", err)
		}
		hooked.Hook(nil)
	})
	again := openBucket(t, bucket, repo.Options{Retry: oneTry})
	result, err := transfer.Copy(t.Context(), again, src.Repository(), s.ID, transfer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if limit := s.Stats.BytesStored - 2<<20; result.BytesSent > limit {
		t.Errorf("%d bytes were sent again of %d, 3 packs of which had arrived", result.BytesSent, s.Stats.BytesStored)
	}
	wantWhole(t, again, s.ID)
}

// An abort ends a copy within a second when the store hangs, whether it heeds its
// contexts or not.
func TestAbortWhileTheStoreHangs(t *testing.T) {
	for name, heeds := range map[string]bool{"heeds contexts": true, "deaf": false} {
		for _, verb := range []repotest.Verb{repotest.VerbCreate, repotest.VerbList, repotest.VerbSize} {
			t.Run(name+" "+string(verb), func(t *testing.T) {
				src, _ := open(t, fstest.MapFS{"a": {Data: noisy(1, 5<<20)}})
				s := create(t, src, "x")
				hooked, bucket := newHooked(t)
				dst := openBucket(t, hooked.Bucket, repo.Options{PackSize: 1 << 20})
				synctest.Test(t, func(t *testing.T) {
					release := make(chan struct{})
					hangs := make(chan struct{})
					var once sync.Once
					hooked.Hook(func(ctx context.Context, r repotest.Request) error {
						if r.Verb != verb {
							return nil
						}
						once.Do(func() { close(hangs) })
						if !heeds {
							<-release
							return errors.New("too late")
						}
						<-ctx.Done()
						return ctx.Err()
					})
					jobs := openJobs(t, transfer.JobsOptions{})
					job := start(t, jobs, transfer.Task{Kind: transfer.KindUpload, Snapshot: s.ID}, func(ctx context.Context, r *transfer.Reporter) error {
						_, err := transfer.Copy(ctx, dst, src.Repository(), s.ID, transfer.Options{Progress: r.Progress})
						return err
					})
					<-hangs
					begun := time.Now()
					job.Abort()
					err := job.Wait(t.Context())
					if !errors.Is(err, transfer.ErrAborted) || job.Status().State != transfer.StateCancelled {
						t.Errorf("state %s, error %v", job.Status().State, err)
					}
					if took := time.Since(begun); took > time.Second {
						t.Errorf("the abort took %v", took)
					}
					hooked.Hook(nil)
					close(release)
					synctest.Wait()
				})
				again := openBucket(t, bucket, repo.Options{})
				wantWhole(t, again)
				if _, err := transfer.Copy(t.Context(), again, src.Repository(), s.ID, transfer.Options{}); err != nil {
					t.Fatal(err)
				}
				wantWhole(t, again, s.ID)
			})
		}
	}
}

// What travels is what is missing, and a tenth more at most; one request fetches many
// chunks.
func TestOnlyWhatIsMissingTravels(t *testing.T) {
	data := rows(1, 16<<20)
	files := fstest.MapFS{"db": {Data: data}}
	fromBucket := newMemory(t)
	src := openSource(t, fromBucket, mapSource{files})
	first := create(t, src, "first")
	// A twentieth of the file is new, in one place.
	data = append([]byte(nil), data...)
	copy(data[5<<20:], rows(9, len(data)/20))
	files["db"] = &fstest.MapFile{Data: data}
	second := create(t, src, "second")
	for _, near := range []transfer.Side{transfer.NearSource, transfer.NearDestination} {
		to, _ := newHooked(t)
		var written atomic.Int64
		to.Hook(func(_ context.Context, r repotest.Request) error {
			if r.Verb == repotest.VerbCreate {
				written.Add(r.Length)
			}
			return nil
		})
		dst := openBucket(t, to.Bucket, repo.Options{})
		for i, s := range []*snapshot.Snapshot{first, second} {
			fresh := openBucket(t, fromBucket, repo.Options{})
			written.Store(0)
			result, err := transfer.Copy(t.Context(), dst, fresh, s.ID, transfer.Options{Near: near})
			if err != nil {
				t.Fatal(err)
			}
			limit := s.Stats.BytesStored + s.Stats.BytesStored/10
			if n := written.Load(); n > limit {
				t.Errorf("snapshot %d: %d bytes were written, %d are new", i, n, s.Stats.BytesStored)
			}
			// Bases that differences are checked with come from where it is near.
			if n := result.BytesFetched; n > limit && near == transfer.NearDestination {
				t.Errorf("snapshot %d: %d bytes were fetched, %d are new", i, n, s.Stats.BytesStored)
			}
			if n := result.Requests; n > s.Stats.BytesStored/(1<<20)+6 {
				t.Errorf("snapshot %d: %d requests for %d bytes", i, n, s.Stats.BytesStored)
			}
			t.Logf("near %d, snapshot %d: %d stored, %d written, %d fetched in %d requests", near, i,
				s.Stats.BytesStored, written.Load(), result.BytesFetched, result.Requests)
		}
		wantWhole(t, dst, first.ID, second.ID)
	}
}

// Uploads of several snapshots at once end with all of them, and of one snapshot by two
// senders with success for both.
func TestCopiesAtOnce(t *testing.T) {
	files := fstest.MapFS{"a": {Data: rows(1, 3<<20)}}
	src, _ := open(t, files)
	var ids []string
	for n := range 3 {
		files["a"] = &fstest.MapFile{Data: changed(files["a"].Data, n)}
		ids = append(ids, create(t, src, fmt.Sprint("g", n)).ID)
	}
	bucket := newMemory(t)
	openBucket(t, bucket, repo.Options{})
	var group sync.WaitGroup
	for _, id := range append(ids, ids...) {
		group.Go(func() {
			dst, err := repo.Open(t.Context(), bucket, repo.Options{PackSize: 1 << 20})
			if err != nil {
				t.Error(err)
				return
			}
			defer dst.Close()
			if _, err := transfer.Copy(t.Context(), dst, src.Repository(), id, transfer.Options{CheckpointBytes: 1}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	wantWhole(t, openBucket(t, bucket, repo.Options{}), ids...)
}

// Another snapshot under the same ID is not overwritten.
func TestCopyOntoAnother(t *testing.T) {
	src, _ := open(t, fstest.MapFS{"a": {Data: rows(1, 100_000)}})
	s := create(t, src, "x")
	bucket := newMemory(t)
	dst := openBucket(t, bucket, repo.Options{})
	session, err := dst.NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := &repo.Manifest{ID: s.ID, Created: s.Created, Label: "another"}
	if err := session.Commit(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Copy(t.Context(), dst, src.Repository(), s.ID, transfer.Options{}); !errors.Is(err, repo.ErrExists) {
		t.Errorf("error %v", err)
	}
	if m, err := dst.Manifest(t.Context(), s.ID); err != nil || m.Label != "another" {
		t.Errorf("%+v, error %v", m, err)
	}
}

// A store that loses or changes what it has acknowledged is found out before anything names
// the packs.
func TestStoreThatLies(t *testing.T) {
	src, _ := open(t, fstest.MapFS{"a": {Data: noisy(1, 3<<20)}})
	s := create(t, src, "x")
	for name, test := range map[string]struct {
		lie      func(t *testing.T, b *blob.Bucket, key string)
		readBack bool
		want     error
	}{
		"lost": {func(t *testing.T, b *blob.Bucket, key string) {
			if err := b.Delete(t.Context(), key); err != nil {
				t.Error(err)
			}
		}, false, repo.ErrMissing},
		"cut": {func(t *testing.T, b *blob.Bucket, key string) {
			data, _ := b.ReadAll(t.Context(), key)
			if err := b.WriteAll(t.Context(), key, data[:len(data)-1], nil); err != nil {
				t.Error(err)
			}
		}, false, repo.ErrCorrupt},
		"changed": {func(t *testing.T, b *blob.Bucket, key string) {
			data, _ := b.ReadAll(t.Context(), key)
			data[len(data)/3] ^= 4
			if err := b.WriteAll(t.Context(), key, data, nil); err != nil {
				t.Error(err)
			}
		}, true, repo.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			hooked, bucket := newHooked(t)
			dst := openBucket(t, hooked.Bucket, repo.Options{PackSize: 1 << 20, Retry: oneTry})
			var once sync.Once
			hooked.Hook(func(_ context.Context, r repotest.Request) error {
				if r.Verb == repotest.VerbSize && isPack(r) {
					once.Do(func() { test.lie(t, bucket, r.Key) })
				}
				return nil
			})
			_, err := transfer.Copy(t.Context(), dst, src.Repository(), s.ID, transfer.Options{ReadBack: test.readBack})
			if !errors.Is(err, test.want) {
				t.Errorf("error %v", err)
			}
			hooked.Hook(nil)
			for id := range openBucket(t, bucket, repo.Options{}).IDs(t.Context()) {
				t.Errorf("listed: %s", id)
			}
		})
	}
}
