package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// rocksdb is the backup command of RocksDB's tool. It knows RocksDB only, so two of
// the three databases are beyond it, and of Pebble it reads no format that Pebble
// still writes. It is here so that the table says so after trying.
type rocksdb struct{}

func (rocksdb) describe() description {
	return description{
		name: "rocksdb-ldb", settings: "ldb backup", encryption: "no",
		programs: []string{"ldb"}, packages: []string{"rocksdb-tools"}, version: []string{"ldb", "--version"},
	}
}

// script is nil for every step: see probe.
func (rocksdb) script(step, site) *script { return nil }

func (rocksdb) backup(db string, at site) *script {
	// Pebble's OPTIONS file is nothing that it can parse, so it does without.
	return run(at.state, nil, []string{"ldb", "--db=" + db, "--try_load_options=false", "backup", "--backup_dir=" + at.repo(), "--num_threads=2"})
}

// probe tries to back Pebble's folder up. On a copy, as the tool opens the database
// for writing.
func (r rocksdb) probe(ctx context.Context, runner *runner, at site) (reason string, err error) {
	db := filepath.Join(at.state, "kv")
	if err := os.CopyFS(db, os.DirFS(filepath.Join(at.corpus, "kv"))); err != nil {
		return "", err
	}
	_, _, err = runner.measure(ctx, r.backup(db, at), at)
	var tool *toolError
	switch {
	case errors.As(err, &tool):
		return fmt.Sprintf("cannot read Pebble's files: %s", strings.ReplaceAll(tool.complaint, db+"/", "")), nil
	case err != nil:
		return "", err
	}
	return "not comparable: it took Pebble's folder and knows nothing of the other databases", nil
}
