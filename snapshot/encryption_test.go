package snapshot_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// An engine with a key makes an encrypted repository, and takes and restores snapshots
// in it as in any other.
func TestEncryptedEngine(t *testing.T) {
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	key := func(word string) repo.KeySource {
		return repo.Passphrase([]byte(word), repo.PassphraseOptions{Argon2: repo.Argon2{Time: 1, Memory: 8 << 20, Threads: 1}})
	}
	rows := bytes.Repeat([]byte("a row of a table that nobody else may read\n"), 20_000)
	config := snapshot.Config{
		Bucket: bucket, Key: key("open sesame"),
		Sources: map[string]snapshot.Source{"kv": viewSource{view: func() *snapshot.View {
			return &snapshot.View{FS: snapshot.WithFolders(fstest.MapFS{"t": {Data: rows}})}
		}}},
	}
	e, err := snapshot.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s, err := e.Create(t.Context(), snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if _, err := e.Restore(t.Context(), s.ID, snapshot.RestoreOptions{To: to}); err != nil {
		t.Fatal(err)
	}
	fsys, err := e.OpenFS(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fsys.ReadFile("kv/t"); err != nil || !bytes.Equal(got, rows) {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
	if !e.Repository().Encrypted() || len(e.Repository().KeyFingerprints()) != 1 {
		t.Error("the repository is not encrypted")
	}
	for name, wrong := range map[string]repo.KeySource{"none": nil, "another": key("open barley")} {
		again := config
		again.Key = wrong
		if _, err := snapshot.Open(t.Context(), again); !errors.Is(err, repo.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
		for _, thing := range []any{config, &config, e} {
			if text := fmt.Sprintf(verb, thing); strings.Contains(text, "sesame") || strings.Contains(text, fmt.Sprint([]byte("sesame"))[1:20]) {
				t.Errorf("%s of %T shows the passphrase", verb, thing)
			}
		}
	}
}
