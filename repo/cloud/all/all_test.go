package all_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/repo"
	_ "github.com/holdstill/holdstill/repo/cloud/all"
	"github.com/holdstill/holdstill/repo/cloud/internal/teststore"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/command"
)

func TestDrivers(t *testing.T) {
	if diff := cmp.Diff([]string{"azureblob", "google cloud storage", "local", "memory", "s3"}, repo.Drivers()); diff != "" {
		t.Error(diff)
	}
}

// Each driver links its own SDK and none of the others.
func TestDriversAreSeparate(t *testing.T) {
	sdks := map[string]string{"s3": "github.com/aws/aws-sdk-go-v2/", "azure": "github.com/Azure/azure-sdk-for-go/", "gcs": "cloud.google.com/go/storage"}
	for driver := range sdks {
		out, err := exec.Command("go", "list", "-deps", "github.com/holdstill/holdstill/repo/cloud/"+driver).Output()
		if err != nil {
			t.Fatal(err)
		}
		for other, sdk := range sdks {
			if linked := strings.Contains(string(out), "\n"+sdk); linked != (other == driver) {
				t.Errorf("driver %s links %s: %v", driver, sdk, linked)
			}
		}
	}
}

type mapSource struct{ fstest.MapFS }

func (f mapSource) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{FS: f.MapFS}, nil
}

// An engine keeps its snapshots in S3, and the operator's command reads them there.
func TestEngineAndCommand(t *testing.T) {
	server, buckets := teststore.S3(t)
	teststore.MakeS3Bucket(t, buckets, "backups")
	section := map[string]string{
		"type": "s3", "provider": "Other", "endpoint": server.URL, "access_key_id": teststore.S3Key, "secret_access_key": teststore.S3Secret,
	}
	locations := repo.LocationConfig{"S3": section}
	rows := bytes.Repeat([]byte("4711;active;2026-03-14;0.125\n"), 20_000)
	e, err := snapshot.Open(t.Context(), snapshot.Config{
		Repository: "S3:/backups//servers/a/", Locations: locations,
		Sources: map[string]snapshot.Source{"kv": mapSource{fstest.MapFS{"table.db": {Data: rows, Mode: 0o600}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Create(t.Context(), snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	config := filepath.Join(t.TempDir(), "locations.json")
	text, err := json.Marshal(locations)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	target, copied := filepath.Join(t.TempDir(), "restored"), filepath.Join(t.TempDir(), "copied")
	for _, step := range []struct {
		args []string
		says string
	}{
		{[]string{"list", "-repo", "S3:backups/servers/a"}, s.ID},
		{[]string{"check", "-repo", "S3:backups/servers/a", "-data"}, "No damage."},
		{[]string{"restore", "-repo", "S3:backups/servers/a", "-to", target, s.ID}, "Restored 1 files"},
		{[]string{"copy", "-repo", "S3:backups/servers/a", "-to", copied, s.ID}, "Copied " + s.ID},
		{[]string{"copy", "-repo", copied, "-to", "S3:backups/servers/b", s.ID}, "Copied " + s.ID},
		{[]string{"check", "-repo", "S3:backups/servers/b", "-data"}, "No damage."},
	} {
		var out, errOut bytes.Buffer
		args := append([]string{step.args[0], "-config", config}, step.args[1:]...)
		if code := command.Run(t.Context(), args, &out, &errOut); code != 0 || !strings.Contains(out.String(), step.says) {
			t.Fatalf("%q: exit %d\n%s%s", args, code, &out, &errOut)
		}
		if strings.Contains(out.String()+errOut.String(), teststore.S3Secret) {
			t.Errorf("%q prints the secret", args)
		}
	}
	got, err := os.ReadFile(filepath.Join(target, "kv", "table.db"))
	if err != nil || !bytes.Equal(got, rows) {
		t.Errorf("restored are %d bytes, error %v", len(got), err)
	}
}
