package main

import "github.com/holdstill/holdstill/bench/database"

// The peers in this file keep a copy of each snapshot, and share at most whole
// files between them.

// tarZstd is one compressed archive a snapshot.
type tarZstd struct{}

func (tarZstd) describe() description {
	return description{
		name: "tar|zstd", settings: "zstd -1 -T0", encryption: "no",
		programs: []string{"tar", "zstd"}, packages: []string{"tar", "zstd"}, version: []string{"zstd", "--version"},
	}
}

func (tarZstd) script(s step, at site) *script {
	archive := func(s step) string { return at.repo(s.label() + ".tar.zst") }
	switch s {
	case prepare:
		return run(at.state, nil, []string{"mkdir", at.repo()})
	case first, unchanged, changed:
		return &script{dir: at.corpus, pipelines: []pipeline{{
			append([]string{"tar", "-cf", "-"}, database.Kinds()...),
			{"zstd", "-q", "-1", "-T0", "-o", archive(s)},
		}}}
	case restore:
		return &script{dir: at.target, pipelines: []pipeline{{
			{"zstd", "-q", "-d", "-c", archive(changed)},
			{"tar", "-xf", "-"},
		}}}
	case check:
		return run(at.state, nil, []string{"zstd", "-q", "-t", archive(first), archive(unchanged), archive(changed)})
	case remove:
		return run(at.state, nil, []string{"rm", archive(first), archive(unchanged)})
	}
	return nil
}

// cp copies all files, or clones them where the file system can.
type cp struct{}

func (cp) describe() description {
	return description{
		name: "cp", settings: "-a", encryption: "no",
		programs: []string{"cp"}, packages: []string{"coreutils"}, version: []string{"cp", "--version"},
	}
}

func (cp) script(s step, at site) *script {
	switch s {
	case prepare:
		return run(at.state, nil, []string{"mkdir", at.repo()})
	case first, unchanged, changed:
		return run(at.state, nil, []string{"cp", "-a", at.corpus, at.repo(s.label())})
	case restore:
		return run(at.state, nil, []string{"cp", "-a", at.repo(changed.label()) + "/.", at.target})
	case remove:
		return run(at.state, nil, []string{"rm", "-r", at.repo(first.label()), at.repo(unchanged.label())})
	}
	return nil
}

// rsync copies what has changed and links the rest to the snapshot before.
type rsync struct{}

func (rsync) describe() description {
	return description{
		name: "rsync", settings: "-a --link-dest", encryption: "no",
		programs: []string{"rsync"}, packages: []string{"rsync"}, version: []string{"rsync", "--version"},
	}
}

func (rsync) script(s step, at site) *script {
	rsync := func(args ...string) *script {
		return run(at.state, nil, append([]string{"rsync", "-a"}, args...))
	}
	to := func(s step) string { return at.repo(s.label()) + "/" }
	switch s {
	case prepare:
		return run(at.state, nil, []string{"mkdir", at.repo()})
	case first:
		return rsync(at.corpus+"/", to(s))
	case unchanged, changed:
		return rsync("--link-dest="+at.repo((s-1).label()), at.corpus+"/", to(s))
	case restore:
		return rsync(to(changed), at.target+"/")
	case remove:
		return run(at.state, nil, []string{"rm", "-r", to(first), to(unchanged)})
	}
	return nil
}

// rclone keeps the newest state whole, and of those before what was replaced.
type rclone struct{}

func (rclone) describe() description {
	return description{
		name: "rclone", settings: "sync --backup-dir", encryption: "no",
		note:     "keeps the newest state whole, and of older ones only what was replaced",
		programs: []string{"rclone"}, packages: []string{"rclone"}, version: []string{"rclone", "version"},
	}
}

func (rclone) script(s step, at site) *script {
	rclone := func(args ...string) *script {
		return run(at.state, nil, append([]string{"rclone", "-q", "--config", at.home() + "/rclone.conf"}, args...))
	}
	replaced := func(by step) string { return at.repo("replaced-by-" + by.label()) }
	switch s {
	case prepare:
		return run(at.state, nil, []string{"mkdir", at.repo(), at.home()}, []string{"touch", at.home() + "/rclone.conf"})
	case first:
		return rclone("sync", at.corpus, at.repo("current"))
	case unchanged, changed:
		return rclone("sync", "--backup-dir", replaced(s), at.corpus, at.repo("current"))
	case restore:
		return rclone("copy", at.repo("current"), at.target)
	case remove:
		// There is none of the unchanged snapshot, as it replaced nothing.
		return run(at.state, nil, []string{"rm", "-rf", replaced(unchanged), replaced(changed)})
	}
	return nil
}
