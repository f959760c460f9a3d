package repo

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/chunk"
	"gocloud.dev/secrets/localsecrets"
)

// The tests of repositories run a second time on encrypted ones: in a process of its own,
// in which variant and variantInit, that all of them open and make repositories
// with, add a key.
const variantEnv = "HOLDSTILL_TEST_ENCRYPTED"

func encryptedVariant() bool { return os.Getenv(variantEnv) != "" }

func testKeeper() KeySource {
	return Keeper(localsecrets.NewKeeper([32]byte{1, 2, 3, 31: 32}))
}

func variant(o Options) Options {
	if encryptedVariant() && o.Key == nil {
		o.Key = testKeeper()
	}
	return o
}

func variantInit(cut ...chunk.GearParams) InitOptions {
	var opts InitOptions
	if len(cut) > 0 {
		opts.Cut = cut[0]
	}
	if encryptedVariant() {
		opts.Encryption = &Encryption{Key: testKeeper()}
	}
	return opts
}

// newTwin makes a repository of the same identity as another, and opens it.
func newTwin(t testing.TB, other *Repository) *Repository {
	t.Helper()
	return newTwinIn(t, newTestDriver(), other)
}

func newTwinIn(t testing.TB, d *testDriver, other *Repository) *Repository {
	t.Helper()
	b := d.bucket(t)
	opts := variantInit()
	if opts.Encryption != nil {
		opts.Encryption.SameIdentityAs = other
	}
	if err := Init(t.Context(), b, opts); err != nil {
		t.Fatal(err)
	}
	return openTestRepo(t, b, Options{})
}

// identify returns the ID that a chunk has in a repository.
func identify(t testing.TB, r *Repository, plain []byte) chunk.ID {
	t.Helper()
	h, err := r.NewIdentifier()
	if err != nil {
		t.Fatal(err)
	}
	return h.Identify(plain)
}

// A test that needs the ID of a chunk asks identify for it, and one that copies encoded
// chunks takes newTwin. plainOnly are tests that say something of repositories that are not encrypted, or of
// parts that know nothing of encryption.
var plainOnly = []string{
	"TestGoldenRepository", "TestFormatVectors", "TestFormatVectorsRead", // pinned bytes
	"TestOpenOfWhatItMustNotRead", "TestNewerManifest", "TestImpossibleDeltas", // put objects that are not sealed
	"TestLostConfiguration", // cannot be made again without the keys
}

func TestEncryptedVariant(t *testing.T) {
	if encryptedVariant() {
		return
	}
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^Test", "-test.skip=^("+strings.Join(plainOnly, "|")+")$")
	cmd.Env = append(os.Environ(), variantEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
