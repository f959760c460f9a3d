package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob"
)

// forbiddenImports are what a program that links this package alone must not compile, and why.
var forbiddenImports = map[string]string{
	"github.com/aws/":                     "the S3 driver is repo/cloud/s3",
	"github.com/Azure/":                   "the Azure driver is repo/cloud/azure",
	"cloud.google.com/go/storage":         "the driver for Google's storage is repo/cloud/gcs",
	"google.golang.org/api/option":        "the driver for Google's storage is repo/cloud/gcs",
	"gocloud.dev/blob/fileblob":           "it does not sync, and lets two writers win: repo/localblob is for folders",
	"gocloud.dev/blob/s3blob":             "the S3 driver is repo/cloud/s3",
	"gocloud.dev/blob/azureblob":          "the Azure driver is repo/cloud/azure",
	"gocloud.dev/blob/gcsblob":            "the driver for Google's storage is repo/cloud/gcs",
	"testing":                             "it adds flags to the program",
	"net/http/httptest":                   "it is for tests",
	"github.com/google/go-cmp/cmp":        "it is for tests",
	"pgregory.net/rapid":                  "it is for tests",
	"github.com/holdstill/holdstill/lock": "a repository knows nothing of locks",
}

func TestForbiddenImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/holdstill/holdstill/repo", "github.com/holdstill/holdstill/transfer").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 100 {
		t.Fatalf("only %d packages are listed", len(packages))
	}
	for _, p := range packages {
		for prefix, why := range forbiddenImports {
			if p == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(p, prefix) || strings.HasPrefix(p, prefix+"/") && prefix != "testing" {
				t.Errorf("%s is linked in: %s", p, why)
			}
		}
	}
}

