package transfer_test

import (
	"bytes"
	"testing"
	"testing/fstest"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// A repository that is encrypted under an identity of its own gets everything encoded
// anew, and what it has not twice.
func TestCopyToAnotherIdentity(t *testing.T) {
	files := fstest.MapFS{"a": {Data: rows(1, 9<<20)}, "b/c": {Data: []byte("small")}, "empty": {}}
	src, _ := open(t, files)
	first := create(t, src, "first")
	files["b/c"] = &fstest.MapFile{Data: []byte("other")}
	second := create(t, src, "second")

	key := repo.Passphrase([]byte("correct horse"), repo.PassphraseOptions{Argon2: repo.Argon2{Time: 1, Memory: 8 << 20, Threads: 1}})
	bucket := newMemory(t)
	dst, err := snapshot.Open(t.Context(), snapshot.Config{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	for i, s := range []*snapshot.Snapshot{first, second} {
		got, err := transfer.Copy(t.Context(), dst.Repository(), src.Repository(), s.ID, transfer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !got.Reencoded || i == 1 && got.BytesSent > 200_000 {
			t.Errorf("copy %d: %+v", i, got)
		}
		again, err := transfer.Copy(t.Context(), dst.Repository(), src.Repository(), s.ID, transfer.Options{})
		if err != nil || again.BytesSent > 0 {
			t.Errorf("the same copy again: %+v, error %v", again, err)
		}
	}
	report, err := dst.Repository().Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil || !report.OK() || report.Snapshots != 2 || report.UnusedBytes > 0 {
		t.Errorf("check: %+v, error %v", report, err)
	}
	fsys, err := dst.OpenFS(t.Context(), second.ID)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range files {
		if data, err := fsys.ReadFile("kv/" + name); err != nil || !bytes.Equal(data, f.Data) {
			t.Errorf("%s: %d bytes, error %v", name, len(data), err)
		}
	}
}
