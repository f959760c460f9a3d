package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

func list(ctx context.Context, c *call) error {
	var failed error
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	enc := json.NewEncoder(c.out)
	if !c.json {
		fmt.Fprintln(w, "ID\tCREATED\tCONSISTENCY\tFILES\tSIZE\tSTORED")
	}
	for s, err := range c.engine.List(ctx, snapshot.Filter{}) {
		switch {
		case err != nil:
			// One damaged manifest must not hide the others.
			fmt.Fprintln(c.err, "holdstill:", err)
			failed = errors.New("not every snapshot could be listed")
		case c.json:
			if err := enc.Encode(s); err != nil {
				return err
			}
		default:
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", s.ID, s.Created.Format(time.DateTime), shown(string(s.Consistency)),
				s.Stats.Files, size(s.Stats.Bytes), size(s.Stats.BytesStored))
		}
	}
	return errors.Join(w.Flush(), failed)
}

func show(ctx context.Context, c *call) error {
	s, err := c.engine.Get(ctx, c.flags.Arg(0))
	if err != nil {
		return err
	}
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	return enc.Encode(s)
}

func files(ctx context.Context, c *call) error {
	fsys, err := c.engine.OpenFS(ctx, c.flags.Arg(0))
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	err = fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\t%d\t%s\t  %s\n", info.Mode(), info.Size(), info.ModTime().Format(time.DateTime), shown(path))
		return err
	})
	return errors.Join(err, w.Flush())
}

func check(ctx context.Context, c *call) error {
	report, err := c.engine.Repository().Check(ctx, repo.CheckOptions{ReadData: c.data})
	if err != nil {
		return err
	}
	what := "structure"
	if c.data {
		what = "structure and all data"
	}
	fmt.Fprintf(c.out, "Checked the %s of %d snapshots: %d packs with %d chunks, %s, of which %s no snapshot needs.\n",
		what, report.Snapshots, report.Packs, report.Chunks, size(report.PackBytes), size(report.UnusedBytes))
	if report.OK() {
		fmt.Fprintln(c.out, "No damage.")
		return nil
	}
	for _, d := range report.Damage {
		fmt.Fprintln(c.out, d)
		for _, f := range d.Files {
			fmt.Fprintln(c.out, "    ", shown(f))
		}
	}
	return fmt.Errorf("%d things are damaged", len(report.Damage))
}

func restoreNeeds(c *call) error {
	if c.to == "" {
		return usageError("no target is named: give -to DIRECTORY")
	}
	return nil
}

func restore(ctx context.Context, c *call) error {
	start := time.Now()
	var stop func(context.Context) error
	if c.inPlace {
		// Now, and again before the exchange: a server may have been started since.
		if err := c.closed(c.to); err != nil {
			return err
		}
		stop = func(context.Context) error { return c.closed(c.to) }
	}
	result, err := c.engine.Restore(ctx, c.flags.Arg(0), snapshot.RestoreOptions{
		To: c.to, Source: c.source, Include: c.include, Skip: c.skip, InPlace: c.inPlace, SkipSpaceCheck: c.skipSpaceCheck,
		Stop:    stop,
		NoReuse: c.noReuse, ReuseFrom: c.reuseFrom, NoLinks: c.noLinks, Fetches: c.fetches,
	})
	if space := (*snapshot.SpaceError)(nil); errors.As(err, &space) && !c.skipSpaceCheck {
		return fmt.Errorf("%w (-skip-space-check)", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Restored %d files, %s, to %s in %v.\n", result.Files, size(result.Bytes), result.To, time.Since(start).Round(time.Millisecond))
	if result.BytesReused > 0 {
		fmt.Fprintf(c.out, "Of that, %s was there already; %d files are shared with it. Fetched: %s.\n", size(result.BytesReused), result.FilesLinked, size(result.BytesFetched))
	}
	if result.Previous != "" {
		fmt.Fprintf(c.out, "What was there is kept in %s.\nTo put it back: holdstill undo %s %s\n", result.Previous, result.To, result.Previous)
	}
	return nil
}

// closed returns an error if a process has the database in dir open, as far as that can be seen.
func (c *call) closed(dir string) error {
	if c.force {
		return nil
	}
	return inUse(dir)
}

func recoverTarget(ctx context.Context, c *call) error {
	result, err := snapshot.Recover(ctx, c.flags.Arg(0))
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out, "Action:", result.Action)
	if result.Previous != "" {
		fmt.Fprintln(c.out, "What was there before the restore is kept in", result.Previous)
	}
	return nil
}

func undo(ctx context.Context, c *call) error {
	if err := c.closed(c.flags.Arg(0)); err != nil {
		return err
	}
	kept, err := snapshot.Undo(ctx, c.flags.Arg(0), c.flags.Arg(1))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s is what it was before.\n", c.flags.Arg(0))
	if kept != "" {
		fmt.Fprintf(c.out, "What was there until now is kept in %s.\n", kept)
	}
	return nil
}

func toNeeds(c *call) error {
	if c.to == "" {
		return usageError("no other repository is named: give -to REPOSITORY")
	}
	return nil
}

func copySnapshot(ctx context.Context, c *call) (err error) {
	// Before a repository is made for it elsewhere.
	if _, err := c.engine.Repository().Manifest(ctx, c.flags.Arg(0)); err != nil {
		return err
	}
	passphrase := cmp.Or(c.toPassphrase, c.passphrase)
	if c.otherPlain {
		passphrase = ""
	}
	other, err := c.openConfig(ctx, c.to, passphrase, snapshot.Config{SameIdentityAs: c.engine.Repository()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	result, err := transfer.Copy(ctx, other.Repository(), c.engine.Repository(), c.flags.Arg(0), transfer.Options{Verify: c.verify})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Copied %s: %d chunks, %s, in %v.\n", result.Snapshot.ID, result.Chunks, size(result.BytesSent), result.Duration.Round(time.Millisecond))
	return nil
}

func remove(ctx context.Context, c *call) error {
	if err := c.engine.Delete(ctx, c.flags.Arg(0)); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Deleted %s.\n", c.flags.Arg(0))
	return nil
}

func rebuild(ctx context.Context, c *call) error {
	result, err := c.engine.Repository().RebuildIndex(ctx, repo.RebuildOptions{ReadData: c.data})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "The new index has %d chunks in %d packs, and replaces %d others.\n", result.Chunks, result.Packs, result.Replaced)
	if result.Plans > 0 {
		fmt.Fprintf(c.out, "%d collections were forgotten that could not be read; collect again.\n", result.Plans)
	}
	for _, err := range result.Damaged {
		fmt.Fprintln(c.out, "left out:", err)
	}
	if len(result.Damaged) > 0 {
		return fmt.Errorf("%d packs or chunks could not be read", len(result.Damaged))
	}
	return nil
}

// shown returns a name as it is, or in quotes where a terminal might take it for more than
// text, or a line for two.
func shown(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// size renders bytes for a person.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, prefix := float64(n)/unit, 0
	for v >= unit && prefix < 5 {
		v /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTPE"[prefix])
}
