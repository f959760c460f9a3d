package main

import "github.com/holdstill/holdstill/bench/database"

// borg is BorgBackup with lz4, its fastest compression.
type borg struct{ name, mode, encryption string }

func (b borg) describe() description {
	return description{
		name: b.name, settings: "-e " + b.mode + " -C lz4", encryption: b.encryption,
		programs: []string{"borg"}, packages: []string{"borgbackup"}, version: []string{"borg", "--version"},
	}
}

func (b borg) script(s step, at site) *script {
	env := []string{
		"BORG_BASE_DIR=" + at.home(), "BORG_PASSPHRASE=benchmark",
		"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes",
	}
	archive := at.repo() + "::" + s.label()
	switch s {
	case prepare:
		return run(at.state, env, []string{"borg", "init", "-e", b.mode, at.repo()})
	case first, unchanged, changed:
		return run(at.corpus, env, append([]string{"borg", "create", "-C", "lz4", archive}, database.Kinds()...))
	case restore:
		return run(at.target, env, []string{"borg", "extract", at.repo() + "::" + changed.label()})
	case check:
		return run(at.state, env, []string{"borg", "check", "--verify-data", at.repo()})
	case remove:
		return run(at.state, env,
			[]string{"borg", "prune", "--keep-last", "1", at.repo()},
			[]string{"borg", "compact", at.repo()})
	}
	return nil
}
