package transfer_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/fstest"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// forge stores pairs of chunks of data under each other's names, so that a snapshot of data, which
// is to be made then, shares them.
func forge(t testing.TB, r *repo.Repository, data []byte, pairs int) {
	t.Helper()
	const size = 64 << 10
	s, err := r.NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abort(t.Context())
	w, err := s.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ident, err := r.NewIdentifier()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * pairs {
		right, wrong := data[i*size:][:size], data[(i^1)*size:][:size]
		if fresh, err := w.AddEncoded(t.Context(), ident.Identify(right), chunk.Raw, wrong, size); err != nil || !fresh {
			t.Fatalf("chunk %d: new %v, error %v", i, fresh, err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// rot flips one bit in the middle of the largest pack.
func rot(t testing.TB, b *blob.Bucket) {
	t.Helper()
	var largest string
	var data []byte
	for _, key := range packs(t, b) {
		pack, err := b.ReadAll(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if len(pack) > len(data) {
			largest, data = key, pack
		}
	}
	data[len(data)/2] ^= 0x10
	if err := b.WriteAll(t.Context(), largest, data, nil); err != nil {
		t.Fatal(err)
	}
}

// Every way to verify finds what has happened to a pack since it was written. Chunks that were written
// wrong, in a pack that fits together, are found by looking at their content only: otherwise, they arrive,
// and the destination finds them when it reads them.
func TestVerify(t *testing.T) {
	data := noisy(3, 2<<20)
	auto := transfer.Options{}
	far := transfer.Options{Near: transfer.NearDestination}
	content, stored := transfer.Options{Verify: transfer.VerifyContent}, transfer.Options{Verify: transfer.VerifyStored, Near: transfer.NearDestination}
	for name, tt := range map[string]struct {
		opts          transfer.Options
		forged, rot   bool
		found, unseen bool
	}{
		"sound, by content":    {opts: content},
		"sound, as stored":     {opts: stored},
		"rot, an upload":       {opts: auto, rot: true, found: true},
		"rot, a download":      {opts: far, rot: true, found: true},
		"rot, by content":      {opts: content, rot: true, found: true},
		"rot, as stored":       {opts: stored, rot: true, found: true},
		"forged, an upload":    {opts: auto, forged: true, unseen: true},
		"forged, a download":   {opts: far, forged: true, found: true},
		"forged, by content":   {opts: content, forged: true, found: true},
		"forged, as stored":    {opts: stored, forged: true, unseen: true},
		"both, an upload":      {opts: auto, forged: true, rot: true, found: true},
		"no value there is":    {opts: transfer.Options{Verify: 3}},
		"no value there is: -": {opts: transfer.Options{Verify: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			bucket := newMemory(t)
			src := openSource(t, bucket, pagedSource{fstest.MapFS{"db": {Data: data}}})
			if tt.forged {
				forge(t, src.Repository(), data, 4)
			}
			s := create(t, src, "x")
			if tt.rot {
				rot(t, bucket)
			}
			// What is in memory of the packs must not hide what is in them.
			from := openBucket(t, bucket, repo.Options{Retry: oneTry})
			dst := openPaged(t, nil)
			_, err := transfer.Copy(t.Context(), dst.Repository(), from, s.ID, tt.opts)
			var at *repo.ChunkError
			switch {
			case tt.opts.Verify < 0 || tt.opts.Verify > transfer.VerifyStored:
				if !errors.Is(err, repo.ErrInvalid) {
					t.Errorf("error %v", err)
				}
				return
			case tt.found:
				if !errors.Is(err, repo.ErrCorrupt) || !errors.As(err, &at) || at.Pack == "" {
					t.Errorf("error %v", err)
				}
				return
			case err != nil:
				t.Fatal(err)
			case !tt.unseen:
				wantCopied(t, dst, s.ID, data)
				return
			}
			wantFound(t, dst, s.ID, data)
		})
	}
}

// wantFound wants that a copy has wrong chunks, which show where they are read.
func wantFound(t testing.TB, dst *snapshot.Engine, id string, data []byte) {
	t.Helper()
	fsys, err := dst.OpenFS(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fsys.ReadFile("kv/db"); !errors.Is(err, repo.ErrCorrupt) || bytes.Equal(got, data) {
		t.Errorf("%d bytes were read, error %v", len(got), err)
	}
	report, err := dst.Repository().Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil || report.OK() {
		t.Errorf("a check of the data has found nothing: %+v, %v", report, err)
	}
}

func TestVerifyText(t *testing.T) {
	for _, v := range []transfer.Verify{transfer.VerifyAuto, transfer.VerifyContent, transfer.VerifyStored} {
		text, err := v.MarshalText()
		var back transfer.Verify = -1
		if err != nil || string(text) != v.String() || back.UnmarshalText(text) != nil || back != v {
			t.Errorf("%v becomes %q and then %v: %v", v, text, back, err)
		}
	}
	for _, text := range []string{"", "Auto", "stored ", "Verify(1)", "1"} {
		v := transfer.VerifyContent
		if err := v.UnmarshalText([]byte(text)); !errors.Is(err, repo.ErrInvalid) || v != transfer.VerifyContent {
			t.Errorf("%q: %v, error %v", text, v, err)
		}
	}
	for v, want := range map[transfer.Verify]string{-1: "Verify(-1)", 3: "Verify(3)"} {
		if _, err := v.MarshalText(); !errors.Is(err, repo.ErrInvalid) || v.String() != want {
			t.Errorf("%v: error %v", v, err)
		}
	}
}
