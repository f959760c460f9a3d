package repo

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func attached(t testing.TB, r *Repository, id string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for a, err := range r.Attachments(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		data, err := r.ReadAttachment(t.Context(), id, a.Name)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(data)) != a.Size {
			t.Errorf("%s: %d bytes, listed with %d", a.Name, len(data), a.Size)
		}
		out[a.Name] = string(data)
	}
	return out
}

func attach(t testing.TB, r *Repository, id, name, data string) {
	t.Helper()
	if err := r.PutAttachment(t.Context(), id, name, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func attachmentObjects(d *testDriver) (keys []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.objects {
		if strings.HasPrefix(key, attachmentPrefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func TestAttachments(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	mustSnapshot(t, r, "s", smallFiles(1), fixedCutter(t, 512))
	mustSnapshot(t, r, "s.2", smallFiles(2), fixedCutter(t, 512))
	big := string(noiseData(1, 300_000))
	attach(t, r, "s", "log", "first")
	attach(t, r, "s", "log.txt", big)
	attach(t, r, "s", "empty", "")
	attach(t, r, "s.2", "log", "of another")
	attach(t, r, "s", "log", "second")
	if d := cmp.Diff(map[string]string{"log": "second", "log.txt": big, "empty": ""}, attached(t, r, "s")); d != "" {
		t.Error(d)
	}
	if n := len(attachmentObjects(d)); n != 4 {
		t.Errorf("%d objects: %q", n, attachmentObjects(d))
	}
	wantSound(t, r)
	wantErr(t, "take away", r.DeleteAttachment(t.Context(), "s", "log"), nil)
	wantErr(t, "take away again", r.DeleteAttachment(t.Context(), "s", "log"), ErrNoAttachment)
	_, err := r.ReadAttachment(t.Context(), "s", "log")
	wantErr(t, "read what was taken away", err, ErrNoAttachment)
	attach(t, r, "s", "log", "third")
	if got := attached(t, r, "s")["log"]; got != "third" {
		t.Errorf("got %q", got)
	}
	if err := r.DeleteManifest(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	if got := attached(t, r, "s"); len(got) != 0 {
		t.Errorf("a deleted snapshot has %v", got)
	}
	if d := cmp.Diff(map[string]string{"log": "of another"}, attached(t, r, "s.2")); d != "" {
		t.Error(d)
	}
	wantErr(t, "attach to what is deleted", r.PutAttachment(t.Context(), "s", "log", nil), ErrNotFound)
}

func TestAttachmentsRefuse(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	mustSnapshot(t, r, "s", smallFiles(1), fixedCutter(t, 512))
	for _, name := range []string{"", ".", "..", ".x", "a/b", "a b", "ä", "a\x00", strings.Repeat("a", 241)} {
		wantErr(t, fmt.Sprintf("name %q", name), r.PutAttachment(t.Context(), "s", name, nil), ErrBadAttachmentName)
		wantErr(t, fmt.Sprintf("take away %q", name), r.DeleteAttachment(t.Context(), "s", name), ErrBadAttachmentName)
	}
	wantErr(t, "a bad ID", r.PutAttachment(t.Context(), "../s", "a", nil), ErrBadID)
	wantErr(t, "too large", r.PutAttachment(t.Context(), "s", "a", make([]byte, MaxAttachmentSize+1)), ErrAttachmentSize)
	wantErr(t, "the longest name", r.PutAttachment(t.Context(), "s", strings.Repeat("a", 240), []byte("x")), nil)
}

// Damage and exchange of any sort is found, by reading and by Check.
func TestAttachmentDamage(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	mustSnapshot(t, r, "s", smallFiles(1), fixedCutter(t, 512))
	attach(t, r, "s", "a", "the first of two")
	attach(t, r, "s", "b", "the other of two")
	keys := attachmentObjects(d)
	whole := d.copy().objects
	for n := range whole[keys[0]] {
		d.objects[keys[0]] = bytes.Clone(whole[keys[0]])
		d.objects[keys[0]][n] ^= 0x10
		_, err := r.ReadAttachment(t.Context(), "s", "a")
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d changed: %v", n, err)
		}
	}
	for name, object := range map[string][]byte{"cut off": whole[keys[0]][:40], "another's": whole[keys[1]], "empty": nil} {
		d.objects[keys[0]] = object
		_, err := r.ReadAttachment(t.Context(), "s", "a")
		wantErr(t, name, err, ErrCorrupt)
		report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
		if err != nil || len(report.Damage) != 1 || report.Damage[0].Object != keys[0] || !slices.Equal(report.Damage[0].Files, []string{"s: attachment a"}) {
			t.Errorf("%s: check says %+v, %v", name, report, err)
		}
	}
}

// Whoever reads while others replace gets one of the versions, whole.
func TestAttachmentIsReplacedAtOnce(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	mustSnapshot(t, r, "s", smallFiles(1), fixedCutter(t, 512))
	attach(t, r, "s", "a", strings.Repeat("0", 1000))
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 3 {
		writers.Go(func() {
			for n := range 20 {
				if err := r.PutAttachment(t.Context(), "s", "a", []byte(strings.Repeat(fmt.Sprint((w+n)%10), 1000))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				data, err := r.ReadAttachment(t.Context(), "s", "a")
				if errors.Is(err, errKeyMissing) {
					continue // replaced ten times in a row
				}
				if err != nil || len(data) != 1000 || string(data) != strings.Repeat(string(data[:1]), 1000) {
					t.Errorf("read %d bytes, %v", len(data), err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if _, err := r.Collect(t.Context(), CollectOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := attached(t, r, "s"); len(got) != 1 {
		t.Errorf("left %v", got)
	}
}

// What a session attaches comes and goes with the snapshot.
func TestSessionAttachments(t *testing.T) {
	for _, end := range []string{"commit", "abort", "suspend", "crash"} {
		t.Run(end, func(t *testing.T) {
			d := newTestDriver()
			r := newTestRepo(t, d, Options{})
			ctx, kill := context.WithCancel(t.Context())
			defer kill()
			s, err := r.NewSession(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Reserve(ctx, "s"); err != nil {
				t.Fatal(err)
			}
			for _, data := range []string{"one", "two"} {
				if err := s.PutAttachment(ctx, "s", "a", []byte(data)); err != nil {
					t.Fatal(err)
				}
			}
			m, err := stageFiles(ctx, s, "s", smallFiles(1), fixedCutter(t, 512))
			if err != nil {
				t.Fatal(err)
			}
			// A collection meets them while there is no snapshot.
			result, err := r.Collect(ctx, CollectOptions{MaxWait: 1})
			if err != nil || result.AttachmentsDeleted != 0 {
				t.Fatalf("%+v, %v", result, err)
			}
			want := map[string]string{}
			switch end {
			case "commit":
				err = s.Commit(ctx, m)
				want["a"] = "two"
			case "abort":
				err = s.Abort(ctx)
			case "suspend":
				err = s.Suspend(ctx)
			case "crash":
				d.vanish(s)
				want["a"] = "two"
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, attached(t, r, "s")); d != "" {
				t.Error(d)
			}
			if result, err = r.Collect(t.Context(), CollectOptions{}); err != nil || (result.AttachmentsDeleted == 1) != (end == "crash") {
				t.Errorf("collect: %+v, %v", result, err)
			}
			if n := len(attachmentObjects(d)); (n == 1) != (end == "commit") {
				t.Errorf("%d attachments after all", n)
			}
			if end == "commit" {
				wantErr(t, "attach after the commit", s.PutAttachment(ctx, "s", "b", nil), ErrClosed)
				other := mustSession(t, r)
				wantErr(t, "reserve what is there", other.Reserve(ctx, "s"), ErrExists)
				wantErr(t, "attach to what is there", other.PutAttachment(ctx, "s", "b", nil), ErrExists)
				wantErr(t, "abort", other.Abort(ctx), nil)
			}
		})
	}
}

// A failure that leaves open whether the snapshot was made must not take its attachments.
func TestAttachmentsOfAnUnsureCommit(t *testing.T) {
	d := newTestDriver()
	lost := errors.New("connection lost")
	var cut atomic.Bool
	d.after.set(func(_ context.Context, o op) error {
		if cut.Load() && strings.HasPrefix(o.key, snapshotPrefix) {
			return lost
		}
		return nil
	})
	r := newTestRepo(t, d, Options{Retry: Retry{Attempts: 1}})
	s := mustSession(t, r)
	wantErr(t, "attach", s.PutAttachment(t.Context(), "s", "a", []byte("one")), nil)
	m, err := stageFiles(t.Context(), s, "s", smallFiles(1), fixedCutter(t, 512))
	if err != nil {
		t.Fatal(err)
	}
	cut.Store(true)
	err = s.Commit(t.Context(), m)
	cut.Store(false)
	if err == nil {
		t.Fatal("it knows that it got through")
	}
	if _, err := r.Manifest(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"a": "one"}, attached(t, r, "s")); d != "" {
		t.Error(d)
	}
}

// A deletion that comes between the two looks at the manifest leaves nothing.
func TestAttachWhileTheSnapshotIsDeleted(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	mustSnapshot(t, r, "s", smallFiles(1), fixedCutter(t, 512))
	var deleted atomic.Bool
	d.before.set(func(ctx context.Context, o op) error {
		if strings.HasPrefix(o.key, attachmentPrefix) && o.kind == "create" && deleted.CompareAndSwap(false, true) {
			return r.DeleteManifest(ctx, "s")
		}
		return nil
	})
	wantErr(t, "attach", r.PutAttachment(t.Context(), "s", "a", []byte("one")), ErrNotFound)
	if keys := attachmentObjects(d); len(keys) != 0 {
		t.Errorf("left %q", keys)
	}
}

func TestAttachmentVector(t *testing.T) {
	key := attachmentPrefix + "2026-03-14T15.09.26Z_nightly/log/0000000100112233445566778899aabb"
	if _, ok := parseAttachmentKey(key); !ok {
		t.Error("the key of the vector is none")
	}
	object := sealAttachment(key, []byte("holdstill"))
	if data, err := openAttachment(key, object); err != nil || string(data) != "holdstill" {
		t.Errorf("%q, %v", data, err)
	}
	format, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := hex.EncodeToString(object); !strings.Contains(strings.Join(strings.Fields(string(format)), ""), want) || !strings.Contains(string(format), key) {
		t.Errorf("FORMAT.md lacks the vector %s\n%s", key, want)
	}
}

func FuzzAttachmentKey(f *testing.F) {
	f.Add("attachment/s/log/0000000100112233445566778899aabb")
	f.Add("attachment/../log/0000000100112233445566778899aabb")
	f.Add("attachment/s/log")
	f.Fuzz(func(t *testing.T, key string) {
		a, ok := parseAttachmentKey(key)
		if !ok {
			return
		}
		if again := fmt.Sprintf("attachment/%s/%s/%08x%s", a.snapshot, a.name, a.count, key[len(key)-attachmentRandom:]); again != key {
			t.Errorf("%q is read as %q", key, again)
		}
	})
}
