package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"gocloud.dev/secrets"
	"gocloud.dev/secrets/localsecrets"
)

func TestWrongKeys(t *testing.T) {
	ctx := t.Context()
	d, plain := newTestDriver(), newTestDriver()
	newEncrypted(t, d, Encryption{Key: passphrase("right")})
	newKeeper := newTestDriver()
	newEncrypted(t, newKeeper, Encryption{Key: keeper(1)})
	if err := Init(ctx, plain.bucket(t), InitOptions{}); err != nil {
		t.Fatal(err)
	}
	asked := errors.New("nobody there")
	for name, tt := range map[string]struct {
		d    *testDriver
		key  KeySource
		want error
		text string
	}{
		"right":                  {d, passphrase("right"), nil, ""},
		"right keeper":           {newKeeper, keeper(1), nil, ""},
		"none":                   {d, nil, ErrKey, "no key was given"},
		"wrong":                  {d, passphrase("left"), ErrKey, "opens none of 1"},
		"empty":                  {d, passphrase(""), ErrKey, "empty"},
		"a keeper":               {d, keeper(1), ErrKey, "kind"},
		"wrong keeper":           {newKeeper, keeper(2), ErrKey, "opens none of 1"},
		"passphrase, not keeper": {newKeeper, passphrase("right"), ErrKey, "kind"},
		"not encrypted":          {plain, passphrase("right"), ErrKey, "not encrypted"},
		"nobody to ask":          {d, PassphraseFunc(func(context.Context) ([]byte, error) { return nil, asked }, cheap), asked, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Open(ctx, tt.d.bucket(t), Options{Key: tt.key})
			if !errors.Is(err, tt.want) || (err == nil) != (r != nil) || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "left") || errors.Is(err, ErrCorrupt)) {
				t.Errorf("error %v", err)
			}
		})
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err := Open(cancelled, d.bucket(t), Options{Key: passphrase("right")})
	wantErr(t, "a cancelled context", err, context.Canceled)
}

func TestBadEncryptionSettings(t *testing.T) {
	ask := passphrase("x")
	for name, e := range map[string]Encryption{
		"no key":        {},
		"long label":    {Key: ask, Label: strings.Repeat("x", maxSlotLabel+1)},
		"label":         {Key: ask, Label: "\xff"},
		"memory":        {Key: Passphrase([]byte("x"), PassphraseOptions{Argon2{Memory: 1 << 40}})},
		"little memory": {Key: Passphrase([]byte("x"), PassphraseOptions{Argon2{Memory: 1 << 20}})},
		"odd memory":    {Key: Passphrase([]byte("x"), PassphraseOptions{Argon2{Memory: minArgonMemory + 1}})},
		"time":          {Key: Passphrase([]byte("x"), PassphraseOptions{Argon2{Time: 17}})},
		"threads":       {Key: Passphrase([]byte("x"), PassphraseOptions{Argon2{Threads: 17}})},
		"product":       {Key: Passphrase([]byte("x"), PassphraseOptions{Argon2{Time: 5, Memory: 1 << 30}})},
	} {
		d := newTestDriver()
		err := Init(t.Context(), d.bucket(t), InitOptions{Encryption: &e})
		if !errors.Is(err, ErrInvalid) || len(d.keys("")) > 0 {
			t.Errorf("%s: %v, left %q", name, err, d.keys(""))
		}
	}
}

func keyIDs(t testing.TB, r *Repository) (ids []string) {
	t.Helper()
	for k, err := range r.Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, k.ID)
	}
	return ids
}

