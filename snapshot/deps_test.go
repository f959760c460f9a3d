package snapshot_test

import (
	"os/exec"
	"strings"
	"testing"
)

// What a server compiles when it links the engine with a local repository, and why
// some of it must not be there.
var barred = map[string]string{
	"github.com/aws/":                       "a cloud SDK: drivers are for those who import them",
	"github.com/Azure/":                     "a cloud SDK: drivers are for those who import them",
	"cloud.google.com/":                     "a cloud SDK: drivers are for those who import them",
	"github.com/cockroachdb/":               "a database: sources are a module of their own",
	"go.etcd.io/":                           "a database: sources are a module of their own",
	"modernc.org/":                          "a database: sources are a module of their own",
	"testing":                               "tests of ours, linked into a server",
	"gocloud.dev/blob/drivertest":           "tests of ours, linked into a server",
	"github.com/google/go-cmp/":             "tests of ours, linked into a server",
	"pgregory.net/rapid":                    "tests of ours, linked into a server",
	"github.com/holdstill/holdstill/bench":  "benchmarks, linked into a server",
	"github.com/holdstill/holdstill/bench/": "benchmarks, linked into a server",
}

func TestDependencies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 50 {
		t.Fatalf("go list names only %d packages", len(packages))
	}
	for _, p := range packages {
		for prefix, reason := range barred {
			if p == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(p, prefix) {
				t.Errorf("snapshot links %s: %s", p, reason)
			}
		}
	}
}
