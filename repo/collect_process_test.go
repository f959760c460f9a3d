package repo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo/localblob"
)

// processRole makes this test binary a member of a crew, see TestCollectProcesses. Its
// standard input tells it what to do, and by its end to finish; its lines say what it has done.
const processRole = "HOLDSTILL_REPO_TEST_ROLE"

const (
	roleUploader  = "uploader"
	roleDeleter   = "deleter"
	roleCollector = "collector"
)

// crewChunk is the size of the crew's chunks in bytes.
const crewChunk = 4096

// crewStuckAt is the upload at which an uploader stops for ever, in the middle of it.
const crewStuckAt = 9

func crewProcess(dir, role, name string) int {
	if err := playRole(context.Background(), dir, role, name); err != nil {
		fmt.Fprintf(os.Stderr, "%s %s: %v\n", role, name, err)
		return 1
	}
	return 0
}

func playRole(ctx context.Context, dir, role, name string) error {
	b, err := localblob.OpenBucket(dir, nil)
	if err != nil {
		return err
	}
	defer b.Close()
	r, err := Open(ctx, b, variant(Options{PackSize: 1 << 20}))
	if err != nil {
		return err
	}
	defer r.Close()
	if role == roleDeleter {
		return crewDeleter(ctx, r, os.Stdin)
	}
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if role == roleCollector {
			err = crewCollect(ctx, r)
		} else {
			err = crewUpload(ctx, r, fmt.Sprintf("%s-%03d", name, n), n, stop)
		}
		if err != nil {
			return err
		}
	}
}

// crewDeleter deletes the snapshots that it is told to.
func crewDeleter(ctx context.Context, r *Repository, orders io.Reader) error {
	lines := bufio.NewScanner(orders)
	for lines.Scan() {
		err := r.DeleteManifest(ctx, lines.Text())
		// A listing shows also what a session that was given up has left.
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		fmt.Println("deleted", lines.Text())
	}
	return lines.Err()
}

func crewCollect(ctx context.Context, r *Repository) error {
	var phase CollectPhase
	result, err := r.Collect(ctx, CollectOptions{
		// Many times what a session takes. One that takes longer is given up, and says so.
		LeaseTimeout: time.Second,
		Progress: func(p CollectProgress) {
			if p.Phase != phase {
				phase = p.Phase
				fmt.Println("phase", phase)
			}
		},
	})
	if errors.Is(err, ErrUnavailable) {
		return nil // the uploaders were in its way all the time: again
	}
	if err != nil {
		return err
	}
	fmt.Println("collected", result.PacksDeleted, result.PacksRepacked, len(result.GivenUp))
	return nil
}

// crewUpload is the n-th upload of a process: to its end, or one of the ways in which one
// ends before.
func crewUpload(ctx context.Context, r *Repository, id string, n int, stop <-chan struct{}) error {
	s, err := r.NewSession(ctx)
	if err != nil {
		return fmt.Errorf("begin %s: %w", id, err)
	}
	m, err := crewStage(ctx, r, s, id, n)
	if err == nil && m != nil {
		err = s.Sync(ctx)
	}
	if err != nil {
		return fmt.Errorf("stage %s: %w", id, errors.Join(err, s.Abort(ctx)))
	}
	fmt.Println("staged", id)
	switch {
	case n == crewStuckAt:
		fmt.Println("stuck", id)
		<-stop
		return nil // without a word to anybody
	case m == nil || n%8 == 3:
		return s.Abort(ctx)
	case n%8 == 6:
		err = s.Suspend(ctx)
	case n%4 == 2:
		if err = errors.Join(s.Checkpoint(ctx), s.Refresh(ctx)); err != nil {
			err = errors.Join(err, s.Abort(ctx))
			break
		}
		fallthrough
	default:
		if err = s.Commit(ctx, m); err == nil {
			fmt.Println("made", id)
		}
	}
	if errors.Is(err, ErrGivenUp) {
		fmt.Println("late", id)
		return nil
	}
	if err != nil {
		return fmt.Errorf("end %s: %w", id, err)
	}
	return nil
}

// crewStage adds a snapshot's files, every other time as differences to a snapshot that
// is there. It returns nil if that one was deleted meanwhile.
func crewStage(ctx context.Context, r *Repository, s *Session, id string, n int) (*Manifest, error) {
	cut, err := chunk.NewFixed(crewChunk)
	if err != nil {
		return nil, err
	}
	files, err := crewFiles(id)
	if err != nil {
		return nil, err
	}
	var parents []string
	for parent, err := range r.IDs(ctx) {
		if err != nil {
			return nil, err
		}
		parents = append(parents, parent)
	}
	if n%2 == 0 || len(parents) == 0 {
		return stageFiles(ctx, s, id, files, cut)
	}
	parent := parents[rand.IntN(len(parents))]
	m, err := stageDeltas(ctx, r, s, id, files, parent, cut)
	if err != nil {
		if _, gone := r.Manifest(ctx, parent); errors.Is(gone, ErrNotFound) {
			return nil, nil
		}
		if _, again := readBeside(ctx, r, parent); !errors.Is(err, ErrMissing) || again != nil && !errors.Is(again, ErrNotFound) {
			return nil, fmt.Errorf("as differences to %s, which is there: %w, and then %v", parent, err, again)
		}
		return nil, nil
	}
	return m, nil
}

