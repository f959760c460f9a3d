package main

import (
	"context"
	"path/filepath"
)

// A step is one thing that is measured, or prepared for what is.
type step int

const (
	prepare   step = iota // make the repository; not measured
	first                 // a snapshot of the first generation
	unchanged             // once more, with nothing changed
	changed               // a snapshot of the second generation
	restore               // the newest snapshot, to an empty folder
	check                 // read all data in the repository and verify it
	remove                // delete all snapshots but the newest, and collect
	steps
)

// measured are the steps that the table has columns for, in their order.
var measured = []step{first, unchanged, changed, restore, check, remove}

func (s step) String() string {
	return [steps]string{"prepare", "first", "unchanged", "changed", "restore", "check", "delete and collect"}[s]
}

// snapshots reports whether the step adds a snapshot to the repository.
func (s step) snapshots() bool { return s == first || s == unchanged || s == changed }

// label names the snapshot that a step makes. Labels sort in the order of the steps.
func (s step) label() string { return [steps]string{first: "s1", unchanged: "s2", changed: "s3"}[s] }

// A peer is a tool that takes snapshots. It only says what to run: one place runs
// and measures all of them alike.
type peer interface {
	describe() description
	// script returns what to run for a step, or nil if the tool cannot do it.
	script(step, site) *script
}

// A prober is a peer that may not fit the corpus. A reason is a line for the
// table: the peer is not measured then. An error is one that the probe ran into.
type prober interface {
	probe(context.Context, *runner, site) (reason string, err error)
}

// An embedded peer can take a snapshot of nothing changed in a process that runs
// already. The script prints how long one took, in seconds.
type embedded interface {
	inProcess(site) *script
}

// description is what the table says of a peer.
type description struct {
	name     string
	settings string // as on the command line
	// encryption says whether what is stored is encrypted.
	encryption string
	// note is a sentence to know before comparing; empty if there is none.
	note string
	// programs must be installed; packages of Debian have them.
	programs, packages []string
	// version prints the version somewhere in its first line. Empty for what is
	// built from this tree.
	version []string
}

// site says where a peer works. All paths are absolute.
type site struct {
	self   string // this program
	corpus string // what to take snapshots of
	state  string // all that the peer writes lies below
	target string // where to restore to
}

// repo is the folder whose bytes are counted.
func (s site) repo(elem ...string) string {
	return filepath.Join(append([]string{s.state, "repo"}, elem...)...)
}

// home is a home directory of the peer's own, for its caches.
func (s site) home() string { return filepath.Join(s.state, "home") }

// A script is a few pipelines, one after the other, measured as one.
type script struct {
	dir       string   // where to run
	env       []string // on top of what all have
	pipelines []pipeline
}

// A pipeline is commands that run at once, each reading what the one before it
// writes.
type pipeline [][]string

// run makes a script of single commands.
func run(dir string, env []string, commands ...[]string) *script {
	s := &script{dir: dir, env: env}
	for _, c := range commands {
		s.pipelines = append(s.pipelines, pipeline{c})
	}
	return s
}

// allPeers are the peers in the order of the table. The first is what all others
// are compared with.
func allPeers() []peer {
	return []peer{
		holdstill{name: "holdstill", policy: policyBalanced},
		holdstill{name: "holdstill-fast", policy: policyFast},
		holdstill{name: "holdstill-encrypted", policy: policyBalanced, encrypted: true},
		restic{},
		borg{name: "borg", mode: "none", encryption: "no"},
		borg{name: "borg-encrypted", mode: "repokey-blake2", encryption: "yes, and authenticated"},
		casync{},
		tarZstd{},
		cp{},
		rsync{},
		rclone{},
		rocksdb{},
	}
}
