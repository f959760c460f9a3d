package transfer_test

import (
	"context"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/localblob"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/transfer"
)

// BenchmarkCopy copies 64 MiB of rows between two folders, or to or from a bucket in memory
// whose every request takes 20 ms, with all that a copy checks.
func BenchmarkCopy(b *testing.B) {
	const size = 64 << 20
	delay := func(ctx context.Context, _ repotest.Request) error {
		select {
		case <-time.After(20 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	files := fstest.MapFS{"db": {Data: rows(1, size)}}
	folder := func(b *testing.B) *repo.Repository {
		bucket, err := localblob.OpenBucket(filepath.Join(b.TempDir(), "r"), &localblob.Options{CreateDir: true})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { bucket.Close() })
		return openBucket(b, bucket, repo.Options{})
	}
	distant := func(b *testing.B) *repo.Repository {
		bucket, _ := newHooked(b)
		r := openBucket(b, bucket.Bucket, repo.Options{Uploads: 4})
		bucket.Hook(delay)
		return r
	}
	near, _ := open(b, files)
	s := create(b, near, "x")
	far, _ := newHooked(b)
	fs := create(b, openSource(b, far.Bucket, mapSource{files}), "x")
	far.Hook(delay)
	for _, test := range []struct {
		name string
		src  *repo.Repository
		id   string
		dst  func(*testing.B) *repo.Repository
		near transfer.Side
	}{
		{"to a folder", near.Repository(), s.ID, folder, transfer.NearSource},
		{"upload with 20 ms a request", near.Repository(), s.ID, distant, transfer.NearSource},
		{"download with 20 ms a request", openBucket(b, far.Bucket, repo.Options{}), fs.ID, folder, transfer.NearDestination},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				b.StopTimer()
				dst := test.dst(b)
				b.StartTimer()
				result, err := transfer.Copy(b.Context(), dst, test.src, test.id, transfer.Options{Near: test.near})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(result.BytesSent), "sent-B/op")
			}
		})
	}
	b.Run("what is there already", func(b *testing.B) {
		dst := folder(b)
		for b.Loop() {
			if _, err := transfer.Copy(b.Context(), dst, near.Repository(), s.ID, transfer.Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