// A passphrase is changed while others write; nothing is written anew, and the old one
// does not open the repository any more.
func TestPassphraseChange(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newEncrypted(t, d, Encryption{Key: passphrase("old"), Label: "first"})
	mustSnapshot(t, r, "before", smallFiles(1), fixedCutter(t, 512))
	before := d.copy()
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			if err := takeSnapshot(ctx, r, fmt.Sprint("during-", n), smallFiles(uint64(n)+2), fixedCutter(t, 512)); err != nil {
				t.Error(err)
			}
		})
	}
	added, err := r.AddKey(ctx, passphrase("new"), AddKeyOptions{Label: "second"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.AddKey(ctx, keeper(9), AddKeyOptions{}); err != nil {
		t.Fatal(err)
	}
	var slots []KeySlot
	for k, err := range r.Keys(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		slots = append(slots, k)
	}
	if !slices.IsSortedFunc(slots, func(a, b KeySlot) int { return a.Created.Compare(b.Created) }) {
		t.Errorf("not the oldest comes first: %+v", slots)
	}
	// Their times are those of a clock that may be set back meanwhile.
	old := slices.IndexFunc(slots, func(k KeySlot) bool { return k.Label == "first" && k.Kind == KindPassphrase })
	if len(slots) != 3 || old < 0 || !slices.Contains(slots, added) || !slices.ContainsFunc(slots, func(k KeySlot) bool { return k.Kind == KindKeeper }) {
		t.Fatalf("slots %+v", slots)
	}
	removed := slots[old].ID
	if err := r.RemoveKey(ctx, removed); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	_, err = Open(ctx, d.bucket(t), Options{Key: passphrase("old")})
	wantErr(t, "the old passphrase", err, ErrKey)
	for _, key := range []KeySource{passphrase("new"), keeper(9)} {
		again := openTestRepo(t, d.bucket(t), Options{Key: key})
		wantSnapshot(t, again, "before", smallFiles(1))
		wantSnapshot(t, again, "during-2", smallFiles(4))
		wantSound(t, again)
	}
	for _, key := range before.keys("") {
		if key != slotKey(removed) && !bytes.Equal(before.get(key), d.get(key)) && !strings.HasPrefix(key, indexPrefix) {
			t.Errorf("%s was changed", key)
		}
	}
}

func TestLastKeyStays(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newEncrypted(t, d, Encryption{Key: passphrase("a")})
	ids := keyIDs(t, r)
	wantErr(t, "the last slot", r.RemoveKey(ctx, ids[0]), ErrKey)
	wantErr(t, "no slot's ID", r.RemoveKey(ctx, "../x"), ErrInvalid)
	wantErr(t, "another slot", r.RemoveKey(ctx, strings.Repeat("0", 32)), ErrNotFound)
	if _, err := r.AddKey(ctx, passphrase("b"), AddKeyOptions{}); err != nil {
		t.Fatal(err)
	}
	// Two processes remove one slot each. Both look before either deletes.
	ids = keyIDs(t, r)
	var both sync.WaitGroup
	both.Add(len(ids))
	looked := make(map[string]*sync.Once)
	for _, id := range ids {
		looked[slotKey(id)] = new(sync.Once) // a request may be made again
	}
	d.before.set(func(_ context.Context, o op) error {
		if o.kind == "delete" {
			looked[o.key].Do(both.Done)
			both.Wait()
		}
		return nil
	})
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for n, id := range ids {
		wg.Go(func() { errs[n] = r.RemoveKey(ctx, id) })
	}
	wg.Wait()
	d.before.set(nil)
	left := keyIDs(t, r)
	if len(left) == 0 || errs[0] == nil && errs[1] == nil {
		t.Errorf("left %q, errors %v", left, errs)
	}
	for n, id := range ids {
		if (errs[n] != nil) != slices.Contains(left, id) {
			t.Errorf("slot %s: %v, left %q", id, errs[n], left)
		}
	}
	for len(keyIDs(t, r)) < maxSlots {
		if _, err := r.AddKey(ctx, keeper(1), AddKeyOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.AddKey(ctx, keeper(1), AddKeyOptions{})
	wantErr(t, "one slot too many", err, ErrInvalid)
}

func TestKeysOfPlainRepository(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	if encryptedVariant() {
		return
	}
	for _, err := range r.Keys(t.Context()) {
		wantErr(t, "Keys", err, ErrKey)
	}
	_, err := r.AddKey(t.Context(), passphrase("x"), AddKeyOptions{})
	wantErr(t, "AddKey", err, ErrKey)
	wantErr(t, "RemoveKey", r.RemoveKey(t.Context(), strings.Repeat("0", 32)), ErrKey)
	if r.Encrypted() || r.KeyFingerprints() != nil {
		t.Error("it says that it is encrypted")
	}
}

// An Init that died before the configuration was there leaves a slot that disturbs nobody.
func TestInitAfterCrash(t *testing.T) {
	ctx := t.Context()
	for name, key := range map[string]KeySource{"passphrase": passphrase("p"), "keeper": keeper(3)} {
		d := newTestDriver()
		died := errors.New("died")
		d.before.set(func(_ context.Context, o op) error {
			if o.kind == "create" && o.key == configKey {
				return died
			}
			return nil
		})
		wantErr(t, name, Init(ctx, d.bucket(t), InitOptions{Encryption: &Encryption{Key: key}}), died)
		d.before.set(nil)
		if len(d.keys(slotPrefix)) != 1 {
			t.Fatalf("%s: left %q", name, d.keys(""))
		}
		r := newEncrypted(t, d, Encryption{Key: key})
		if ids := keyIDs(t, r); len(ids) != 1 {
			t.Errorf("%s: slots %q", name, ids)
		}
		// And of two at once one wins, and the other takes its slot away.
		wantErr(t, name, Init(ctx, d.bucket(t), InitOptions{Encryption: &Encryption{Key: key}}), ErrRepositoryExists)
		if n := len(d.keys(slotPrefix)); n != 2 {
			t.Errorf("%s: %d slots are left", name, n)
		}
		wantSound(t, r)
	}
}

// A lost answer to a create is no failure.
func TestAddKeyWithLostAnswer(t *testing.T) {
	d := newTestDriver()
	r := newEncrypted(t, d, Encryption{Key: passphrase("p")})
	d.after.set(func(_ context.Context, o op) error {
		if o.kind == "create" {
			return errors.New("connection lost")
		}
		return nil
	})
	k, err := r.AddKey(t.Context(), keeper(1), AddKeyOptions{})
	d.after.set(nil)
	if err != nil || !slices.Contains(keyIDs(t, r), k.ID) {
		t.Errorf("%+v, %v", k, err)
	}
}

// A keeper whose service is not there is told from a wrong key by its cause.
func TestKeeperTrouble(t *testing.T) {
	closed := localsecrets.NewKeeper([32]byte{1})
	d := newTestDriver()
	newEncrypted(t, d, Encryption{Key: keeper(1)})
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), d.bucket(t), Options{Key: Keeper(closed)})
	wantErr(t, "a closed keeper", err, ErrKey)
	wantErr(t, "a closed keeper at Init", Init(t.Context(), newTestDriver().bucket(t), InitOptions{Encryption: &Encryption{Key: Keeper(closed)}}), errClosedKeeper(closed))
}

func errClosedKeeper(k *secrets.Keeper) error {
	_, err := k.Encrypt(context.Background(), nil)
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}
