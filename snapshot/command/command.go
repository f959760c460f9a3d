// Package command is the body of the command holdstill. There are two programs of
// that name: snapshot/cmd/holdstill reads local repositories, and
// repo/cloud/cmd/holdstill links the drivers for stores in the cloud as well. Each
// calls [Main]. A server with a driver of its own (see repo.RegisterDriver) makes a
// third one: a main package that imports the driver and calls Main.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// Main runs the command with the arguments and the streams of the process, and ends
// the process. An interrupt ends what is under way; a second one ends the process as it is,
// should that take too long.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	code := Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is one verb of the tool.
type command struct {
	name string
	args string
	what string
	// noRepo is set for commands that work without a repository.
	noRepo bool
	// makesRepo is set for commands that make the repository if there is none.
	makesRepo bool
	// count is how many arguments it takes after its flags.
	count int
	flags func(*call)
	// needs says what is missing of the call, before anything is opened.
	needs func(*call) error
	// before is called before a repository is made.
	before func(context.Context, *call) error
	run    func(context.Context, *call) error
}

// call is a command under way.
type call struct {
	flags    *flag.FlagSet
	repo     string
	config   string
	engine   *snapshot.Engine
	out, err io.Writer

	// passphrase, toPassphrase and newPassphrase name files.
	passphrase, toPassphrase, fromPassphrase, newPassphrase string
	otherPlain                                              bool
	label                                                   string

	json bool
	data bool
	to   string
	from string
	// name is that of an attachment, compression and id belong to archives.
	name        string
	compression string
	id          string
	source      string
	inPlace     bool
	// force has what others have open replaced.
	force bool
	// include, skip and skipSpaceCheck are those of snapshot.RestoreOptions.
	include, skip  []string
	skipSpaceCheck bool
	// noReuse, reuseFrom, noLinks and fetches are those of snapshot.RestoreOptions.
	noReuse   bool
	reuseFrom string
	noLinks   bool
	fetches   int
	// verify is that of transfer.Options.
	verify transfer.Verify

	dryRun, recompress bool
	leaseTimeout       time.Duration
	policy             snapshot.KeepPolicy
}

// errUsage means that the command was called wrongly, and that it was said how.
var errUsage = errors.New("called wrongly")

// A usageError says what is wrong with a call.
type usageError string

func (e usageError) Error() string { return string(e) }

func commands() []command {
	return []command{
		{name: "list", what: "list the snapshots, oldest first", flags: jsonFlag, run: list},
		{name: "show", args: "ID", what: "print all that is known of a snapshot, as JSON", count: 1, run: show},
		{name: "files", args: "ID", what: "list the files in a snapshot", count: 1, run: files},
		{name: "check", what: "look for damage, and say which snapshots it harms", flags: checkFlags, run: check},
		{name: "restore", args: "ID", what: "restore a snapshot to a directory", count: 1, flags: restoreFlags, needs: restoreNeeds, run: restore},
		{name: "recover", args: "DIRECTORY", what: "finish or undo a restore that was interrupted", count: 1, noRepo: true, run: recoverTarget},
		{name: "undo", args: "DIRECTORY PREVIOUS", what: "put back what a restore replaced", count: 2, noRepo: true, flags: forceFlag, run: undo},
		{name: "copy", args: "ID", what: "copy a snapshot to another repository", count: 1, flags: copyFlags, needs: toNeeds, run: copySnapshot},
		{name: "upload", args: "ID", what: "copy a snapshot to a location; run it again to go on after a failure", count: 1, flags: copyFlags, needs: toNeeds, run: upload},
		{name: "download", args: "ID", what: "copy a snapshot from a location to -repo, made if there is none; run it again to go on after a failure", count: 1, makesRepo: true, flags: downloadFlags, needs: fromNeeds, before: downloadable, run: download},
		{name: "export", args: "ID", what: "write a snapshot to one file, which tar can read", count: 1, flags: exportFlags, needs: exportNeeds, run: exportSnapshot},
		{name: "import", what: "make a snapshot from a file that export wrote", flags: importFlags, needs: importNeeds, run: importSnapshot},
		{name: "attach", args: "ID FILE", what: "add a file to a snapshot, beside what it holds", count: 2, flags: attachFlags, run: attach},
		{name: "attachments", args: "ID", what: "list what was added to a snapshot, or print one", count: 1, flags: attachmentsFlags, run: attachments},
		{name: "delete", args: "ID", what: "delete a snapshot", count: 1, run: remove},
		{name: "prune", what: "delete the snapshots that no -keep flag keeps", flags: pruneFlags, needs: pruneNeeds, run: prune},
		{name: "collect", what: "free the space of what was deleted, beside running servers", flags: collectFlags, run: collect},
		{name: "keys", what: "list the keys of an encrypted repository", run: listKeys},
		{name: "add-key", what: "add a passphrase to an encrypted repository", flags: addKeyFlags, needs: addKeyNeeds, run: addKey},
		{name: "remove-key", args: "KEY", what: "remove a key of an encrypted repository", count: 1, run: removeKey},
		{name: "rebuild-index", what: "make the index anew from the packs; nobody may write meanwhile", flags: rebuildFlags, run: rebuild},
	}
}

