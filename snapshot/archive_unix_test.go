//go:build unix

package snapshot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Plain tools list, extract and verify an archive.
func TestPlainTarReadsAnExport(t *testing.T) {
	_, s, data := exported(t, archiveFiles(), ExportOptions{Compression: CompressGzip})
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(data)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("tar", "-xpzf", "-") // with p whatever the umask
	for name, f := range archiveFiles() {
		if f.Mode.IsDir() {
			continue
		}
		got, err := os.ReadFile(filepath.Join(dir, "kv", name))
		if err != nil || !bytes.Equal(got, f.Data) {
			t.Errorf("%q differs, or %v", name, err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "kv", "bolt.db"))
	if err != nil || info.Mode() != 0o640 || !info.ModTime().Equal(archiveFiles()["bolt.db"].ModTime) {
		t.Errorf("%v, %v", info, err)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, archiveManifest))
	if err != nil || !bytes.Contains(manifest, []byte(s.ID)) {
		t.Errorf("%s, %v", manifest, err)
	}
	if _, err := exec.LookPath("sha256sum"); err == nil {
		if out := run("sha256sum", "-c", archiveSums+"00000001"); strings.Count(out, ": OK") != len(archiveFiles())-1+1+1+2 {
			t.Errorf("sha256sum says\n%s", out)
		}
	}
}
