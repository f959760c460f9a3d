package localblob

import (
	"bytes"
	"crypto/md5"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// sampleBytes is content that does not repeat within a page.
func sampleBytes(n int) []byte {
	out := make([]byte, n)
	x := uint32(2463534242)
	for i := range out {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		out[i] = byte(x)
	}
	return out
}

func TestAttributesRoundTrip(t *testing.T) {
	bkt, _, dir := openRecorded(t)
	ctx := t.Context()
	for _, size := range []int{0, 1, 511, attrResidue - 1, attrResidue, attrModulus, 3*attrModulus + attrResidue, 100_000} {
		content := sampleBytes(size)
		sum := md5.Sum(content)
		opts := &blob.WriterOptions{
			ContentType: "text/csv; charset=utf-8", CacheControl: "no-store", ContentDisposition: "attachment",
			ContentEncoding: "zstd", ContentLanguage: "de", ContentMD5: sum[:],
			Metadata: map[string]string{"position": "0/16B3748", "größe": "☺\n\x00"},
		}
		if err := bkt.WriteAll(ctx, "d/key", content, opts); err != nil {
			t.Fatal(err)
		}
		a, err := bkt.Attributes(ctx, "d/key")
		if err != nil {
			t.Fatal(err)
		}
		got := blob.WriterOptions{
			ContentType: a.ContentType, CacheControl: a.CacheControl, ContentDisposition: a.ContentDisposition,
			ContentEncoding: a.ContentEncoding, ContentLanguage: a.ContentLanguage, ContentMD5: a.MD5, Metadata: a.Metadata,
		}
		if diff := cmp.Diff(*opts, got); diff != "" {
			t.Errorf("size %d (-want +got):\n%s", size, diff)
		}
		if a.Size != int64(size) {
			t.Errorf("size %d, want %d", a.Size, size)
		}
		if got := contentOf(t, bkt, "d/key"); got != string(content) {
			t.Errorf("size %d: content differs", size)
		}
		if o, err := bkt.List(nil).Next(ctx); err != nil || o.Size != int64(size) {
			t.Errorf("listed %+v, %v; want size %d", o, err, size)
		}
		if found, err := os.ReadDir(filepath.Join(dir, "d")); err != nil || len(found) != 1 {
			t.Errorf("folder holds %v, %v", found, err)
		}
	}
}

// TestContentThatLooksAttributed: a content that ends as a file with attributes does comes back as it was.
func TestContentThatLooksAttributed(t *testing.T) {
	attrs := storedAttributes{ContentType: "text/evil"}
	inner := sampleBytes(100)
	tail, err := attrs.encode(int64(len(inner)))
	if err != nil {
		t.Fatal(err)
	}
	forged := append(inner, tail...)
	magicOnly := append(sampleBytes(attrModulus+attrResidue-len(attrMagic)), attrMagic...)
	bkt, _, _ := openRecorded(t)
	for name, content := range map[string][]byte{"forged": forged, "magic only": magicOnly} {
		for _, step := range []int{1, 7, len(attrMagic), len(content)} { // however the writes cut it
			w, err := bkt.NewWriter(t.Context(), "key", plainFile())
			if err != nil {
				t.Fatal(err)
			}
			for rest := content; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				if _, err := w.Write(rest[:min(step, len(rest))]); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			a, err := bkt.Attributes(t.Context(), "key")
			if err != nil || a.ContentType != defaultContentType || a.Size != int64(len(content)) {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
			if contentOf(t, bkt, "key") != string(content) {
				t.Errorf("%s, in steps of %d: content differs", name, step)
			}
		}
		if err := bkt.Copy(t.Context(), "copy", "key", nil); err != nil || contentOf(t, bkt, "copy") != string(content) {
			t.Errorf("%s: the copy differs (%v)", name, err)
		}
	}
}

// TestCorruptAttributes flips each bit of what follows the content. Every flip must be noticed, or concern the padding,
// or the marks that tell files with attributes from plain ones, and then the object is visibly longer.
func TestCorruptAttributes(t *testing.T) {
	bkt, _, dir := openRecorded(t)
	content := "a short object"
	if err := bkt.WriteAll(t.Context(), "key", []byte(content), &blob.WriterOptions{ContentType: "text/csv"}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	textStart := bytes.IndexByte(whole, '{')
	for i := textStart; i < len(whole); i++ {
		for bit := range 8 {
			bad := bytes.Clone(whole)
			bad[i] ^= 1 << bit
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := bkt.ReadAll(t.Context(), "key")
			inMagic := i >= len(whole)-len(attrMagic)
			if inMagic && (err != nil || len(got) != len(whole)) {
				t.Fatalf("byte %d, bit %d: %d bytes, %v", i, bit, len(got), err)
			}
			if !inMagic && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d, bit %d: %d bytes, %v; want ErrCorrupt", i, bit, len(got), err)
			}
			if o, err := bkt.List(nil).Next(t.Context()); err != nil || o.Key != "key" {
				t.Fatalf("byte %d, bit %d: listing gives %v, %v", i, bit, o, err)
			}
		}
	}
}

func TestAttributesTooLarge(t *testing.T) {
	bkt, _, dir := openRecorded(t)
	opts := &blob.WriterOptions{Metadata: map[string]string{"large": strings.Repeat("x", maxAttrLen)}}
	err := bkt.WriteAll(t.Context(), "key", []byte("x"), opts)
	if gcerrors.Code(err) != gcerrors.InvalidArgument {
		t.Errorf("got %v", err)
	}
	if left := temporaries(t, dir); len(left) > 0 || contentOf(t, bkt, "key") != "" {
		t.Errorf("left %v", left)
	}
}

// FuzzReadAttributes: files may hold anything; nothing may be read or allocated beyond their size.
func FuzzReadAttributes(f *testing.F) {
	for _, n := range []int{0, 1, 5000} {
		content := sampleBytes(n)
		a := storedAttributes{ContentType: "text/csv", Metadata: map[string]string{"k": "v"}}
		tail, err := a.encode(int64(n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(content, tail...))
	}
	f.Add([]byte(attrMagic))
	f.Fuzz(func(t *testing.T, file []byte) {
		// Most inputs have no fitting size; make them fit, so that more than the size check is tried.
		pad := (attrResidue - len(file)%attrModulus + attrModulus) % attrModulus
		for _, data := range [][]byte{file, append(make([]byte, pad), file...)} {
			n, attrs, err := readAttributes(bytes.NewReader(data), int64(len(data)))
			switch {
			case errors.Is(err, ErrCorrupt):
			case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
				t.Fatalf("unexpected error %v", err)
			case err == nil && (n < 0 || n > int64(len(data))):
				t.Fatalf("content of %d bytes in a file of %d", n, len(data))
			case err == nil && n == int64(len(data)) && !attrs.plain():
				t.Fatalf("plain file with attributes %+v", attrs)
			}
		}
	})
}