func mustLocation(t testing.TB, text string, config LocationConfig) Location {
	t.Helper()
	l, err := ParseLocation(text, config)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestOpenLocationBuiltin(t *testing.T) {
	dir := filepath.ToSlash(t.TempDir())
	config := LocationConfig{"disk": {"type": "local", "nounc": "true"}, "ram": {"type": "memory"}}
	for _, where := range []string{"disk:" + dir + "/repo", "ram:"} {
		l := mustLocation(t, where, config)
		if _, err := OpenLocation(t.Context(), l, OpenLocationOptions{}); l.IsLocal() && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a missing folder: %v", where, err)
		}
		b, err := OpenLocation(t.Context(), l, OpenLocationOptions{Create: true})
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if err := Init(t.Context(), b, variantInit()); err != nil {
			t.Fatal(err)
		}
		r := openTestRepo(t, b, Options{})
		mustSnapshot(t, r, "s", smallFiles(1), fixedCutter(t, 512))
		wantSnapshot(t, r, "s", smallFiles(1))
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenLocationRefuses(t *testing.T) {
	config := LocationConfig{
		"S3": {"type": "s3", "secret_access_key": canary}, "az": {"type": "azureblob", "key": canary},
		"gcs": {"type": "google cloud storage", "service_account_credentials": canary}, "dav": {"type": "webdav", "pass": canary},
		"typo": {"type": "local", "one_filesystem": canary}, "ram": {"type": "memory", "b": canary, "a": canary},
	}
	for _, tc := range []struct {
		where string
		rule  LocationRule
		says  string
	}{
		{"S3:bucket", RuleDriver, `import _ "github.com/holdstill/holdstill/repo/cloud/s3"`},
		{"az:bucket", RuleDriver, `import _ "github.com/holdstill/holdstill/repo/cloud/azure"`},
		{"gcs:bucket", RuleDriver, `import _ "github.com/holdstill/holdstill/repo/cloud/gcs"`},
		{"dav:x", RuleDriver, `"azureblob" "google cloud storage" "local" "memory" "s3"`},
		{"typo:/x", RuleKeyKnown, `key "one_filesystem"`},
		{"ram:", RuleKeyKnown, `key "a"`},
	} {
		b, err := OpenLocation(t.Context(), mustLocation(t, tc.where, config), OpenLocationOptions{})
		var lerr *LocationError
		if b != nil || !errors.As(err, &lerr) || lerr.Rule != tc.rule || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want rule %q and %q", tc.where, err, tc.rule, tc.says)
			continue
		}
		if text := fmt.Sprintf("%v %+v %#v", err, err, lerr); strings.Contains(text, canary) {
			t.Errorf("%s: a value shows in %s", tc.where, text)
		}
	}
	if _, err := OpenLocation(t.Context(), Location{}, OpenLocationOptions{}); !errors.Is(err, ErrLocation) {
		t.Errorf("the zero Location: %v", err)
	}
}

// A driver of the test's own, registered once for the whole test binary.
var recorded struct {
	settings *Settings
	err      error
}

var registerTest = func() bool {
	RegisterDriver(Driver{Type: "test-store", Open: func(_ context.Context, s *Settings) (*blob.Bucket, error) {
		recorded.settings = s
		s.Text("key")
		s.Bool("flag", true)
		s.Choice("mode", "Fast", "slow")
		s.Int("count", 1, 16, 4)
		s.Size("part", 1<<20, 1<<30, 5<<20)
		s.Duration("wait", time.Minute)
		s.Ignore("description")
		if recorded.err = s.Err(); recorded.err != nil {
			return nil, recorded.err
		}
		return blob.NewBucket(newTestDriver()), nil
	}})
	return true
}()

func TestSettings(t *testing.T) {
	if !registerTest {
		t.Fatal("not registered")
	}
	open := func(path string, section map[string]string) (*blob.Bucket, error) {
		section["type"] = "test-store"
		return OpenLocation(t.Context(), mustLocation(t, "T:"+path, LocationConfig{"T": section}), OpenLocationOptions{})
	}
	for _, good := range []map[string]string{
		{}, {"key": canary}, {"flag": "0"}, {"flag": "TRUE"}, {"mode": "fast"}, {"mode": "SLOW"}, {"count": "16"}, {"part": "5Mi"}, {"part": "5M"},
		{"part": "0.5G", "wait": "0"}, {"part": "1024"}, {"part": "1048576b"}, {"wait": "1m30s"}, {"description": "free text"}, {"flag": "", "count": "", "part": "", "wait": "", "mode": ""},
	} {
		b, err := open("bucket/a/b", good)
		if err != nil {
			t.Errorf("%v: %v", good, err)
			continue
		}
		if recorded.settings.Bucket() != "bucket" {
			t.Errorf("bucket %q", recorded.settings.Bucket())
		}
		if err := b.WriteAll(t.Context(), "key", []byte("x"), nil); err != nil {
			t.Error(err)
		}
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("open", "settings", recorded.settings)
		if text := log.String() + fmt.Sprintf("%v %+v %#v %s %q", recorded.settings, recorded.settings, recorded.settings, recorded.settings, recorded.settings); strings.Contains(text, canary) {
			t.Errorf("a value shows in %s", text)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []struct{ key, value, says string }{
		{"flag", canary, `"true" or "false"`},
		{"mode", canary, `"Fast" "slow"`},
		{"count", "0", "from 1 to 16"}, {"count", "17", "from 1 to 16"}, {"count", canary, "from 1 to 16"},
		{"part", "1023", "1048576"}, {"part", "2G", "1073741824"}, {"part", canary, "5Mi"}, {"part", "-5Mi", "5Mi"}, {"part", "NaN", "5Mi"},
		{"part", "5Mib5", "5Mi"}, {"part", "1e400", "5Mi"}, {"part", "Mi", "5Mi"},
		{"wait", "-1s", "1m30s"}, {"wait", canary, "1m30s"},
		{"Key", canary, "count, description, flag, key, mode, part, wait"},
		{"", canary, "no such key"},
	} {
		_, err := open("bucket", map[string]string{bad.key: bad.value})
		var lerr *LocationError
		if !errors.As(err, &lerr) || lerr.Section != `"T"` || !strings.Contains(err.Error(), bad.says) || strings.Contains(fmt.Sprintf("%#v", lerr), canary) {
			t.Errorf("%q: %q: %v", bad.key, bad.value, err)
		}
	}
	var lerr *LocationError
	if _, err := open("", map[string]string{}); !errors.As(err, &lerr) || lerr.Rule != RuleBucket {
		t.Errorf("no bucket: %v", err)
	}
}

func TestRegisterDriverPanics(t *testing.T) {
	open := func(context.Context, *Settings) (*blob.Bucket, error) { return nil, nil }
	for _, d := range []Driver{{}, {Type: "x"}, {Open: open}, {Type: "local", Open: open}, {Type: "test-store", Open: open}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was taken", d.Type)
				}
			}()
			RegisterDriver(d)
		}()
	}
	if diff := cmp.Diff([]string{"local", "memory", "test-store"}, Drivers()); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"5Mi", "1", "0b", "1.5G", "-1", "NaN", "Inf", "1e3k", "", "bb", "0x1p4K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := parseSize(s); n < 0 || !ok && n != 0 {
			t.Errorf("%q gives %d, %v", s, n, ok)
		}
	})
}
