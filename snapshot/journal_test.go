package snapshot

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goodJournal = `{"version":1,"snapshot":"s","staged":".db.holdstill-restoring-0123456789abcdef","discard":true,` +
	`"previous":"db.previous-20240229T235958Z","new":{"device":1,"inode":12},"live":{"device":1,"inode":11},"state":"prepared"}`

func TestParseJournal(t *testing.T) {
	if _, err := parseJournal([]byte(goodJournal), "db"); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, old, new string }{
		{"version", `"version":1`, `"version":2`},
		{"state", `"prepared"`, `"done"`},
		{"more after it", `"state":"prepared"}`, `"state":"prepared"}{}`},
		{"an unknown field", `"version":1`, `"version":1,"flags":7`},
		{"staging of another target", ".db.holdstill-restoring", ".dc.holdstill-restoring"},
		{"staging outside", ".db.holdstill-restoring-0123456789abcdef", "../.db.holdstill-restoring-0123456789abcdef"},
		{"staging with more behind it", "restoring-0123456789abcdef", "restoring-0123456789abcdef/x"},
		{"staging that is the target", ".db.holdstill-restoring-0123456789abcdef", "db"},
		{"discard of a failsafe", ".db.holdstill-restoring-0123456789abcdef", "db.previous-20200101T000000Z"},
		{"failsafe elsewhere", "db.previous-20240229T235958Z", "../db.previous-20240229T235958Z"},
		{"failsafe without a stamp", "db.previous-20240229T235958Z", "db.previous-"},
		{"failsafe that is the target", "db.previous-20240229T235958Z", "db"},
		{"no inode", `"inode":12`, `"inode":0,"x":0`},
		{"the same inode twice", `"inode":12`, `"inode":11`},
		{"nothing", goodJournal, ""},
		{"cut off", `"state":"prepared"}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bad := strings.Replace(goodJournal, tt.old, tt.new, 1)
			if bad == goodJournal {
				t.Fatal("the case changes nothing")
			}
			if j, err := parseJournal([]byte(bad), "db"); err == nil {
				t.Errorf("taken: %+v", j)
			}
		})
	}
}

// A journal that cannot be followed stops everything, and nothing is removed.
func TestBadJournal(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", newFiles())
	for name, data := range map[string]string{"garbage": "no json", "large": strings.Repeat(" ", 17<<10), "strange": goodJournal} {
		t.Run(name, func(t *testing.T) {
			parent := tempDir(t)
			to := filepath.Join(parent, "db")
			writeTree(t, to, oldTree)
			writeTree(t, parent, map[string]string{
				".db.holdstill-restore.json":                   data,
				".db.holdstill-restoring-0123456789abcdef/old": "perhaps the only copy",
			})
			before := readTree(t, parent)
			if _, err := Recover(t.Context(), to); !errors.Is(err, ErrJournal) {
				t.Errorf("Recover: error %v, want ErrJournal", err)
			}
			if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, InPlace: true}, nil); !errors.Is(err, ErrJournal) {
				t.Errorf("Restore: error %v, want ErrJournal", err)
			}
			if d := cmp.Diff(before, readTree(t, parent)); d != "" {
				t.Errorf("something changed:\n%s", d)
			}
		})
	}
}

// Neither the journal nor the lock is written or read through a link that was
// planted under its name.
func TestPlantedLinks(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", newFiles())
	for _, name := range []string{".db.holdstill-lock", ".db.holdstill-restore.json.tmp"} {
		t.Run(name, func(t *testing.T) {
			outside, parent := tempDir(t), tempDir(t)
			writeTree(t, outside, map[string]string{"sentinel": "unchanged"})
			to := filepath.Join(parent, "db")
			writeTree(t, to, oldTree)
			if err := os.Symlink(filepath.Join(outside, "sentinel"), filepath.Join(parent, name)); err != nil {
				t.Fatal(err)
			}
			_, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, InPlace: true}, nil)
			if name == ".db.holdstill-lock" && !errors.Is(err, ErrTarget) {
				t.Errorf("error %v, want ErrTarget", err)
			}
			if d := cmp.Diff(map[string]string{"sentinel": "-rw------- unchanged"}, readTree(t, outside)); d != "" {
				t.Errorf("outside:\n%s", d)
			}
		})
	}
}

func FuzzParseJournal(f *testing.F) {
	f.Add([]byte(goodJournal), "db")
	f.Add([]byte(strings.Replace(goodJournal, `"discard":true`, `"discard":false`, 1)), "db")
	f.Add([]byte("{}"), "")
	f.Fuzz(func(t *testing.T, data []byte, base string) {
		j, err := parseJournal(data, base)
		if err != nil {
			return
		}
		for _, name := range []string{j.Staged, j.Previous} {
			if name == "" || name == "." || name == ".." || name == base || strings.ContainsAny(name, "/\x00") {
				t.Errorf("the name %q is taken for target %q", name, base)
			}
		}
		if j.Discard && !strings.HasPrefix(j.Staged, "."+base+stagingInfix) {
			t.Errorf("%q would be removed", j.Staged)
		}
		data, err = json.Marshal(j)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseJournal(data, base)
		if err != nil || *again != *j {
			t.Errorf("read again: %+v, %v, want %+v", again, err, j)
		}
	})
}
