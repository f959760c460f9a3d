package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

func upload(ctx context.Context, c *call) error {
	return c.transfer(ctx, c.to, c.toPassphrase, "Uploaded", c.engine.Upload)
}

func fromNeeds(c *call) error {
	if c.from == "" {
		return usageError("no other repository is named: give -from REPOSITORY")
	}
	return nil
}

// downloadable makes sure that there is something to download.
func downloadable(ctx context.Context, c *call) (err error) {
	passphrase := cmp.Or(c.fromPassphrase, c.passphrase)
	if c.otherPlain {
		passphrase = ""
	}
	other, err := c.open(ctx, c.from, passphrase, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	_, err = other.Repository().Manifest(ctx, c.flags.Arg(0))
	return err
}

func download(ctx context.Context, c *call) error {
	return c.transfer(ctx, c.from, c.fromPassphrase, "Downloaded", c.engine.Download)
}

// transfer starts a job, shows its progress and waits for it. An interrupt aborts it; what
// has arrived stays for the next run. The passphrase of the other repository stands in a file.
func (c *call) transfer(ctx context.Context, where, passphrase, verb string,
	start func(context.Context, string, string, snapshot.TransferOptions) (*transfer.Job, error)) error {
	locations, err := readConfig(c.config)
	if err != nil {
		return err
	}
	if where, locations, err = otherLocation(where, locations); err != nil {
		return err
	}
	if c.otherPlain {
		passphrase = ""
	}
	key, err := passphraseFrom(passphrase)
	if err != nil {
		return err
	}
	id := c.flags.Arg(0)
	job, err := start(ctx, id, where, snapshot.TransferOptions{Locations: locations, Key: key, Plain: c.otherPlain, Transfer: transfer.Options{Verify: c.verify}})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, job.Abort)()
	shown := time.Now()
	for s := range job.Progress() {
		if time.Since(shown) < time.Second || s.State != transfer.StateStarted {
			continue
		}
		shown = time.Now()
		p := s.Progress
		fmt.Fprintf(c.err, "%s of %s, sent %s of about %s, %s/s, %v left\n", size(p.BytesDone), size(p.BytesTotal),
			size(p.BytesSent), size(p.BytesToSend), size(int64(p.Rate)), p.Left)
	}
	// The job ends by itself also when ctx has ended.
	if err := job.Wait(context.WithoutCancel(ctx)); err != nil {
		if job.Status().Progress.BytesSent > 0 {
			err = fmt.Errorf("%w\nWhat has arrived stays: run it again to go on", err)
		}
		return err
	}
	s := job.Status()
	fmt.Fprintf(c.out, "%s %s: sent %s in %v.\n", verb, id, size(s.Progress.BytesSent), s.Progress.Elapsed.Round(time.Millisecond))
	return nil
}

// otherLocation turns a directory into a location.
func otherLocation(where string, locations repo.LocationConfig) (string, repo.LocationConfig, error) {
	section, _, colon := strings.Cut(where, ":")
	if _, known := locations[section]; colon && (known || section == "local") {
		return where, locations, nil
	}
	abs, err := filepath.Abs(where)
	// What a section named local says of other locations is not for directories.
	return "local:" + filepath.ToSlash(abs), repo.LocationConfig{}, err
}
