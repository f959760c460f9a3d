package localblob

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"

	"gocloud.dev/blob"
)

// TestLargeWritesNeedNoBuffer asks for a buffer as large as the object, as those do who want one request of it from
// other stores, and writes the object at once.
func TestLargeWritesNeedNoBuffer(t *testing.T) {
	b, err := OpenBucket(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	want := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{7}).Read(want)
	opts := &blob.WriterOptions{BufferSize: len(want) + 1, ContentType: "application/octet-stream", DisableContentTypeDetection: true}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w, err := b.NewWriter(t.Context(), "large", opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were allocated to write %d", n, len(want))
	}
	got, err := b.ReadAll(t.Context(), "large")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	// Small writes are still gathered, and large ones between them keep their place.
	if w, err = b.NewWriter(t.Context(), "mixed", opts); err != nil {
		t.Fatal(err)
	}
	for rest := want; len(rest) > 0; {
		n := min(len(rest), []int{10, 3 << 20, 1000}[len(rest)%3])
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err = b.ReadAll(t.Context(), "mixed"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of mixed writes came back, %v", len(got), err)
	}
}