// readBeside is readSnapshot beside collections that follow each other without a pause:
// on a busy machine one may move a chunk again while a reader is on its way to where the one
// before has put it. TestReadMovedStretch is about readers that need not try again.
func readBeside(ctx context.Context, r *Repository, id string) (files map[string][]byte, err error) {
	for range 100 { // what is lost stays lost
		if files, err = readSnapshot(ctx, r, id); !errors.Is(err, ErrMissing) {
			break
		}
	}
	return files, err
}

// crewFiles are the files of a snapshot: one of its own, one that many have, and one
// that differs little from everybody's.
func crewFiles(id string) (map[string][]byte, error) {
	var uploader, process, n int
	if _, err := fmt.Sscanf(id, "u%dp%d-%d", &uploader, &process, &n); err != nil {
		return nil, fmt.Errorf("%q: %w", id, err)
	}
	page := noiseData(9, 64<<10)
	for i := range n + 1 {
		page = edited(page, (uploader*7919+process*10_007+i*5003)%(len(page)-16))
	}
	return map[string][]byte{
		"own":    rowData(uint64(uploader<<20+process<<10+n), 30_000),
		"page":   page,
		"shared": noiseData(uint64(n%5), 40_000),
	}, nil
}

// A crew is several processes that work on one repository.
type crew struct {
	t   *testing.T
	dir string

	mu      sync.Mutex
	over    bool
	inputs  map[string]io.WriteCloser
	made    map[string]bool // acknowledged
	deleted map[string]bool
	seen    crewEvents
}

// crewEvents count what has happened, so that the test is about something.
type crewEvents struct {
	made, deleted, killed, stuck, late    int
	collections, packs, repacked, givenUp int
}

// man keeps one place filled until the crew is over: when its process is killed, another
// one takes over. kills says at which lines that is.
func (c *crew) man(role string, name func(n int) string, kills func(line string) bool) {
	for n := 0; ; n++ {
		ok, err := c.run(role, name(n), kills)
		if err != nil {
			c.t.Errorf("%s %s: %v", role, name(n), err)
		}
		if !ok || err != nil {
			return
		}
	}
}

// run starts a process and hears it out. It returns true if it was killed.
func (c *crew) run(role, name string, kills func(line string) bool) (killed bool, err error) {
	cmd := exec.CommandContext(c.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), processRole+"="+role, processDir+"="+c.dir, processName+"="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return false, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	c.mu.Lock()
	c.inputs[role+name] = in
	if c.over {
		_ = in.Close()
	}
	c.mu.Unlock()
	// What it said before it was killed counts.
	for lines := bufio.NewScanner(out); lines.Scan(); {
		c.heard(lines.Text())
		if !killed && kills != nil && kills(lines.Text()) {
			killed = true
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return true, err
			}
		}
	}
	err = cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inputs, role+name)
	if killed {
		c.seen.killed++
		return !c.over, nil
	}
	if err == nil && !c.over {
		err = errors.New("ended by itself")
	}
	return false, err
}

func (c *crew) heard(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what, rest, _ := strings.Cut(line, " ")
	switch what {
	case "made":
		c.made[rest] = true
		c.seen.made++
	case "deleted":
		c.deleted[rest] = true
		c.seen.deleted++
	case "stuck":
		c.seen.stuck++
	case "late":
		c.seen.late++
	case "collected":
		var packs, repacked, given int
		if _, err := fmt.Sscan(rest, &packs, &repacked, &given); err != nil {
			c.t.Errorf("%q: %v", line, err)
		}
		c.seen.collections++
		c.seen.packs += packs
		c.seen.repacked += repacked
		c.seen.givenUp += given
	}
}

// order has the deleter delete a snapshot.
func (c *crew) order(id string) {
	c.mu.Lock()
	in := c.inputs[roleDeleter+"d"]
	c.mu.Unlock()
	if in == nil {
		return // has not begun yet
	}
	if _, err := fmt.Fprintln(in, id); err != nil {
		c.t.Errorf("the deleter: %v", err)
	}
}

// finish lets everybody come to an end.
func (c *crew) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for _, in := range c.inputs {
		_ = in.Close()
	}
}

func (c *crew) events() crewEvents {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// enough says whether everything has happened that the test is about.
func (c *crew) enough() bool {
	e := c.events()
	return min(e.made-10, e.deleted-5, e.killed-2, e.stuck-1, e.collections-2, e.packs-1, e.repacked-1, e.givenUp-1) >= 0
}

// due returns the snapshots that must be there.
func (c *crew) due(doomed map[string]bool) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(c.made)), func(id string) bool { return doomed[id] })
}

