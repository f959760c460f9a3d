// Package repotest is a suite of tests by which you find out whether your own store can hold repositories. Call [Run]
// from a test:
//
//	func TestStore(t *testing.T) {
//		repotest.Run(t, func(t *testing.T) *blob.Bucket { return openMyBucket(t) })
//	}
//
// Outside of tests use repo.Validate, which this suite consists of for one half; the other takes a repository through
// its life.
//
// [NewHooked] is for tests of a program that uses a repository: it makes a store slow, or lets any request fail.
package repotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/repo"
)

// Options are the settings of RunWith. The zero value works.
type Options struct {
	// Validate are the settings for the properties of the store.
	Validate repo.ValidateOptions
	// Repository are those of the repository.
	Repository repo.Options
	// Data is the size of the data in the snapshots, in bytes. Default 3 MiB.
	Data int
}

// Run runs the suite. open returns a bucket, or a part of one, that holds no repository; the test function closes
// it. It is called once for each test.
func Run(t *testing.T, open func(t *testing.T) *blob.Bucket) { RunWith(t, open, Options{}) }

// RunWith is Run with options.
func RunWith(t *testing.T, open func(t *testing.T) *blob.Bucket, opts Options) {
	if opts.Data == 0 {
		opts.Data = 3 << 20
	}
	t.Run("Properties", func(t *testing.T) { properties(t, open(t), opts) })
	t.Run("Life", func(t *testing.T) { life(t, open(t), opts) })
	t.Run("InitRace", func(t *testing.T) { initRace(t, open(t)) })
	t.Run("CommitRace", func(t *testing.T) { commitRace(t, open(t), opts) })
}

func properties(t *testing.T, bucket *blob.Bucket, opts Options) {
	report := opts.Validate.Report
	opts.Validate.Report = func(property string, err error) {
		t.Run(property, func(t *testing.T) {
			if err != nil {
				t.Error(err)
			}
		})
		if report != nil {
			report(property, err)
		}
	}
	if err := repo.Validate(t.Context(), bucket, opts.Validate); err != nil {
		t.Error(err)
	}
	for _, key := range keys(t, bucket) {
		t.Errorf("the validation left %s behind", key)
	}
}

func keys(t *testing.T, bucket *blob.Bucket) []string {
	t.Helper()
	var keys []string
	for it := bucket.List(nil); ; {
		obj, err := it.Next(t.Context())
		if err == io.EOF {
			return keys
		}
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, obj.Key)
	}
}

// rows returns data like a database's: rows with a counter and random values, the half of which compresses.
func rows(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]byte, 0, n+64)
	for i := 0; len(out) < n; i++ {
		out = fmt.Appendf(out, "row %08d value=%016x state=active;", i, r.Uint64())
	}
	return out[:n]
}

// life takes a repository through everything that is done with one.
func life(t *testing.T, bucket *blob.Bucket, opts Options) {
	ctx := t.Context()
	if _, err := repo.Open(ctx, bucket, opts.Repository); !errors.Is(err, repo.ErrNotRepository) {
		t.Fatalf("an empty bucket opened as a repository, or not for the reason that it is empty: %v", err)
	}
	if err := repo.Init(ctx, bucket, repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := repo.Init(ctx, bucket, repo.InitOptions{}); !errors.Is(err, repo.ErrRepositoryExists) {
		t.Fatalf("a second Init gave %v", err)
	}
	open := func() *repo.Repository {
		r, err := repo.Open(ctx, bucket, opts.Repository)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first, second := rows(1, opts.Data), rows(1, opts.Data)
	copy(second[opts.Data/2:], rows(2, opts.Data/8))
	r := open()
	if err := Store(ctx, r, "first", first); err != nil {
		t.Fatal(err)
	}
	if err := Store(t.Context(), open(), "second", second); err != nil {
		t.Fatal(err)
	}
	if err := Store(t.Context(), r, "second", first); !errors.Is(err, repo.ErrExists) {
		t.Errorf("a snapshot whose ID is taken: %v", err)
	}
	fresh := open()
	for id, want := range map[string][]byte{"first": first, "second": second} {
		Want(t, fresh, id, want)
	}
	Sound(t, fresh)
	if err := r.DeleteManifest(ctx, "first"); err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.Manifest(ctx, "first"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a deleted snapshot: %v", err)
	}
	if err := r.DeleteManifest(ctx, "first"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("deleting it once more: %v", err)
	}
	if got := IDs(t, r); !slices.Equal(got, []string{"second"}) {
		t.Errorf("listed are %q", got)
	}
	Want(t, open(), "second", second)
}

// initRace lets many make the repository at once.
func initRace(t *testing.T, bucket *blob.Bucket) {
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = repo.Init(t.Context(), bucket, repo.InitOptions{}) })
	}
	wg.Wait()
	wantOneWinner(t, errs, repo.ErrRepositoryExists)
}

