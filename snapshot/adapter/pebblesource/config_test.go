package pebblesource

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
	"github.com/google/go-cmp/cmp"
)

func TestParseConfig(t *testing.T) {
	written := func(change func(*pebble.Options)) string {
		o := &pebble.Options{}
		change(o)
		o.EnsureDefaults()
		return o.String()
	}
	tests := []struct {
		name, text string
		want       config
	}{
		{"empty", "", config{}},
		{"defaults", written(func(*pebble.Options) {}), config{}},
		{"no log", written(func(o *pebble.Options) { o.DisableWAL = true }), config{disableWAL: true}},
		{"log folder", written(func(o *pebble.Options) { o.WALDir = "/log = here" }), config{walDir: true}},
		{"failover", written(func(o *pebble.Options) {
			o.WALFailover = &pebble.WALFailoverOptions{Secondary: wal.Dir{FS: vfs.Default, Dirname: "/second"}}
		}), config{failover: true}},
		{"commented out", "# [WAL Failover]\n#   secondary_dir=/x\n", config{}},
		{"other section", "[Level \"0\"]\n disable_wal=true\n", config{}},
		{"no end of line", "[Options]\n disable_wal=true", config{disableWAL: true}},
		{"not a boolean", "[Options]\ndisable_wal=perhaps\n", config{}},
	}
	for _, tt := range tests {
		if got := parseConfig(tt.text); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestNewestOptions(t *testing.T) {
	tests := []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"MANIFEST-000009", "OPTIONS-", "OPTIONS-x", "OPTIONS"}, ""},
		{[]string{"OPTIONS-000009", "OPTIONS-000010", "OPTIONS-1000000", "OPTIONS-000003"}, "OPTIONS-1000000"},
		{[]string{"OPTIONS-000000"}, "OPTIONS-000000"},
	}
	for _, tt := range tests {
		if got := newestOptions(tt.names); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.names, got, tt.want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	o := &pebble.Options{WALDir: "/wal"}
	o.EnsureDefaults()
	f.Add(o.String())
	f.Add("[Options]\nwal_dir=a=b\n")
	f.Add("wal_dir")
	f.Fuzz(func(t *testing.T, text string) {
		before := parseConfig(text)
		home := dropLogFolder(text)
		before.walDir = false
		if diff := cmp.Diff(before, parseConfig(home), cmp.AllowUnexported(config{})); diff != "" {
			t.Errorf("%q: other settings changed (-want +got):\n%s", text, diff)
		}
		if dropLogFolder(home) != home {
			t.Errorf("%q: not the same when done twice", text)
		}
		if a, b := strings.Count(text, "\n"), strings.Count(home, "\n"); a != b && a+1 != b {
			t.Errorf("%q: %d lines became %d", text, a, b)
		}
	})
}

// However the copy of a log is written, its file is the head of what was written,
// up to the length noted at the freeze.
func FuzzCut(f *testing.F) {
	f.Add([]byte("a log of some records"), uint16(7), uint8(3))
	f.Add([]byte("short"), uint16(900), uint8(1))
	f.Add([]byte{}, uint16(0), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, length uint16, step uint8) {
		fs := NewFS(vfs.NewMem())
		src, err := fs.Create("000002.log", "pebble-wal")
		if err != nil {
			t.Fatal(err)
		}
		c := fs.watch("scratch")
		if err := fs.Unwrap().MkdirAll("scratch", 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := src.Write(bytes.Clone(c.markPayload())); err != nil {
			t.Fatal(err)
		}
		if !isDone(c.marked) {
			t.Fatal("the mark was not seen")
		}
		fs.logs["000002.log"].Store(int64(length))
		c.cut()
		dst, err := fs.Create("scratch/000002.log", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			if wrote, err := dst.Write(bytes.Clone(rest[:n])); wrote != n || err != nil {
				t.Fatalf("Write of %d: %d, %v", n, wrote, err)
			}
			rest = rest[n:]
		}
		if err := dst.Close(); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, viewFS{fs, "scratch"}, "000002.log")
		if want := data[:min(len(data), int(length))]; !bytes.Equal(got, want) {
			t.Errorf("the copy holds %q, want %q", got, want)
		}
		if _, err := fs.Create("scratch/000003.log", vfs.WriteCategoryUnspecified); err == nil {
			t.Error("a log that was unknown at the freeze was copied")
		}
	})
}