// wantDue fails unless all snapshots are listed that must be there.
func (c *crew) wantDue(r *Repository, doomed map[string]bool) (due, listed []string) {
	c.t.Helper()
	due = c.due(doomed) // before the listing
	listed = listIDs(c.t, r)
	for _, id := range due {
		if _, ok := slices.BinarySearch(listed, id); !ok {
			c.t.Errorf("snapshot %s was acknowledged, and is not listed", id)
		}
	}
	return due, listed
}

func wantCrewSnapshot(t *testing.T, r *Repository, id string) {
	t.Helper()
	files, err := crewFiles(id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readBeside(t.Context(), r, id)
	if err != nil {
		t.Fatalf("snapshot %s: %v", id, err)
	}
	if !maps.EqualFunc(got, files, bytes.Equal) {
		t.Fatalf("snapshot %s: the bytes differ", id)
	}
}

// freshSize returns what the packs of a new repository take that holds the same snapshots.
func freshSize(t *testing.T, ids []string) int64 {
	t.Helper()
	r := openTestRepoIn(t, t.TempDir())
	s := mustSession(t, r)
	defer s.Abort(t.Context())
	var last *Manifest
	for _, id := range ids {
		files, err := crewFiles(id)
		if err != nil {
			t.Fatal(err)
		}
		if last, err = stageFiles(t.Context(), s, id, files, fixedCutter(t, crewChunk)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Commit(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	return wantSound(t, r).PackBytes
}

// Uploaders, some of which are killed, a deleter and a collector that is killed now and then
// share a repository: nothing that was acknowledged is lost, and in the end no space is.
func TestCollectProcesses(t *testing.T) {
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, 3))
	c := &crew{t: t, dir: t.TempDir(), inputs: make(map[string]io.WriteCloser), made: make(map[string]bool), deleted: make(map[string]bool)}
	r := openTestRepoIn(t, c.dir)
	var group sync.WaitGroup
	defer group.Wait()
	defer c.finish()
	for u := range 2 {
		chance := rand.New(rand.NewPCG(seed, uint64(100+u)))
		group.Go(func() {
			c.man(roleUploader, func(n int) string { return fmt.Sprintf("u%dp%d", u, n) }, func(line string) bool {
				return strings.HasPrefix(line, "stuck ") || chance.IntN(40) == 0
			})
		})
	}
	group.Go(func() { c.man(roleDeleter, func(int) string { return "d" }, nil) })
	chance, left := rand.New(rand.NewPCG(seed, 200)), 3
	group.Go(func() {
		c.man(roleCollector, func(n int) string { return fmt.Sprint("c", n) }, func(line string) bool {
			if left == 0 || !strings.HasPrefix(line, "phase ") || chance.IntN(5) > 0 {
				return false
			}
			left--
			return true
		})
	})
	doomed := make(map[string]bool)
	// The second bound is there to end a test that hangs.
	for start := time.Now(); time.Since(start) < 3*time.Second || !c.enough(); {
		if t.Failed() || time.Since(start) > 10*time.Minute {
			t.Fatalf("it came to no good end: %+v", c.events())
		}
		due, listed := c.wantDue(r, doomed)
		if len(due) > 0 {
			wantCrewSnapshot(t, r, due[rng.IntN(len(due))])
		}
		if len(listed) > 12 {
			if id := listed[rng.IntN(len(listed))]; !doomed[id] {
				doomed[id] = true
				c.order(id)
			}
		}
	}
	c.finish()
	group.Wait()
	t.Logf("%+v", c.events())

	r = openTestRepo(t, r.store.bucket, Options{})
	due, listed := c.wantDue(r, doomed)
	for _, id := range due {
		wantCrewSnapshot(t, r, id)
	}
	for id := range c.deleted {
		if slices.Contains(listed, id) {
			t.Errorf("snapshot %s was deleted, and is listed", id)
		}
	}
	wantSound(t, r)
	// The first may have to give sessions up whose leases come into its own plans.
	for range 3 {
		mustCollect(t, r, CollectOptions{LeaseTimeout: 50 * time.Millisecond})
	}
	_, after := c.wantDue(r, doomed)
	for _, id := range after {
		wantCrewSnapshot(t, r, id)
	}
	takes, need, fresh := wantSound(t, r).PackBytes, needOf(t, r), freshSize(t, after)
	t.Logf("%d snapshots take %d bytes, need %d, and %d in a fresh repository", len(after), takes, need, fresh)
	// A pack of each kind has a head and a tail, however little is in it.
	if least := min(need, fresh); takes > least+least/20+packKinds*256 {
		t.Errorf("%d snapshots take %d bytes, but need %d, and %d in a fresh repository", len(after), takes, need, fresh)
	}
}
