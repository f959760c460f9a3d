package main

import (
	"strings"
	"testing"
)

// TestScripts tests what must hold of every peer: all names differ, what it runs is
// what it says it needs, and nothing outside its own folder is written to.
func TestScripts(t *testing.T) {
	at := site{self: "/self", corpus: "/corpus", state: "/state", target: "/target"}
	seen := make(map[string]bool)
	for _, p := range allPeers() {
		d := p.describe()
		t.Run(d.name, func(t *testing.T) {
			if d.name == "" || d.settings == "" || d.encryption == "" || seen[d.name] {
				t.Errorf("incomplete or not unique: %+v", d)
			}
			seen[d.name] = true
			if len(d.programs) > 0 && (len(d.packages) == 0 || len(d.version) == 0) {
				t.Errorf("programs without a package or a version: %+v", d)
			}
			if _, ok := p.(prober); ok {
				return
			}
			for _, s := range []step{prepare, first, unchanged, changed, restore} {
				if p.script(s, at) == nil {
					t.Errorf("it cannot %v", s)
				}
			}
			for s := prepare; s < steps; s++ {
				script := p.script(s, at)
				if script == nil {
					continue
				}
				if script.dir != at.corpus && script.dir != at.state && script.dir != at.target {
					t.Errorf("%v runs in %q", s, script.dir)
				}
				for _, pipe := range script.pipelines {
					for _, command := range pipe {
						checkCommand(t, d, s, command)
					}
				}
			}
		})
	}
}

func checkCommand(t *testing.T, d description, s step, command []string) {
	t.Helper()
	known := append([]string{"/self", "rm", "mkdir", "touch"}, d.programs...)
	found := false
	for _, program := range known {
		found = found || program == command[0]
	}
	if !found {
		t.Errorf("%v runs %q, which is not among its programs %q", s, command[0], d.programs)
	}
	for _, arg := range command {
		if command[0] == "rm" && strings.HasPrefix(arg, "/") && !strings.HasPrefix(arg, "/state/repo/") {
			t.Errorf("%v removes %s", s, arg)
		}
	}
}

func TestStepLabels(t *testing.T) {
	last := ""
	for s := prepare; s < steps; s++ {
		if s.String() == "" {
			t.Errorf("step %d has no name", s)
		}
		if s.snapshots() != (s.label() != "") {
			t.Errorf("%v: snapshots is %v and the label %q", s, s.snapshots(), s.label())
		}
		if s.snapshots() {
			if s.label() <= last {
				t.Errorf("label %q does not come after %q", s.label(), last)
			}
			last = s.label()
		}
	}
}

func TestVersionOf(t *testing.T) {
	for output, want := range map[string]string{
		"restic 0.14.0 compiled with go1.19.8 on linux/amd64": "0.14.0",
		"borg 1.2.4":                 "1.2.4",
		"casync 2\n+SELINUX +ZSTD\n": "2",
		"*** Zstandard CLI (64-bit) v1.5.4, by Yann Collet ***":               "1.5.4",
		"cp (GNU coreutils) 9.1\nCopyright (C) 2022 Free Software Foundation": "9.1",
		"rsync  version 3.2.7  protocol version 32":                           "3.2.7",
		"rclone v1.60.1-DEV\n- os/version: debian 12.7 (64 bit)":              "1.60.1-DEV",
		"ldb from RocksDB 7.8.3":                                              "7.8.3",
		"no number":                                                           "",
		"":                                                                    "",
	} {
		if got := versionOf(output); got != want {
			t.Errorf("%q: got %q, want %q", output, got, want)
		}
	}
}

func FuzzVersionOf(f *testing.F) {
	f.Add("borg 1.2.4")
	f.Add("casync 2")
	f.Add("1.2.")
	f.Fuzz(func(t *testing.T, output string) {
		got := versionOf(output)
		if !strings.Contains(output, got) {
			t.Errorf("%q is not in %q", got, output)
		}
		if got != "" && (got[0] < '0' || got[0] > '9') {
			t.Errorf("%q does not begin with a digit", got)
		}
	})
}
