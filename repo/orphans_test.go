package repo

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// The configuration of an encrypted repository is deleted by mistake. A server that is started then, and
// makes repositories where there are none, must not take its place.
func TestInitLeavesRoomForALostConfiguration(t *testing.T) {
	key := Passphrase([]byte("open sesame"), PassphraseOptions{Argon2: Argon2{Time: 1, Memory: 8 << 20, Threads: 1}})
	for _, test := range []struct {
		name  string
		init  InitOptions
		again []InitOptions
		want  error
	}{
		{"encrypted", InitOptions{Encryption: &Encryption{Key: key}}, []InitOptions{{}, {Encryption: &Encryption{Key: key}}}, ErrMissing},
		{"plain", InitOptions{}, []InitOptions{{}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newTestDriver()
			b := d.bucket(t)
			opts := Options{}
			if test.init.Encryption != nil {
				opts.Key = key
			}
			if err := Init(t.Context(), b, test.init); err != nil {
				t.Fatal(err)
			}
			r, err := Open(t.Context(), b, opts)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			files := smallFiles(1)
			mustSnapshot(t, r, "s", files, fixedCutter(t, 512))
			if err := Init(t.Context(), b, test.init); !errors.Is(err, ErrRepositoryExists) {
				t.Errorf("beside the one there is: %v", err)
			}
			lost := bytes.Clone(d.objects[configKey])
			delete(d.objects, configKey)
			slots := len(d.keys(slotPrefix))
			for _, again := range test.again {
				if err := Init(t.Context(), b, again); !errors.Is(err, test.want) {
					t.Errorf("made anew: %v, want %v", err, test.want)
				}
			}
			if test.want == nil {
				return
			}
			if len(d.keys(slotPrefix)) != slots {
				t.Errorf("key slots were made: %v", d.keys(slotPrefix))
			}
			d.objects[configKey] = lost
			back, err := Open(t.Context(), b, opts)
			if err != nil {
				t.Fatal(err)
			}
			defer back.Close()
			if _, err := back.Manifest(t.Context(), "s"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Without key slots no passphrase helps, and the message must not blame the one that was given.
func TestLostSlots(t *testing.T) {
	key := Passphrase([]byte("open sesame"), PassphraseOptions{Argon2: Argon2{Time: 1, Memory: 8 << 20, Threads: 1}})
	for name, lose := range map[string]func(d *testDriver, slot string){
		"deleted": func(d *testDriver, slot string) { delete(d.objects, slot) },
		"damaged": func(d *testDriver, slot string) { d.objects[slot] = []byte("{}") },
	} {
		d := newTestDriver()
		b := d.bucket(t)
		if err := Init(t.Context(), b, InitOptions{Encryption: &Encryption{Key: key}}); err != nil {
			t.Fatal(err)
		}
		for _, slot := range d.keys(slotPrefix) {
			lose(d, slot)
		}
		_, err := Open(t.Context(), b, Options{Key: key})
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "put back a copy of the objects below key/") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
