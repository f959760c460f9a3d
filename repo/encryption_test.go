package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/secrets/localsecrets"

	"github.com/holdstill/holdstill/chunk"
)

// cheap makes trying a passphrase cost little, for tests.
var cheap = PassphraseOptions{Argon2: Argon2{Time: 1, Memory: minArgonMemory, Threads: 1}}

func passphrase(s string) KeySource { return Passphrase([]byte(s), cheap) }

func keeper(seed byte) KeySource { return Keeper(localsecrets.NewKeeper([32]byte{seed})) }

// newEncrypted makes an encrypted repository in d and opens it.
func newEncrypted(t testing.TB, d *testDriver, e Encryption) *Repository {
	t.Helper()
	b := d.bucket(t)
	if err := Init(t.Context(), b, InitOptions{Encryption: &e}); err != nil {
		t.Fatal(err)
	}
	return openTestRepo(t, b, Options{Key: e.Key})
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// Nothing of what is stored shows in the store: no text, no path, no chunk ID.
func TestEncryptionHidesContents(t *testing.T) {
	d := newTestDriver()
	r := newEncrypted(t, d, Encryption{Key: passphrase("correct horse"), Label: "first"})
	files := smallFiles(1)
	mustSnapshot(t, r, "one", files, fixedCutter(t, 512))
	files["meta/bolt.db"] = edited(files["meta/bolt.db"], 300)
	mustDeltaSnapshot(t, r, "two", files, "one", fixedCutter(t, 512))
	wantSnapshot(t, r, "two", files)
	wantSound(t, r)
	needles := map[string][]byte{"the passphrase": []byte("correct horse"), "a path": []byte("meta/"), "a field": []byte("consistency")}
	for name, secret := range map[string][]byte{"identity": r.store.keys.identity[:], "data": r.store.keys.data[:], "objects": r.store.keys.objects} {
		needles["secret "+name] = secret
	}
	for path, data := range files {
		if len(data) < 100 {
			continue
		}
		needles[path] = data[40:60]
		id, plain := identify(t, r, data[:512]), chunk.Identify(data[:512])
		needles["ID in "+path], needles["public ID in "+path] = id[:], plain[:]
	}
	for _, key := range d.keys("") {
		for what, needle := range needles {
			if bytes.Contains(d.get(key), needle) {
				t.Errorf("%s shows %s", key, what)
			}
		}
	}
	again := openTestRepo(t, d.bucket(t), Options{Key: passphrase("correct horse")})
	wantSnapshot(t, again, "two", files)
	if got := again.KeyFingerprints(); !slices.Equal(got, r.KeyFingerprints()) || len(got) != 1 || len(got[0].SHA256) != 64 {
		t.Errorf("fingerprints %v", got)
	}
}

// Repositories that share an identity take each other's encoded chunks, and nothing else
// of each other's.
func TestSameIdentity(t *testing.T) {
	ctx := t.Context()
	plain := newEncryptedOrPlain(t, nil)
	first := newEncrypted(t, newTestDriver(), Encryption{Key: passphrase("1")})
	stranger := newEncrypted(t, newTestDriver(), Encryption{Key: passphrase("1")})
	twin := newEncrypted(t, newTestDriver(), Encryption{Key: passphrase("2"), SameIdentityAs: first})
	ofPlain := newEncrypted(t, newTestDriver(), Encryption{Key: passphrase("3"), SameIdentityAs: plain})
	for _, tt := range []struct {
		a, b *Repository
		want bool
	}{
		{first, first, true}, {first, twin, true}, {first, stranger, false}, {first, plain, false}, {first, ofPlain, false},
		{plain, plain, true}, {plain, ofPlain, true}, {ofPlain, twin, false},
	} {
		if tt.a.SameIdentity(tt.b) != tt.want || tt.b.SameIdentity(tt.a) != tt.want {
			t.Errorf("%v and %v: not %v", tt.a.KeyFingerprints(), tt.b.KeyFingerprints(), tt.want)
		}
	}
	data := rowData(1, 3<<20)
	cuts := func(r *Repository) (n []int) {
		for p := data; len(p) > 0; {
			cut := r.Gear().Next(p, true)
			n = append(n, cut)
			p = p[cut:]
		}
		return n
	}
	if !slices.Equal(cuts(first), cuts(twin)) || slices.Equal(cuts(first), cuts(stranger)) || slices.Equal(cuts(first), cuts(plain)) || !slices.Equal(cuts(plain), cuts(ofPlain)) {
		t.Error("cuts are not shared as identities are")
	}
	for n, pair := range [][2]*Repository{{first, twin}, {plain, ofPlain}, {ofPlain, plain}} {
		from, to := pair[0], pair[1]
		page := rowData(uint64(n)+5, 4000)
		mustSnapshot(t, from, fmt.Sprint("s", n), map[string][]byte{"f": page}, fixedCutter(t, 4096))
		s := mustSession(t, to)
		w, err := s.NewWriter()
		if err != nil {
			t.Fatal(err)
		}
		id := identify(t, from, page)
		stored, codec, size, err := from.ReadEncoded(ctx, id, nil)
		if err != nil {
			t.Fatal(err)
		}
		if fresh, err := w.AddEncoded(ctx, id, codec, stored, size); err != nil || !fresh {
			t.Fatal(fresh, err)
		}
		if err := errors.Join(w.Flush(ctx), s.Commit(ctx, &Manifest{ID: "copied"})); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if got, err := to.ReadChunk(ctx, id, nil); err != nil || !bytes.Equal(got, page) {
			t.Error(err)
		}
		wantSound(t, to)
	}
}

func newEncryptedOrPlain(t testing.TB, e *Encryption) *Repository {
	t.Helper()
	b := newTestDriver().bucket(t)
	if err := Init(t.Context(), b, InitOptions{Encryption: e}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// No form of printing shows a secret.
func TestSecretsAreNotPrinted(t *testing.T) {
	word := "open sesame, said the cat"
	source := Passphrase([]byte(word), cheap)
	key := [32]byte([]byte("0123456789-a-key-of-32-bytes-abc"))
	k := localsecrets.NewKeeper(key)
	d := newTestDriver()
	r := newEncrypted(t, d, Encryption{Key: source})
	slot, err := r.AddKey(t.Context(), Keeper(k), AddKeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := mustSession(t, r)
	defer s.Abort(t.Context())
	w := mustWriter(t, s)
	if _, _, err := w.Add(t.Context(), rowData(1, 500)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Flush(t.Context()), s.Sync(t.Context())); err != nil { // nothing changes the session any more while it is printed
		t.Fatal(err)
	}
	// Nor does the renewal of its lease, whenever that is due.
	s.lease.token <- struct{}{}
	defer func() { <-s.lease.token }()
	opts := Options{Key: source}
	needles := []string{word, fmt.Sprint([]byte(word)), fmt.Sprintf("%x", word), string(key[:]), fmt.Sprintf("%x", key)}
	for _, secret := range [][]byte{r.store.keys.data[:], r.store.keys.identity[:], r.store.keys.objects, r.store.keys.slots, r.store.keys.identityKey} {
		needles = append(needles, fmt.Sprint(secret), fmt.Sprintf("%x", secret), string(secret), fmt.Sprintf("%#v", secret))
	}
	things := map[string]any{
		"source": source, "keeper": Keeper(k), "Options": opts, "*Options": &opts, "InitOptions": InitOptions{Encryption: &Encryption{Key: source}},
		"Encryption": Encryption{Key: source}, "Repository": r, "session": s, "writer": w, "keyring": r.store.keys, "secrets": r.store.keys.secretPair,
		"slot": slot, "fingerprints": r.KeyFingerprints(),
	}
	for name, thing := range things {
		texts := []string{}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, thing))
		}
		if data, err := json.Marshal(thing); err == nil {
			texts = append(texts, string(data))
		}
		for _, text := range texts {
			for _, needle := range needles {
				if strings.Contains(text, needle) {
					t.Errorf("%s shows a secret: %.300s", name, text)
				}
			}
		}
	}
	_, err = Open(t.Context(), d.bucket(t), Options{Key: Passphrase([]byte(word+"!"), cheap)})
	wantErr(t, "wrong", err, ErrKey)
	if strings.Contains(err.Error(), word) {
		t.Errorf("the error shows it: %v", err)
	}
}

// Sealing and opening frames allocates nothing.
func TestFramesAllocateNothing(t *testing.T) {
	r := newEncrypted(t, newTestDriver(), Encryption{Key: keeper(1)})
	data := noiseData(1, 64<<10)
	id := identify(t, r, data)
	buf := make([]byte, 0, len(data)+frameOverhead)
	room := make([]byte, 0, len(data))
	var context frameContext
	context.set(&id, uint32(len(data)), chunk.Raw)
	var err error
	allocs := testing.AllocsPerRun(20, func() {
		buf = append(buf[:0], make([]byte, frameNonceSize)...)
		buf = r.store.keys.sealFrame(append(buf, data...), 0, &id, &context)
		room, err = r.store.keys.openFrame(room[:0], buf, &id, &context)
	})
	if err != nil || !bytes.Equal(room, data) || allocs > 0 {
		t.Errorf("%v allocations, error %v", allocs, err)
	}
	// Without room for the tag it moves, and is right all the same.
	short := append(make([]byte, 0, frameNonceSize+100), make([]byte, frameNonceSize)...)
	short = r.store.keys.sealFrame(append(short, data[:100]...), 0, &id, &context)
	if got, err := r.store.keys.openFrame(nil, short, &id, &context); err != nil || !bytes.Equal(got, data[:100]) {
		t.Errorf("moved: %v", err)
	}
}

// encryptedTiny is an encrypted repository with a little of everything.
func encryptedTiny(t testing.TB, e Encryption) (*testDriver, *Repository, map[string]map[string][]byte) {
	t.Helper()
	d := newTestDriver()
	r := newEncrypted(t, d, e)
	snapshots := map[string]map[string][]byte{"first": {"a": rowData(1, 1500)}, "second": {"a": rowData(1, 1500), "b": noiseData(1, 700)}}
	for _, id := range slices.Sorted(maps.Keys(snapshots)) {
		mustSnapshot(t, r, id, snapshots[id], fixedCutter(t, 512))
	}
	return d, r, snapshots
}

// reopen opens what d holds without closing the test's bucket twice.
func reopen(t testing.TB, d *testDriver, key KeySource) (*Repository, error) {
	t.Helper()
	return Open(t.Context(), blob.NewBucket(d), Options{Key: key})
}
