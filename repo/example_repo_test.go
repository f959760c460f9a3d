package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// A snapshot of one file: made, listed, and read again.
func Example() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil) // or localblob.OpenBucket(dir, nil)
	defer bucket.Close()
	if err := repo.Init(ctx, bucket, repo.InitOptions{}); err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(ctx, bucket, repo.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	if err := takeOne(ctx, r, "2026-03-14T15.09.26Z_nightly", "kv/wal.log", []byte("begin; put a=1; commit\n")); err != nil {
		log.Fatal(err)
	}

	for m, err := range r.Manifests(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.ID)
		for f, err := range r.Files(ctx, m) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(f.Path, f.Size, f.Content.Refs[0].ID)
			content := r.NewReader(ctx, f.Content)
			text, err := io.ReadAll(io.NewSectionReader(content, 0, content.Size()))
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%s", text)
		}
	}
	// Output:
	// 2026-03-14T15.09.26Z_nightly
	// kv/wal.log 23 88ce50c0bcfd2de822e9546164cac37a4dc1f7c62b4cc4ede56d883cc06c12ee
	// begin; put a=1; commit
}

// takeOne makes a snapshot of one small file.
func takeOne(ctx context.Context, r *repo.Repository, id, path string, data []byte) error {
	s, err := r.NewSession(ctx)
	if err != nil {
		return err
	}
	defer s.Abort(ctx) // does nothing after Commit

	w, err := s.NewWriter() // one for each goroutine
	if err != nil {
		return err
	}
	defer w.Close()
	var refs []repo.Ref
	cutter := r.Gear()
	for rest := data; len(rest) > 0; {
		n := cutter.Next(rest, true)
		chunkID, _, err := w.Add(ctx, rest[:n])
		if err != nil {
			return err
		}
		refs = append(refs, repo.Ref{ID: chunkID, Span: int64(n)})
		rest = rest[n:]
	}
	if err := w.Flush(ctx); err != nil {
		return err
	}
	content, err := s.PutContent(ctx, refs)
	if err != nil {
		return err
	}
	table, err := s.PutTable(ctx, slices.Values([]repo.File{{
		Path: path, Mode: fs.FileMode(0o640), ModTime: time.Now(), Size: content.Size(), Content: content,
	}}))
	if err != nil {
		return err
	}
	return s.Commit(ctx, &repo.Manifest{ID: id, Created: time.Now().UTC(), Consistency: repo.ConsistencySource, Table: table})
}

// Check names the object that is damaged and the snapshots that it harms.
func ExampleRepository_Check() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	if err := repo.Init(ctx, bucket, repo.InitOptions{}); err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(ctx, bucket, repo.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for _, id := range []string{"monday", "tuesday"} {
		if err := takeOne(ctx, r, id, "rows", bytes.Repeat([]byte(id), 1000)); err != nil {
			log.Fatal(err)
		}
	}
	report, err := r.Check(ctx, repo.CheckOptions{ReadData: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Snapshots, "snapshots, OK:", report.OK())

	damageManifest(ctx, bucket, "snapshot/monday")
	report, err = r.Check(ctx, repo.CheckOptions{ReadData: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range report.Damage {
		fmt.Println(d.Object, "harms", strings.Join(d.Snapshots, ", "))
	}
	// Output:
	// 2 snapshots, OK: true
	// snapshot/monday harms monday
}

// damageManifest flips a bit, as a failing disk does.
func damageManifest(ctx context.Context, bucket *blob.Bucket, key string) {
	data, err := bucket.ReadAll(ctx, key)
	if err != nil {
		log.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := bucket.WriteAll(ctx, key, data, nil); err != nil {
		log.Fatal(err)
	}
}

// A chunk that differs little from one of an earlier session takes next to no space.
func ExampleWriter_AddDelta() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	if err := repo.Init(ctx, bucket, repo.InitOptions{}); err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(ctx, bucket, repo.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	page := rand.NewChaCha8([32]byte{1})
	old := make([]byte, 4096)
	if _, err := page.Read(old); err != nil {
		log.Fatal(err)
	}
	if err := takeOne(ctx, r, "monday", "kv/page", old); err != nil {
		log.Fatal(err)
	}

	changed := bytes.Clone(old)
	copy(changed[1000:], "one row has changed")
	s, err := r.NewSession(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Abort(ctx)
	w, err := s.NewWriter()
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	id, fresh, delta, err := w.AddDelta(ctx, changed, chunk.Identify(old))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(fresh, delta)
	if err := w.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	if err := s.Commit(ctx, &repo.Manifest{ID: "tuesday"}); err != nil {
		log.Fatal(err)
	}

	// It is read like any other chunk.
	got, err := r.ReadChunk(ctx, id, nil)
	fmt.Println(bytes.Equal(got, changed), err)
	// Output:
	// true true
	// true <nil>
}