func jsonFlag(c *call) {
	c.flags.BoolVar(&c.json, "json", false, "print one JSON object a line")
}

func checkFlags(c *call) {
	c.flags.BoolVar(&c.data, "data", false, "read all data, not only the structure")
}

func rebuildFlags(c *call) {
	c.flags.BoolVar(&c.data, "data", false, "read all data, and leave out chunks that are damaged, so that the next snapshot stores them again")
}

func restoreFlags(c *call) {
	c.flags.StringVar(&c.to, "to", "", "the `directory` to restore to; new or empty, unless -in-place is given")
	c.flags.StringVar(&c.source, "source", "", "restore only this `source`, straight into the directory")
	c.flags.Func("include", "restore only what this `pattern` covers, such as kv/CURRENT or meta/**; paths are those that files lists; may be given more than once", appendTo(&c.include))
	c.flags.Func("skip", "leave out what this `pattern` covers; may be given more than once", appendTo(&c.skip))
	c.flags.BoolVar(&c.inPlace, "in-place", false, "replace the directory; what it held is kept beside it. The database must be closed")
	forceFlag(c)
	c.flags.BoolVar(&c.skipSpaceCheck, "skip-space-check", false, "restore though the files' sizes add up to more than what the disk has left: for sparse files, or where most is there already and is linked or cloned")
	c.flags.BoolVar(&c.noReuse, "no-reuse", false, "fetch everything; otherwise -in-place takes from what stands there all that has not changed")
	c.flags.StringVar(&c.reuseFrom, "reuse-from", "", "take what has not changed from this `directory`, such as an earlier restore")
	c.flags.BoolVar(&c.noLinks, "no-links", false, "copy sealed files that have not changed, instead of sharing them with what is kept")
	c.flags.IntVar(&c.fetches, "fetches", 0, "have up to `n` requests to the repository under way at once; 0: as many as suit it")
}

func forceFlag(c *call) {
	c.flags.BoolVar(&c.force, "force", false, "replace the directory even if a process has locked files in it, as a running server does")
}

func appendTo(list *[]string) func(string) error {
	return func(s string) error {
		*list = append(*list, s)
		return nil
	}
}

func copyFlags(c *call) {
	c.flags.StringVar(&c.to, "to", "", "the other `repository`, a directory or a location, made if there is none")
	c.flags.StringVar(&c.toPassphrase, "to-passphrase-file", "", "the `file` with the passphrase of the other repository; that of this one if not given")
	c.flags.BoolVar(&c.otherPlain, "to-plain", false, "the other repository is not encrypted, though this one is")
	verifyFlag(c)
}

func downloadFlags(c *call) {
	c.flags.StringVar(&c.from, "from", "", "the other `repository`, a directory or a location")
	c.flags.StringVar(&c.fromPassphrase, "from-passphrase-file", "", "the `file` with the passphrase of the other repository; that of this one if not given")
	c.flags.BoolVar(&c.otherPlain, "from-plain", false, "the other repository is not encrypted, though this one is")
	verifyFlag(c)
}

func verifyFlag(c *call) {
	c.flags.TextVar(&c.verify, "verify", transfer.VerifyAuto,
		"check what is sent by its `way`: content decodes it; stored compares it as it is stored, which is faster and trusts who wrote it;\n"+
			"auto: content for a download from a repository that is not encrypted, otherwise stored")
}

