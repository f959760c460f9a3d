package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

func TestKeyCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first, second, empty := file("first", "open sesame\n"), file("second", "open barley"), file("empty", "\n")
	e, err := snapshot.Open(t.Context(), snapshot.Config{
		Repository: "local:" + dir, Key: repo.Passphrase([]byte("open sesame"), repo.PassphraseOptions{}),
		Sources: map[string]snapshot.Source{"kv": mapSource{fstest.MapFS{"a": {Data: []byte("some rows")}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	id := ""
	for k, err := range e.Repository().Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		id = k.ID
	}
	snap, err := e.Create(t.Context(), snapshot.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	t.Setenv("HOLDSTILL_REPO", dir)
	for _, step := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"list"}, 1, "is encrypted, and no key was given: give -passphrase-file"},
		{[]string{"list", "-passphrase-file", second}, 1, "opens none"},
		{[]string{"list", "-passphrase-file", empty}, 1, "no passphrase"},
		{[]string{"list", "-passphrase-file", first}, 0, "ID"},
		{[]string{"keys", "-passphrase-file", first}, 0, id},
		{[]string{"remove-key", "-passphrase-file", first, id}, 1, "last"},
		{[]string{"add-key", "-passphrase-file", first}, 2, "give -new-passphrase-file"},
		{[]string{"add-key", "-passphrase-file", first, "-new-passphrase-file", second, "-label", "new"}, 0, "Added key"},
		{[]string{"keys", "-passphrase-file", second}, 0, `"new"`},
		{[]string{"remove-key", "-passphrase-file", second, id}, 0, "Removed key"},
		{[]string{"check", "-passphrase-file", first}, 1, "opens none"},
		{[]string{"check", "-passphrase-file", second}, 0, "No damage."},
		{[]string{"copy", "-passphrase-file", second, "-to", other, "-to-passphrase-file", first, snap.ID}, 0, "Copied"},
		{[]string{"upload", "-passphrase-file", second, "-to", other, snap.ID}, 1, "opens none"},
		{[]string{"upload", "-passphrase-file", second, "-to", other, "-to-passphrase-file", first, snap.ID}, 0, "sent 0 B"},
		{[]string{"upload", "-passphrase-file", second, "-to", other + "-plain", "-to-plain", snap.ID}, 0, "Uploaded"},
		{[]string{"download", "-passphrase-file", second, "-from", other, "-from-passphrase-file", first, snap.ID}, 0, "sent 0 B"},
		{[]string{"download", "-passphrase-file", second, "-from", other + "-plain", "-from-plain", snap.ID}, 0, "sent 0 B"},
	} {
		out, errOut, code := tool(t, step.args...)
		if code != step.code || !strings.Contains(out+errOut, step.want) || strings.Contains(out+errOut, "open ") {
			t.Errorf("%v: exit %d, printed %q and %q", step.args, code, out, errOut)
		}
	}
}
