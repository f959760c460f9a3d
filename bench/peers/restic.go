package main

import "github.com/holdstill/holdstill/bench/database"

// restic is restic with the fastest compression it has in every version since 0.14.
type restic struct{}

func (restic) describe() description {
	return description{
		name: "restic", settings: "--compression auto", encryption: "yes, always",
		note:     "derives its key anew at every start, which alone takes about half a second",
		programs: []string{"restic"}, packages: []string{"restic"}, version: []string{"restic", "version"},
	}
}

func (restic) script(s step, at site) *script {
	env := []string{"RESTIC_REPOSITORY=" + at.repo(), "RESTIC_PASSWORD=benchmark"}
	restic := func(dir string, args ...string) *script {
		return run(dir, env, append([]string{"restic", "-q", "--compression", "auto"}, args...))
	}
	switch s {
	case prepare:
		return restic(at.state, "init")
	case first, unchanged, changed:
		return restic(at.corpus, append([]string{"backup", "--tag", s.label()}, database.Kinds()...)...)
	case restore:
		return restic(at.target, "restore", "latest", "--target", ".")
	case check:
		return restic(at.state, "check", "--read-data")
	case remove:
		return restic(at.state, "forget", "--keep-last", "1", "--prune")
	}
	return nil
}
