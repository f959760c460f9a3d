package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// open opens a repository that is named by its directory on this machine or, with a
// section of the config before a colon, by its location. The passphrase stands in a file.
func (c *call) open(ctx context.Context, where, passphrase string, mustExist bool) (*snapshot.Engine, error) {
	return c.openConfig(ctx, where, passphrase, snapshot.Config{MustExist: mustExist})
}

// openConfig is open with more settings.
func (c *call) openConfig(ctx context.Context, where, passphrase string, config snapshot.Config) (*snapshot.Engine, error) {
	if where == "" {
		return nil, errors.New("no repository is named: give -repo DIRECTORY")
	}
	locations, err := readConfig(c.config)
	if err != nil {
		return nil, err
	}
	key, err := passphraseFrom(passphrase)
	if err != nil {
		return nil, err
	}
	config.Repository, config.Locations, config.Key, config.JobsDir = where, locations, key, snapshot.JobsInMemory
	section, _, _ := strings.Cut(where, ":")
	if _, known := locations[section]; !known && section != "local" || section == where {
		abs, err := filepath.Abs(where)
		if err != nil {
			return nil, err
		}
		where = abs
		config.Repository = "local:" + filepath.ToSlash(abs)
		// What a section of this name says of other locations is not for directories.
		config.Locations = nil
	}
	e, err := snapshot.Open(ctx, config)
	if errors.Is(err, repo.ErrNotRepository) {
		return nil, fmt.Errorf("%s holds no repository: is it the one that the server was given? (%w)", where, err)
	}
	if key == nil && errors.Is(err, repo.ErrKey) {
		return nil, fmt.Errorf("%w: give -passphrase-file, or the flag of that kind for the other repository", err)
	}
	var l *repo.LocationError
	if errors.As(err, &l) && l.Rule == repo.RuleDriver {
		return nil, fmt.Errorf("%w, or use the command in repo/cloud/cmd/holdstill, which has the drivers", err)
	}
	return e, err
}

// readConfig reads the sections for locations. They may hold secrets, and no error
// shows one.
func readConfig(path string) (repo.LocationConfig, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	config, err := repo.ParseLocationConfig(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return config, nil
}
