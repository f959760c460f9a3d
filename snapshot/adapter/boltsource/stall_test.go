package boltsource

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// outgrow commits until the database is larger than any small mapping.
func outgrow(db *bbolt.DB) error {
	r := rand.New(rand.NewPCG(20, 21))
	for range 40 {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("large"))
			if err != nil {
				return err
			}
			for range 20 {
				k, v := make([]byte, 16), make([]byte, 2000)
				for i := range v {
					v[i] = byte(r.Uint32())
				}
				copy(k, v)
				if err := b.Put(k, v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// A server that outgrows its mapping stands still while a view is open. The view
// must notice and let it go on, and its reads must not pass for good afterwards.
func TestGivesWayToARemapping(t *testing.T) {
	db := openDB(t, &bbolt.Options{NoSync: true})
	if err := mutate(db, rand.New(rand.NewPCG(1, 1)), model{}, 100); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	src := New(db, Options{MaxStall: time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	v, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := v.FS.Open("meta.db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := outgrow(db); err != nil { // hangs for ever if the view does not give way
		t.Fatal(err)
	}
	if _, err := f.Read(make([]byte, 100)); !errors.Is(err, ErrGaveWay) {
		t.Errorf("read after a stall: %v, want ErrGaveWay", err)
	}
	if _, err := v.FS.Open("meta.db"); !errors.Is(err, ErrGaveWay) {
		t.Errorf("open after a stall: %v, want ErrGaveWay", err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "InitialMmapSize") {
		t.Errorf("the log does not say what to do: %q", log.String())
	}

	// The second attempt has room.
	v, err = src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	readView(t, v)
}

// The same growth in a mapping that was made large enough disturbs nobody.
func TestRoomForGrowthNeedsNoWay(t *testing.T) {
	db := openDB(t, roomy())
	m := model{}
	if err := mutate(db, rand.New(rand.NewPCG(1, 1)), m, 100); err != nil {
		t.Fatal(err)
	}
	v, err := New(db, Options{MaxStall: time.Minute}).Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := outgrow(db); err != nil {
		t.Fatal(err)
	}
	checkCopy(t, readView(t, v), m, nil)
}

// With a negative MaxStall the server waits until the view is closed.
func TestNeverGivesWay(t *testing.T) {
	db := openDB(t, &bbolt.Options{NoSync: true})
	m := model{}
	if err := mutate(db, rand.New(rand.NewPCG(1, 1)), m, 100); err != nil {
		t.Fatal(err)
	}
	v, err := New(db, Options{MaxStall: -1}).Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	grown := make(chan error, 1)
	go func() { grown <- outgrow(db) }()
	waitForStall(t)

	// A pin that waits behind the stalled writer ends with its context.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := New(db, Options{}).Pin(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Pin behind a stalled writer: %v", err)
	}
	checkCopy(t, readView(t, v), m, nil)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-grown; err != nil {
		t.Fatal(err)
	}
	// The pin that gave up leaves no transaction behind.
	for db.Stats().OpenTxN != 0 {
		if t.Context().Err() != nil {
			t.Fatal("a transaction was left open")
		}
		time.Sleep(time.Millisecond)
	}
}

// waitForStall returns once a writer waits for the mapping, which holds new
// transactions back. That shows in the writer's stack: how long a transaction takes to
// begin tells nothing on a machine that is busy.
func waitForStall(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for one := range bytes.SplitSeq(stacks[:runtime.Stack(stacks, true)], []byte("\n\n")) {
			head, calls, _ := bytes.Cut(one, []byte("\n"))
			if bytes.Contains(head, []byte("[sync.RWMutex.Lock")) && bytes.Contains(calls, []byte("bbolt.(*DB).mmap(")) {
				return
			}
		}
	}
	t.Fatal("the writer never had to enlarge the mapping")
}
