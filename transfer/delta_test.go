package transfer_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// pagedSource is a source of page files, whose changed chunks are stored as
// differences.
type pagedSource struct{ files fstest.MapFS }

func (s pagedSource) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{FS: s.files, Hint: func(string) snapshot.Hint { return snapshot.Hint{Class: snapshot.Paged} }}, nil
}

func openPaged(t testing.TB, files fstest.MapFS) *snapshot.Engine {
	t.Helper()
	return openSource(t, newMemory(t), pagedSource{files})
}

// changed returns a copy of data with a row changed in every 50,000 bytes.
func changed(data []byte, generation int) []byte {
	data = bytes.Clone(data)
	for at := 100 * generation; at+20 < len(data); at += 50_000 {
		copy(data[at:], fmt.Sprintf("generation %d", generation))
	}
	return data
}

// deltas counts the data chunks of a snapshot that are stored as differences, and all.
func deltas(t testing.TB, r *repo.Repository, m *repo.Manifest) (n, all int) {
	t.Helper()
	for u, err := range r.Uses(t.Context(), m) {
		if err != nil {
			t.Fatal(err)
		}
		if u.Meta {
			continue
		}
		_, codec, _, err := r.ReadEncoded(t.Context(), u.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		if all++; codec == chunk.Delta {
			n++
		}
	}
	return n, all
}

func wantCopied(t testing.TB, dst *snapshot.Engine, id string, want []byte) *repo.Report {
	t.Helper()
	fsys, err := dst.OpenFS(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fsys.ReadFile("kv/db"); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes, error %v", id, len(got), err)
	}
	report, err := dst.Repository().Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil || !report.OK() {
		t.Fatalf("check: %+v, error %v", report, err)
	}
	return report
}

// Differences travel as they are, after what they are the difference to, whether or not
// the destination has a snapshot that lists that.
func TestCopyOfDifferences(t *testing.T) {
	base := rows(1, 2<<20)
	files := fstest.MapFS{"db": {Data: base}}
	src := openPaged(t, files)
	snaps := []*snapshot.Snapshot{create(t, src, "g0")}
	data := [][]byte{base}
	for n := 1; n < 3; n++ {
		data = append(data, changed(data[n-1], n))
		files["db"] = &fstest.MapFile{Data: data[n]}
		snaps = append(snaps, create(t, src, fmt.Sprint("g", n)))
	}
	for name, order := range map[string][]int{
		"oldest first": {0, 1, 2}, "newest first": {2, 1, 0}, "only the newest": {2},
		"oldest first, as stored": {0, 1, 2}, "newest first, as stored": {2, 1, 0}, "only the newest, as stored": {2},
	} {
		t.Run(name, func(t *testing.T) {
			opts := transfer.Options{Workers: 3, Verify: transfer.VerifyContent}
			if strings.HasSuffix(name, "as stored") {
				opts.Verify = transfer.VerifyStored
			}
			dst := openPaged(t, nil)
			var sent int64
			for i, n := range order {
				got, err := transfer.Copy(t.Context(), dst.Repository(), src.Repository(), snaps[n].ID, opts)
				if err != nil {
					t.Fatal(err)
				}
				sent += got.BytesSent
				if i > 0 && n > 0 && got.BytesSent > snaps[0].Stats.BytesStored/20 {
					t.Errorf("the copy of generation %d sent %d bytes", n, got.BytesSent)
				}
				if report := wantCopied(t, dst, snaps[n].ID, data[n]); report.UnusedBytes != 0 {
					t.Errorf("%d bytes are unused", report.UnusedBytes)
				}
				if n == 0 {
					continue
				}
				if n, all := deltas(t, dst.Repository(), snaps[n]); n < all-2 {
					t.Errorf("%d of %d chunks are differences", n, all)
				}
			}
			if limit := snaps[0].Stats.BytesStored * 12 / 10; sent > limit {
				t.Errorf("%d bytes were sent, more than %d", sent, limit)
			}
		})
	}
}

// Where the destination has the base as the difference to yet another chunk, the chunk
// goes there in full: a chain would cost every read a chunk more.
func TestCopyMakesNoChains(t *testing.T) {
	for _, opts := range []transfer.Options{
		{Verify: transfer.VerifyContent}, {Verify: transfer.VerifyStored},
		{Verify: transfer.VerifyContent, Near: transfer.NearDestination}, {Verify: transfer.VerifyStored, Near: transfer.NearDestination},
	} {
		t.Run(fmt.Sprintf("near %d, verify %d", opts.Near, opts.Verify), func(t *testing.T) { copyMakesNoChains(t, opts) })
	}
}

func copyMakesNoChains(t *testing.T, opts transfer.Options) {
	oldest := rows(1, 1<<20)
	base := changed(oldest, 1)
	newest := changed(base, 2)

	dstFiles := fstest.MapFS{"db": {Data: oldest}}
	dst := openPaged(t, dstFiles)
	create(t, dst, "a")
	dstFiles["db"] = &fstest.MapFile{Data: base}
	b := create(t, dst, "b")
	if n, all := deltas(t, dst.Repository(), b); n < all-2 {
		t.Fatalf("%d of %d chunks of the destination are differences", n, all)
	}

	srcFiles := fstest.MapFS{"db": {Data: base}}
	src := openPaged(t, srcFiles)
	first := create(t, src, "first")
	srcFiles["db"] = &fstest.MapFile{Data: newest}
	second := create(t, src, "second")
	if n, all := deltas(t, src.Repository(), second); n < all-2 {
		t.Fatalf("%d of %d chunks of the source are differences", n, all)
	}
	for id, want := range map[string][]byte{second.ID: newest, first.ID: base} {
		if _, err := transfer.Copy(t.Context(), dst.Repository(), src.Repository(), id, opts); err != nil {
			t.Fatal(err)
		}
		wantCopied(t, dst, id, want)
	}
	if n, _ := deltas(t, dst.Repository(), second); n > 0 {
		t.Errorf("%d chunks went as differences", n)
	}
}
