package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
)

// These tests play somebody who can write to the store, knows the format, makes every
// checksum right that needs no key, and does not have the keys.

// forge decodes a sealed document, changes it, and seals it again.
func forge(t testing.TB, data []byte, change func(doc map[string]any)) []byte {
	t.Helper()
	var doc map[string]any
	if err := unseal("x", data, &doc); err != nil {
		t.Fatal(err)
	}
	change(doc)
	out, err := seal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// No field of a key slot can be changed unnoticed.
func TestForgedKeySlots(t *testing.T) {
	d, _, _ := encryptedTiny(t, Encryption{Key: passphrase("p"), Label: "label"})
	key := d.keys(slotPrefix)[0]
	argon := func(field string, value any) func(map[string]any) {
		return func(doc map[string]any) { doc["argon2"].(map[string]any)[field] = value }
	}
	set := func(field string, value any) func(map[string]any) {
		return func(doc map[string]any) { doc[field] = value }
	}
	for name, change := range map[string]func(map[string]any){
		"id":            set("id", strings.Repeat("a", 32)),
		"repository":    set("repository", strings.Repeat("b", 32)),
		"kind":          set("kind", KindKeeper),
		"unknown kind":  set("kind", "none"),
		"label":         set("label", "another"),
		"created":       set("created", "2020-01-01T00:00:00Z"),
		"no time":       set("created", "yesterday"),
		"wrapped":       set("wrapped", []byte("nothing")),
		"mac":           set("mac", make([]byte, 32)),
		"no mac":        func(doc map[string]any) { delete(doc, "mac") },
		"time":          argon("time", 2),
		"salt":          argon("salt", make([]byte, argonSaltSize)),
		"short salt":    argon("salt", []byte("x")),
		"no argon2":     func(doc map[string]any) { delete(doc, "argon2") },
		"a TiB":         argon("memory", int64(1)<<40),
		"no memory":     argon("memory", 0),
		"many passes":   argon("time", int64(1)<<31),
		"no passes":     argon("time", 0),
		"many lanes":    argon("threads", 255),
		"minus one":     argon("threads", -1),
		"much together": func(doc map[string]any) { argon("time", 16)(doc); argon("memory", int64(1)<<30)(doc) },
	} {
		hurt := d.copy()
		hurt.put(key, forge(t, d.get(key), change))
		_, err := reopen(t, hurt, passphrase("p"))
		if !errors.Is(err, ErrKey) && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		// With another slot to open it, Check names the forged one, unless it says of
		// itself that it is another repository's.
		other, err := reopen(t, d.copy(), passphrase("p"))
		if err != nil {
			t.Fatal(err)
		}
		other.store.bucket = hurt.bucket(t)
		report, err := other.Check(t.Context(), CheckOptions{})
		if err != nil || report.OK() != (name == "repository") || !report.OK() && report.Damage[0].Object != key {
			t.Errorf("%s: Check: %+v, %v", name, report, err)
		}
	}
}

// No field of the configuration can be changed unnoticed, and encryption cannot be taken
// away.
func TestForgedConfiguration(t *testing.T) {
	d, _, _ := encryptedTiny(t, Encryption{Key: keeper(1)})
	for name, change := range map[string]func(map[string]any){
		"id":          func(doc map[string]any) { doc["id"] = strings.Repeat("0", 32) },
		"cut":         func(doc map[string]any) { doc["cut"].(map[string]any)["min"] = 4096 },
		"hash":        func(doc map[string]any) { doc["hash"] = hashBLAKE3 },
		"fingerprint": func(doc map[string]any) { doc["encryption"] = map[string]any{"keys": []KeyFingerprint{{"00"}}} },
		"added":       func(doc map[string]any) { doc["note"] = "x" },
		"no feature":  func(doc map[string]any) { doc["requires"] = []string{} },
		"no keys":     func(doc map[string]any) { delete(doc, "encryption") },
		"plain": func(doc map[string]any) {
			delete(doc, "encryption")
			doc["requires"], doc["hash"] = []string{}, hashBLAKE3
		},
	} {
		hurt := d.copy()
		hurt.put(configKey, forge(t, d.get(configKey), change))
		_, err := reopen(t, hurt, keeper(1))
		if !errors.Is(err, ErrKey) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Objects of another repository are found out, even of one with the same passphrase, the
// same identity and the same data.
func TestObjectsOfAnotherRepository(t *testing.T) {
	one, first, snapshots := encryptedTiny(t, Encryption{Key: passphrase("p")})
	two, _, _ := encryptedTiny(t, Encryption{Key: passphrase("p"), SameIdentityAs: first})
	three, _, _ := encryptedTiny(t, Encryption{Key: passphrase("p")})
	plain := newTestDriver()
	r := newPlain(t, plain)
	for _, id := range []string{"first", "second"} {
		mustSnapshot(t, r, id, snapshots[id], fixedCutter(t, 512))
	}
	for name, other := range map[string]*testDriver{"twin": two, "stranger": three, "not encrypted": plain} {
		for _, prefix := range []string{packPrefix, indexPrefix, snapshotPrefix} {
			for _, key := range one.keys(prefix) {
				for _, theirs := range other.keys(prefix) {
					hurt := one.copy()
					hurt.put(key, other.get(theirs))
					r, err := reopen(t, hurt, passphrase("p"))
					if err != nil {
						t.Fatal(err)
					}
					wantDamaged(t, fmt.Sprint(name, ": ", theirs, " for ", key), r, key, snapshots)
				}
			}
			// And beside ours, under their own names.
			for _, theirs := range other.keys(prefix) {
				hurt := one.copy()
				if hurt.get(theirs) != nil {
					continue
				}
				hurt.put(theirs, other.get(theirs))
				r, err := reopen(t, hurt, passphrase("p"))
				if err != nil {
					t.Fatal(err)
				}
				wantDamaged(t, fmt.Sprint(name, ": ", theirs), r, theirs, snapshots)
			}
		}
		if name == "not encrypted" {
			continue
		}
		hurt := one.copy()
		hurt.put(configKey, other.get(configKey))
		_, err := reopen(t, hurt, passphrase("p"))
		wantErr(t, name+": its configuration", err, ErrKey)
		hurt = one.copy()
		hurt.put(one.keys(slotPrefix)[0], other.get(other.keys(slotPrefix)[0]))
		_, err = reopen(t, hurt, passphrase("p"))
		wantErr(t, name+": its key slot under our name", err, ErrKey)
	}
}

func newPlain(t testing.TB, d *testDriver) *Repository {
	t.Helper()
	b := d.bucket(t)
	if err := Init(t.Context(), b, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantDamaged fails unless Check names the object, and no read gives wrong bytes.
func wantDamaged(t testing.TB, what string, r *Repository, key string, snapshots map[string]map[string][]byte) {
	t.Helper()
	report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil || !slices.ContainsFunc(report.Damage, func(d Damage) bool { return d.Object == key && typed(d.Err) }) {
		t.Errorf("%s: Check: %+v, %v", what, report, err)
	}
	for id, files := range snapshots {
		got, err := readSnapshot(t.Context(), r, id)
		if err != nil && !typed(err) {
			t.Errorf("%s: reading %s: %v", what, id, err)
		}
		for path := range got {
			if !bytes.Equal(got[path], files[path]) {
				t.Errorf("%s: wrong bytes of %s in %s", what, path, id)
			}
		}
	}
}

// An older manifest under another ID, a frame that is changed, a key slot put back.
func TestReplayedObjects(t *testing.T) {
	d, r, snapshots := encryptedTiny(t, Encryption{Key: keeper(1)})
	hurt := d.copy()
	hurt.put(snapshotPrefix+"third", d.get(snapshotPrefix+"first"))
	again, err := reopen(t, hurt, keeper(1))
	if err != nil {
		t.Fatal(err)
	}
	_, err = again.Manifest(t.Context(), "third")
	wantErr(t, "a manifest under another ID", err, ErrCorrupt)
	wantDamaged(t, "a manifest under another ID", again, snapshotPrefix+"third", snapshots)

	set, err := r.currentIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	noise := snapshots["second"]["b"]
	l, ok := set.locateOne(ptr(identify(t, r, noise[:512])))
	if !ok {
		t.Fatal("a chunk is not there")
	}
	data := bytes.Clone(d.get(packKey(l.pack)))
	frame := data[l.offset:][:l.stored]
	// An older frame of the same chunk may be put back, which changes nothing; one that
	// differs in a bit is noticed, be it in the nonce, the ciphertext or the tag.
	for _, at := range []int{0, frameNonceSize, len(frame) / 2, len(frame) - 1} {
		frame[at] ^= 0x40
		hurt := d.copy()
		hurt.put(packKey(l.pack), data)
		again, err := reopen(t, hurt, keeper(1))
		if err != nil {
			t.Fatal(err)
		}
		wantDamaged(t, fmt.Sprint("bit in byte ", at, " of a frame"), again, packKey(l.pack), snapshots)
		frame[at] ^= 0x40
	}

	// A key slot that was removed and is put back opens the repository again. FORMAT.md
	// says so; it is no surprise.
	old := d.keys(slotPrefix)[0]
	kept := d.get(old)
	if _, err := r.AddKey(t.Context(), keeper(2), AddKeyOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveKey(t.Context(), strings.TrimPrefix(old, slotPrefix)); err != nil {
		t.Fatal(err)
	}
	_, err = reopen(t, d, keeper(1))
	wantErr(t, "a removed slot", err, ErrKey)
	d.put(old, kept)
	if _, err = reopen(t, d, keeper(1)); err != nil {
		t.Error(err)
	}
}

func ptr[T any](v T) *T { return &v }

// Frames are bound to their chunk, plain length and codec.
func TestFramesDoNotPassForOthers(t *testing.T) {
	r := newEncrypted(t, newTestDriver(), Encryption{Key: keeper(1)})
	k := r.store.keys
	plain := noiseData(1, 300)
	id := identify(t, r, plain)
	var context frameContext
	context.set(&id, 300, 0)
	sealed := k.sealFrame(append(make([]byte, frameNonceSize), plain...), 0, &id, &context)
	if got, err := k.openFrame(nil, sealed, &id, &context); err != nil || !bytes.Equal(got, plain) {
		t.Fatal(err)
	}
	other := id
	other[31] ^= 1
	for name, change := range map[string]func(*frameContext){
		"another chunk":  func(c *frameContext) { c.set(&other, 300, 0) },
		"another length": func(c *frameContext) { c.set(&id, 301, 0) },
		"another codec":  func(c *frameContext) { c.set(&id, 300, 1) },
	} {
		changed := context
		change(&changed)
		_, err := k.openFrame(nil, sealed, &id, &changed)
		wantErr(t, name, err, ErrCorrupt)
	}
	for n := range len(sealed) {
		_, err := k.openFrame(nil, sealed[:n], &id, &context)
		wantErr(t, fmt.Sprint("cut off after ", n), err, ErrCorrupt)
	}
	footer := k.sealFooter(nil, []byte("header one"), []byte("footer"))
	_, err := k.openFooter("x", []byte("header two"), bytes.Clone(footer))
	wantErr(t, "a footer of another header", err, ErrCorrupt)
	object := k.sealObject("index/a", footer)
	_, err = k.openObject("index/b", bytes.Clone(object))
	wantErr(t, "an object under another key", err, ErrCorrupt)
	_, err = k.openFooter("x", []byte("index/a"), bytes.Clone(object[envelopeHeadSize:]))
	wantErr(t, "an object for a footer", err, ErrCorrupt)
}

func FuzzOpenObject(f *testing.F) {
	k := newKeyring(secretPair{keyed: true, data: [32]byte{1}}, "r", [32]byte{})
	f.Add("index/a", k.sealObject("index/a", []byte("some data")))
	f.Add("snapshot/a", []byte(envelopeMagic+"\x01\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		if !k.sealsObject(key) {
			return
		}
		got, err := k.openObject(key, bytes.Clone(data))
		if err != nil {
			wantErr(t, "openObject", err, ErrCorrupt)
			return
		}
		// Nobody finds a tag without the key.
		if string(got) != "some data" || key != "index/a" {
			t.Errorf("opened %q: %q", key, got)
		}
	})
}

func FuzzParseSlot(f *testing.F) {
	k := newKeyring(secretPair{data: [32]byte{1}}, strings.Repeat("0", 32), [32]byte{})
	for _, source := range []KeySource{keeper(1), passphrase("p")} {
		_, data, err := k.makeSlot(f.Context(), source, "label")
		if err != nil {
			f.Fatal(err)
		}
		var doc json.RawMessage
		if err := unseal("x", data, &doc); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var head struct{ ID string }
		_ = json.Unmarshal(doc, &head)
		d, err := parseSlot(slotKey(head.ID), sealedAs("1", doc))
		if err != nil {
			if !typed(err) {
				t.Errorf("error %v", err)
			}
			return
		}
		if a := d.Argon2; a != nil && (Argon2{a.Time, a.Memory, a.Threads}).check() != nil {
			t.Errorf("passed: %+v", *a)
		}
		_ = k.slotMAC(d)
		_ = d.keySlot()
	})
}

func FuzzParsePayload(f *testing.F) {
	k := newKeyring(newSecrets(), "r", blake3.Sum256(nil))
	f.Add(k.payload())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, config, err := parsePayload("x", b)
		if err == nil && !bytes.Equal(newKeyring(s, "r", config).payload(), b) {
			t.Errorf("%x comes back as another", b)
		}
	})
}
