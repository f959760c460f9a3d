package repo_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
)

// A session that stores very much notes now and then what it has stored, and keeps the lists
// of chunks short: then it needs little memory, however much that becomes.
func ExampleSession_Held() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "holdstill")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	if err := repo.Init(ctx, bucket, repo.InitOptions{}); err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(ctx, bucket, repo.Options{CacheDir: filepath.Join(dir, "index")})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
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

	content := s.NewContentWriter()
	most := 0
	for i := range 1000 {
		row := binary.BigEndian.AppendUint64(nil, uint64(i))
		id, _, err := w.Add(ctx, row)
		if err == nil {
			err = content.Add(ctx, repo.Ref{ID: id, Span: int64(len(row))})
		}
		if most = max(most, s.Held()); err == nil && s.Held() >= 100 {
			err = errors.Join(w.Flush(ctx), s.Sync(ctx), s.Checkpoint(ctx), s.Refresh(ctx))
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	whole, err := content.Finish(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(whole.Size(), "bytes; most chunks held:", most)
	// Output: 8000 bytes; most chunks held: 100
}

// What the manifest of a snapshot cannot say is better known before the work than after it.
func ExampleCheckManifest() {
	err := repo.CheckManifest(&repo.Manifest{ID: "../monday"})
	fmt.Println(errors.Is(err, repo.ErrBadID))
	fmt.Println(repo.CheckManifest(&repo.Manifest{ID: "monday"}), repo.CheckPath("kv/000004.sst"))
	fmt.Println(errors.Is(repo.CheckPath("kv/../../etc/passwd"), repo.ErrInvalid))
	// Output:
	// true
	// <nil> <nil>
	// true
}
