package main

// casync keeps one index file a snapshot and one file a chunk. Its encoder cache is
// on: without it an unchanged snapshot is as slow as the first.
type casync struct{}

func (casync) describe() description {
	return description{
		name: "casync", settings: "--compression=zstd --cache", encryption: "no",
		note:     "checks only what the newest snapshot needs, with its digest command",
		programs: []string{"casync"}, packages: []string{"casync"}, version: []string{"casync", "--version"},
	}
}

func (casync) script(s step, at site) *script {
	index := func(s step) string { return at.repo(s.label() + ".caidx") }
	casync := func(verb string, args ...string) *script {
		// Owners and the like are left out, or restoring would need root.
		args = append([]string{"casync", verb, "--without=all", "--store=" + at.repo("chunks.castr"), "--compression=zstd"}, args...)
		return run(at.state, nil, args)
	}
	switch s {
	case prepare:
		return run(at.state, nil, []string{"mkdir", at.repo(), at.home()})
	case first, unchanged, changed:
		return casync("make", "--cache="+at.home(), index(s), at.corpus)
	case restore:
		return casync("extract", index(changed), at.target)
	case check:
		return casync("digest", index(changed))
	case remove:
		s := casync("gc", index(changed))
		s.pipelines = append([]pipeline{{{"rm", index(first), index(unchanged)}}}, s.pipelines...)
		return s
	}
	return nil
}
