package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// passphraseFrom returns the key of the passphrase in a file, nil where none is named. A line
// break at the end of the file does not count.
func passphraseFrom(path string) (repo.KeySource, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return nil, fmt.Errorf("%s: the file holds no passphrase", path)
	}
	return repo.Passphrase(data, repo.PassphraseOptions{}), nil
}

func addKeyFlags(c *call) {
	c.flags.StringVar(&c.newPassphrase, "new-passphrase-file", "", "the `file` with the passphrase to add")
	c.flags.StringVar(&c.label, "label", "", "a `text` to know the key by; anybody who sees the repository can read it")
}

func listKeys(ctx context.Context, c *call) error {
	var failed error
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tCREATED\tLABEL")
	for k, err := range c.engine.Repository().Keys(ctx) {
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%q\n", k.ID, shown(k.Kind), k.Created.Format(time.DateTime), k.Label)
	}
	return errors.Join(w.Flush(), failed)
}

func addKeyNeeds(c *call) error {
	if c.newPassphrase == "" {
		return usageError("no new passphrase is named: give -new-passphrase-file FILE")
	}
	return nil
}

func addKey(ctx context.Context, c *call) error {
	key, err := passphraseFrom(c.newPassphrase)
	if err != nil {
		return err
	}
	k, err := c.engine.Repository().AddKey(ctx, key, repo.AddKeyOptions{Label: c.label})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Added key %s.\n", k.ID)
	return nil
}

func removeKey(ctx context.Context, c *call) error {
	if err := c.engine.Repository().RemoveKey(ctx, c.flags.Arg(0)); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Removed key %s. Who has used it may know the repository's keys; they stay the same.\n", c.flags.Arg(0))
	return nil
}