// commitRace lets many commit a snapshot of one name at once.
func commitRace(t *testing.T, bucket *blob.Bucket, opts Options) {
	if err := repo.Init(t.Context(), bucket, repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	errs := make([]error, 6)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			r, err := repo.Open(t.Context(), bucket, opts.Repository)
			if err == nil {
				err = Store(t.Context(), r, "same", rows(uint64(i), 20_000))
			}
			errs[i] = err
		})
	}
	wg.Wait()
	winner := wantOneWinner(t, errs, repo.ErrExists)
	r, err := repo.Open(t.Context(), bucket, opts.Repository)
	if err != nil {
		t.Fatal(err)
	}
	Want(t, r, "same", rows(uint64(winner), 20_000))
	Sound(t, r)
}

func wantOneWinner(t *testing.T, errs []error, lost error) (winner int) {
	t.Helper()
	winner = -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Fatalf("%d and %d both won", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, lost):
			t.Errorf("%d lost with %v, want %v", i, err, lost)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	return winner
}

// Store makes a snapshot of one file, named "data", in a session that it ends. Nothing of the data is in memory twice.
func Store(ctx context.Context, r *repo.Repository, id string, data []byte) error {
	s, err := r.NewSession(ctx)
	if err != nil {
		return err
	}
	m, err := stage(ctx, r, s, id, data)
	if err == nil {
		err = s.Commit(ctx, m)
	}
	if err != nil {
		return errors.Join(err, s.Abort(ctx))
	}
	return nil
}

func stage(ctx context.Context, r *repo.Repository, s *repo.Session, id string, data []byte) (*repo.Manifest, error) {
	w, err := s.NewWriter()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	var refs []repo.Ref
	for rest := data; len(rest) > 0; {
		n := r.Gear().Next(rest, true)
		chunkID, _, err := w.Add(ctx, rest[:n])
		if err != nil {
			return nil, err
		}
		refs = append(refs, repo.Ref{ID: chunkID, Span: int64(n)})
		rest = rest[n:]
	}
	if err := w.Flush(ctx); err != nil {
		return nil, err
	}
	content, err := s.PutContent(ctx, refs)
	if err != nil {
		return nil, err
	}
	created := time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	m := &repo.Manifest{ID: id, Created: created, Consistency: repo.ConsistencySource}
	m.Stats.Files, m.Stats.Bytes = 1, int64(len(data))
	m.Table, err = s.PutTable(ctx, slices.Values([]repo.File{{Path: "data", Mode: 0o640, ModTime: created, Size: content.Size(), Content: content}}))
	return m, err
}

// Read returns the data of a snapshot that Store made.
func Read(ctx context.Context, r *repo.Repository, id string) ([]byte, error) {
	m, err := r.Manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	for f, err := range r.Files(ctx, m) {
		if err != nil {
			return nil, err
		}
		data := make([]byte, f.Size)
		if _, err := r.NewReader(ctx, f.Content).ReadAt(data, 0); err != nil && err != io.EOF {
			return nil, err
		}
		return data, nil
	}
	return nil, fmt.Errorf("snapshot %s has no file", id)
}

// Want fails the test unless a snapshot that Store made holds data.
func Want(t testing.TB, r *repo.Repository, id string, data []byte) {
	t.Helper()
	got, err := Read(t.Context(), r, id)
	if err != nil {
		t.Fatalf("snapshot %s: %v", id, err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("snapshot %s has %d bytes that are not the %d stored", id, len(got), len(data))
	}
}

// Sound fails the test unless all that the repository lists can be read to the last byte.
func Sound(t testing.TB, r *repo.Repository) {
	t.Helper()
	report, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range report.Damage {
		t.Errorf("damage: %v", d)
	}
}

// IDs returns the IDs of all snapshots.
func IDs(t testing.TB, r *repo.Repository) []string {
	t.Helper()
	var ids []string
	for id, err := range r.IDs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}
