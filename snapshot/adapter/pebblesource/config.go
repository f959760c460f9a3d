package pebblesource

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// config is what matters here of the options a database was opened with.
type config struct {
	disableWAL bool
	failover   bool // WAL failover
	walDir     bool // the log lies in another folder
}

// maxOptionsSize bounds what is read of an OPTIONS file. Pebble's take some KiB.
const maxOptionsSize = 1 << 20

// readConfig reads the newest OPTIONS file of the database in dir, which Pebble
// writes each time it opens one.
func readConfig(fs vfs.FS, dir string) (config, error) {
	names, err := fs.List(dir)
	if err != nil {
		return config{}, fmt.Errorf("%w: %w", ErrNotDatabase, err)
	}
	newest := newestOptions(names)
	if newest == "" {
		return config{}, fmt.Errorf("%w: %s has no OPTIONS file; pass the folder that was given to pebble.Open",
			ErrNotDatabase, dir)
	}
	text, err := readOptions(fs, fs.PathJoin(dir, newest))
	if err != nil {
		return config{}, err
	}
	return parseConfig(text), nil
}

// newestOptions returns the name of the OPTIONS file with the highest number, or "".
func newestOptions(names []string) string {
	newest, number := "", uint64(0)
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, "OPTIONS-")
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 64); err == nil && (newest == "" || n > number) {
			newest, number = name, n
		}
	}
	return newest
}

func readOptions(fs vfs.FS, path string) (string, error) {
	f, err := fs.Open(path)
	if err != nil {
		return "", fmt.Errorf("pebblesource: cannot read the options: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxOptionsSize+1))
	if err == nil && len(text) > maxOptionsSize {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxOptionsSize)
	}
	if err != nil {
		return "", fmt.Errorf("pebblesource: cannot read the options: %w", err)
	}
	return string(text), nil
}

// bringLogHome makes the OPTIONS file of a checkpoint say that the logs lie in its
// own folder. That is where DB.Checkpoint puts them, but it copies the file with
// the name of the log folder of the original. A restored database would look there,
// and find the log of a live one.
func bringLogHome(fs vfs.FS, dir string, names []string) error {
	path := fs.PathJoin(dir, newestOptions(names))
	text, err := readOptions(fs, path)
	if err != nil {
		return err
	}
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("pebblesource: cannot write the options: %w", err)
	}
	_, err = io.WriteString(f, dropLogFolder(text))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("pebblesource: cannot write the options: %w", err)
	}
	return nil
}

// dropLogFolder empties the value of wal_dir and leaves every other line as it is.
func dropLogFolder(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if key, _, ok := strings.Cut(line, "="); ok && strings.TrimSpace(key) == "wal_dir" {
			line = key + "=\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// parseConfig looks for three settings in the text of an OPTIONS file: sections in
// brackets, "key=value" lines, comments after '#'.
func parseConfig(text string) config {
	var c config
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = strings.TrimSpace(line[1 : len(line)-1])
			c.failover = c.failover || section == "WAL Failover"
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "Options" {
			continue
		}
		switch key, value = strings.TrimSpace(key), strings.TrimSpace(value); key {
		case "disable_wal":
			on, err := strconv.ParseBool(value)
			c.disableWAL = err == nil && on
		case "wal_dir":
			c.walDir = value != ""
		}
	}
	return c
}