// Run is Main without the process around it. It returns the exit code: 0 when all went
// well, 1 when something failed or is damaged, and 2 for a call that is wrong.
func Run(ctx context.Context, args []string, out, errOut io.Writer) int {
	told := &listener{w: out}
	err := dispatch(ctx, args, told, errOut)
	if err == nil {
		err = told.err
	}
	var wrong usageError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintln(errOut, "holdstill:", err)
	if errors.As(err, &wrong) {
		return 2
	}
	return 1
}

// listener remembers that something could not be written: a report that nobody got is no
// success.
type listener struct {
	w   io.Writer
	err error
}

func (l *listener) Write(p []byte) (int, error) {
	n, err := l.w.Write(p)
	if l.err == nil {
		l.err = err
	}
	return n, err
}

func dispatch(ctx context.Context, args []string, out, errOut io.Writer) error {
	if len(args) == 0 || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" || args[0] == "help" {
		usage(errOut)
		if len(args) == 0 {
			return errUsage
		}
		return nil
	}
	for _, cmd := range commands() {
		if cmd.name == args[0] {
			return cmd.call(ctx, args[1:], out, errOut)
		}
	}
	fmt.Fprintf(errOut, "holdstill: there is no command %q\n\n", args[0])
	usage(errOut)
	return errUsage
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "Usage: holdstill COMMAND -repo REPOSITORY [flags] [arguments]")
	fmt.Fprintln(w)
	for _, cmd := range commands() {
		fmt.Fprintf(w, "  %-34s %s\n", strings.TrimSpace(cmd.name+" "+cmd.args), cmd.what)
	}
	fmt.Fprintln(w, "\nA repository is a directory, or a location such as S3:bucket/path with its section in")
	fmt.Fprintln(w, "the file of -config. HOLDSTILL_REPO and HOLDSTILL_CONFIG in the environment stand for")
	fmt.Fprintln(w, "-repo and -config. An encrypted repository needs -passphrase-file, or the name of that file")
	fmt.Fprintln(w, "in HOLDSTILL_PASSPHRASE_FILE.")
}

// newCall returns a call whose flags are still to be parsed.
func (cmd command) newCall(out, errOut io.Writer) *call {
	c := &call{flags: flag.NewFlagSet("holdstill "+cmd.name, flag.ContinueOnError), out: out, err: errOut}
	c.flags.SetOutput(errOut)
	c.flags.Usage = func() {
		fmt.Fprintf(errOut, "Usage: holdstill %s [flags] %s\n\n%s.\n\n", cmd.name, cmd.args, cmd.what)
		c.flags.PrintDefaults()
	}
	if !cmd.noRepo {
		c.flags.StringVar(&c.repo, "repo", os.Getenv("HOLDSTILL_REPO"), "the `directory` of the repository, or its location as section:path")
		c.flags.StringVar(&c.config, "config", os.Getenv("HOLDSTILL_CONFIG"), "the `file` with the sections that locations name, as JSON")
		c.flags.StringVar(&c.passphrase, "passphrase-file", os.Getenv("HOLDSTILL_PASSPHRASE_FILE"), "the `file` with the passphrase of an encrypted repository")
	}
	if cmd.flags != nil {
		cmd.flags(c)
	}
	return c
}

func (cmd command) call(ctx context.Context, args []string, out, errOut io.Writer) (err error) {
	c := cmd.newCall(out, errOut)
	if err := c.flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if c.flags.NArg() != cmd.count {
		takes := "no arguments"
		if cmd.args != "" {
			takes = cmd.args
		}
		fmt.Fprintf(errOut, "holdstill %s takes %s, and was given %d arguments; flags come before them\n", cmd.name, takes, c.flags.NArg())
		return errUsage
	}
	if !cmd.noRepo && c.repo == "" {
		return usageError("no repository is named: give -repo DIRECTORY")
	}
	if cmd.needs != nil {
		if err := cmd.needs(c); err != nil {
			return err
		}
	}
	if !cmd.noRepo {
		c.engine, err = c.open(ctx, c.repo, c.passphrase, true)
		if cmd.makesRepo && errors.Is(err, repo.ErrNotRepository) {
			if err := cmd.before(ctx, c); err != nil {
				return err
			}
			c.engine, err = c.open(ctx, c.repo, c.passphrase, false)
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.engine.Close()) }()
	}
	return cmd.run(ctx, c)
}
