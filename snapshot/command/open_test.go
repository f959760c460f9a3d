package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLocations(t *testing.T) {
	dir, id := newRepository(t)
	config := filepath.Join(t.TempDir(), "locations.json")
	const secret = "canary-Zx81"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"disk": {"type": "local"}, "S3": {"type": "s3", "secret_access_key": "` + secret + `"}}`)
	other := filepath.ToSlash(filepath.Join(t.TempDir(), "other"))
	for _, where := range []string{dir, "local:" + dir, "disk:" + dir, "disk:/" + dir + "//"} {
		if out, errOut, code := tool(t, "list", "-config", config, "-repo", where); code != 0 || !strings.Contains(out, id) {
			t.Errorf("%s: exit %d, %s%s", where, code, out, errOut)
		}
	}
	if out, errOut, code := tool(t, "copy", "-config", config, "-repo", dir, "-to", "disk:"+other, id); code != 0 || !strings.Contains(out, "Copied "+id) {
		t.Fatalf("copy: exit %d, %s%s", code, out, errOut)
	}
	t.Setenv("HOLDSTILL_CONFIG", config)
	if out, _, code := tool(t, "list", "-repo", "disk:"+other); code != 0 || !strings.Contains(out, id) {
		t.Errorf("the copy: exit %d, %s", code, out)
	}
	for _, tc := range []struct{ where, config, says string }{
		{"S3:bucket/path", "", "repo/cloud/s3"},
		{"S3:bucket/path", "", "or use the command in repo/cloud/cmd/holdstill"},
		{"disk:relative", "", "begin the path with a slash"},
		{"nowhere", "", "holds no repository"},
		{"disk:" + dir, `{"disk": {"type": "` + secret + `"}}`, "no driver for this type"},
		{"disk:" + dir, `{"disk": {"type": "local", "x": "` + secret + `"}}`, `key "x"`},
		{"disk:" + dir, `{"disk": "` + secret + `"}`, "must be an object"},
	} {
		if tc.config != "" {
			write(tc.config)
		}
		out, errOut, code := tool(t, "list", "-repo", tc.where)
		if code != 1 || !strings.Contains(errOut, tc.says) || strings.Contains(out+errOut, secret) {
			t.Errorf("%s: exit %d, %s%s", tc.where, code, out, errOut)
		}
	}
	if _, errOut, code := tool(t, "list", "-config", config+".none", "-repo", dir); code != 1 || !strings.Contains(errOut, ".none") {
		t.Errorf("a missing config: exit %d, %s", code, errOut)
	}
}
