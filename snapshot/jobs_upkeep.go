package snapshot

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/transfer"
)

// StartDelete is Delete as a job. It fails with a *transfer.JobBusyError while the same
// snapshot is being deleted by a job, with ErrClosed, or where the job cannot be recorded;
// all else is the job's error.
func (e *Engine) StartDelete(ctx context.Context, id string) (*transfer.Job, error) {
	task := transfer.Task{Kind: transfer.KindDelete, Snapshot: id, Exclusive: "the deletion of " + id}
	return e.startJob(ctx, task, func(ctx context.Context, _ *transfer.Reporter) error {
		return e.Delete(ctx, id)
	})
}

// StartCollect is Collect as a job. One at a time may run; a second one fails with a
// *transfer.JobBusyError. Progress.Phase is a repo.CollectPhase: while packs are stored anew bytes
// are counted, and while packs are deleted those. When it has completed, Status.Details has
// "bytesFreed", "packsDeleted", "bytesPending" and "packsPending", the last two of what the next collection
// deletes. Otherwise it is like StartDelete.
func (e *Engine) StartCollect(ctx context.Context, opts repo.CollectOptions) (*transfer.Job, error) {
	task := transfer.Task{Kind: transfer.KindCollect, Exclusive: "a collection"}
	return e.startJob(ctx, task, func(ctx context.Context, r *transfer.Reporter) error {
		also := opts.Progress
		opts.Progress = func(p repo.CollectProgress) {
			shown := transfer.Progress{Phase: string(p.Phase)}
			switch p.Phase {
			case repo.CollectRepack:
				shown.BytesDone, shown.BytesTotal = p.Done, p.Total
			case repo.CollectSweep:
				shown.PacksDone, shown.PacksTotal = p.Done, p.Total
			}
			r.Progress(shown)
			if also != nil {
				also(p)
			}
		}
		result, err := e.Collect(ctx, opts)
		if err != nil {
			return err
		}
		details(r, map[string]int64{
			"bytesFreed": result.BytesFreed, "packsDeleted": int64(result.PacksDeleted),
			"bytesPending": result.BytesPending, "packsPending": int64(result.PacksPending),
		})
		return nil
	})
}

// StartCheck is repo.Repository.Check as a job. Where something is damaged the job fails with
// an error that matches ErrDamaged and names a thing that harms a snapshot, if one does. Status.Details has "snapshots",
// "packs", "chunks", "damage" and "unusedBytes", all of them numbers. report, unless nil, gets
// all that was found, before the job ends. Otherwise it is like StartDelete.
func (e *Engine) StartCheck(ctx context.Context, opts repo.CheckOptions, report func(*repo.Report)) (*transfer.Job, error) {
	return e.startJob(ctx, transfer.Task{Kind: transfer.KindCheck}, func(ctx context.Context, r *transfer.Reporter) error {
		ctx, done, err := e.begin(ctx)
		if err != nil {
			return err
		}
		defer done()
		also := opts.Progress
		opts.Progress = func(done, total int64) {
			r.Progress(transfer.Progress{BytesDone: done, BytesTotal: total})
			if also != nil {
				also(done, total)
			}
		}
		found, err := e.repo.Check(ctx, opts)
		if err != nil {
			return err
		}
		details(r, map[string]int64{
			"snapshots": int64(found.Snapshots), "packs": int64(found.Packs), "chunks": int64(found.Chunks),
			"damage": int64(len(found.Damage)), "unusedBytes": found.UnusedBytes,
		})
		if report != nil {
			report(found)
		}
		if n := len(found.Damage); n > 0 {
			worst := max(slices.IndexFunc(found.Damage, func(d repo.Damage) bool { return len(d.Snapshots) > 0 }), 0)
			return fmt.Errorf("%w: %d things are, such as %v", ErrDamaged, n, found.Damage[worst])
		}
		return nil
	})
}

// details adds numbers to a job's details.
func details(r *transfer.Reporter, numbers map[string]int64) {
	for key, n := range numbers {
		r.Detail(key, strconv.FormatInt(n, 10))
	}
}
