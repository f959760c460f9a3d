package main

import "strconv"

// The policies that holdstill is measured with.
const (
	policyBalanced = "balanced"
	policyFast     = "fast"
)

// againRuns is how many snapshots of nothing changed the median within one process
// is taken of.
const againRuns = 9

// holdstill is this program, run again as a process of its own.
type holdstill struct {
	name, policy string
	encrypted    bool
}

// passphraseEnv hands a child the passphrase of its repository. Without it the repository is
// not encrypted.
const passphraseEnv = "HOLDSTILL_PEERS_PASSPHRASE"

func (h holdstill) env() []string {
	if !h.encrypted {
		return nil
	}
	return []string{passphraseEnv + "=benchmark"}
}

func (h holdstill) describe() description {
	codec := "zstd, fastest"
	if h.policy == policyFast {
		codec = "s2"
	}
	encryption := "no"
	if h.encrypted {
		encryption = "yes, and authenticated"
	}
	return description{
		name: h.name, settings: "Policy: " + h.policy + " (" + codec + ")", encryption: encryption,
	}
}

func (h holdstill) script(s step, at site) *script {
	child := func(args ...string) *script {
		return run(at.state, h.env(), append([]string{at.self, childVerb}, args...))
	}
	switch s {
	case prepare:
		return child("init", at.repo())
	case first, unchanged, changed:
		return child("create", at.repo(), h.policy, at.corpus, s.label())
	case restore:
		return child("restore", at.repo(), changed.label(), at.target)
	case check:
		return child("check", at.repo())
	case remove:
		return child("remove", at.repo())
	}
	return nil
}

func (h holdstill) inProcess(at site) *script {
	return run(at.state, h.env(), []string{at.self, childVerb, "again", at.repo(), h.policy, at.corpus, strconv.Itoa(againRuns)})
}
