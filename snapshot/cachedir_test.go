package snapshot

import (
	"path/filepath"
	"testing"

	"github.com/holdstill/holdstill/repo"
)

// The folder for caches reaches the repository, and none is thought up.
func TestCacheDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	for _, tt := range []struct {
		name   string
		config Config
		want   string
	}{
		{"none", Config{}, ""},
		{"of the engine", Config{CacheDir: dir}, dir},
		{"of the options", Config{Options: repo.Options{CacheDir: dir}}, dir},
		{"both", Config{CacheDir: dir, Options: repo.Options{CacheDir: "/elsewhere"}}, dir},
	} {
		tt.config.Repository = "local:/var/lib/app/snapshots"
		got, err := tt.config.withDefaults()
		if err != nil || got.Options.CacheDir != tt.want {
			t.Errorf("%s: %q, want %q: %v", tt.name, got.Options.CacheDir, tt.want, err)
		}
	}
}
