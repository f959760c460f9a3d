package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

func dryRunFlag(c *call) {
	c.flags.BoolVar(&c.dryRun, "dry-run", false, "say what would be done, and do nothing")
}

func collectFlags(c *call) {
	dryRunFlag(c)
	c.flags.BoolVar(&c.recompress, "recompress", false, "compress more what was stored in a hurry")
	c.flags.DurationVar(&c.leaseTimeout, "lease-timeout", repo.DefaultLeaseTimeout, "give up a session that shows no sign of life for so `long`")
}

func pruneFlags(c *call) {
	dryRunFlag(c)
	p := &c.policy
	c.flags.IntVar(&p.Last, "keep-last", 0, "keep the `n` newest")
	c.flags.IntVar(&p.Hourly, "keep-hourly", 0, "keep the newest of each of the last `n` hours that have one")
	c.flags.IntVar(&p.Daily, "keep-daily", 0, "the same for `n` days")
	c.flags.IntVar(&p.Weekly, "keep-weekly", 0, "the same for `n` weeks")
	c.flags.IntVar(&p.Monthly, "keep-monthly", 0, "the same for `n` months")
	c.flags.IntVar(&p.Yearly, "keep-yearly", 0, "the same for `n` years")
	c.flags.DurationVar(&p.Within, "keep-within", 0, "keep what is no more than so `much` older than the newest, such as 48h")
	c.flags.Func("keep-label", "keep those with this `label`; may be given more than once", func(label string) error {
		p.Labels = append(p.Labels, label)
		return snapshot.CheckLabel(label)
	})
}

func collect(ctx context.Context, c *call) error {
	start := time.Now()
	result, err := c.engine.Collect(ctx, repo.CollectOptions{DryRun: c.dryRun, Recompress: c.recompress, LeaseTimeout: c.leaseTimeout})
	if err != nil {
		return roomFor(err)
	}
	fmt.Fprintf(c.out, "Of %s in %d packs, %d snapshots need %s.\n", size(result.Bytes), result.Packs, result.Snapshots, size(result.BytesLive))
	verb, stored := "Deleted", "stored"
	if c.dryRun {
		verb, stored = "Would delete", "store"
	}
	fmt.Fprintf(c.out, "%s %d packs with %s, and %s %s of that anew: %s are left.\n",
		verb, result.PacksDeleted, size(result.BytesFreed), stored, size(result.BytesWritten), size(result.BytesAfter()))
	if result.PacksPending > 0 {
		fmt.Fprintf(c.out, "%d packs with %s wait for sessions that are under way: collect again later.\n", result.PacksPending, size(result.BytesPending))
	}
	for _, s := range result.GivenUp {
		fmt.Fprintln(c.out, "Gave up a session that showed no sign of life:", s)
	}
	fmt.Fprintf(c.out, "It took %v.\n", time.Since(start).Round(time.Millisecond))
	return nil
}

// roomFor says what to do about a store that has no room left even for what frees some.
func roomFor(err error) error {
	if errors.Is(err, repo.ErrNoSpace) {
		return fmt.Errorf("%w\nA collection needs some room itself, for its notes and a new index, before it deletes anything. Make a few megabytes free in another way, and run it again: it goes on from there", err)
	}
	return err
}

func pruneNeeds(c *call) error {
	if _, err := c.policy.Apply(nil); err != nil {
		return usageError(err.Error() + ": give at least one -keep flag, and no negative number")
	}
	return nil
}

func prune(ctx context.Context, c *call) error {
	result, err := c.engine.Prune(ctx, c.policy, snapshot.PruneOptions{DryRun: c.dryRun})
	if result == nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, v := range result.Verdicts {
		what := "keep\t" + strings.Join(v.Reasons, ", ")
		if !v.Kept() {
			what = "delete\t"
		}
		fmt.Fprintf(w, "%s\t%s\n", v.Snapshot.ID, what)
	}
	err = errors.Join(err, w.Flush())
	verb := "Deleted"
	if c.dryRun {
		verb = "Would delete"
	}
	fmt.Fprintf(c.out, "%s %d of %d snapshots. Their space is freed by holdstill collect.\n", verb, len(result.Deleted), len(result.Verdicts))
	for _, damaged := range result.Unreadable {
		fmt.Fprintln(c.err, "holdstill: left alone:", damaged)
	}
	if err == nil && len(result.Unreadable) > 0 {
		err = errors.New("not every snapshot could be read")
	}
	return err
}
