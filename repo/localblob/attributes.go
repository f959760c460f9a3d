package localblob

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"gocloud.dev/blob/driver"
)

// Attributes stand behind the content, in the same file, so that one rename or link publishes both:
//
//	content | zeros | JSON | footer (32 bytes)
//
//	footer:  0  8  length of the content, little endian
//	         8  4  length of the JSON
//	        12  4  CRC-32C of the JSON and of the footer's first 12 bytes
//	        16 16  attrMagic
//
// The zeros bring the size of the file to attrResidue modulo attrModulus, so a listing needs to look into one plain
// file in 4096 only. A plain content that would itself be taken for a file with attributes is given some.
const (
	attrModulus   = 4096
	attrResidue   = 2039
	attrFooterLen = 32
	attrMagic     = "\x00localblob-attr\n"
	maxAttrLen    = 1 << 20 // bytes of JSON

	defaultContentType = "application/octet-stream"
)

var errAttributesTooLarge = fmt.Errorf("localblob: attributes have more than %d bytes", maxAttrLen)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// storedAttributes is what the file of an object keeps besides its content. The zero value is that of a plain file.
type storedAttributes struct {
	ContentType        string            `json:"contentType,omitempty"`
	CacheControl       string            `json:"cacheControl,omitempty"`
	ContentDisposition string            `json:"contentDisposition,omitempty"`
	ContentEncoding    string            `json:"contentEncoding,omitempty"`
	ContentLanguage    string            `json:"contentLanguage,omitempty"`
	Metadata           map[string]string `json:"metadata,omitempty"`
	MD5                []byte            `json:"md5,omitempty"`
}

func newStoredAttributes(contentType string, opts *driver.WriterOptions) storedAttributes {
	if contentType == defaultContentType {
		contentType = ""
	}
	return storedAttributes{
		ContentType:        contentType,
		CacheControl:       opts.CacheControl,
		ContentDisposition: opts.ContentDisposition,
		ContentEncoding:    opts.ContentEncoding,
		ContentLanguage:    opts.ContentLanguage,
		Metadata:           opts.Metadata,
		MD5:                opts.ContentMD5,
	}
}

// plain reports whether nothing needs to be stored. The MD5 alone does not count: blob.Bucket.WriteAll always gives one.
func (a *storedAttributes) plain() bool {
	return a.ContentType == "" && a.CacheControl == "" && a.ContentDisposition == "" && a.ContentEncoding == "" &&
		a.ContentLanguage == "" && len(a.Metadata) == 0
}

func (a *storedAttributes) contentType() string {
	if a.ContentType == "" {
		return defaultContentType
	}
	return a.ContentType
}

// encode returns what follows contentLen bytes of content.
func (a *storedAttributes) encode(contentLen int64) ([]byte, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("localblob: encode attributes: %w", err)
	}
	if len(text) > maxAttrLen {
		return nil, errAttributesTooLarge
	}
	end := contentLen + int64(len(text)) + attrFooterLen
	padding := (attrResidue - end%attrModulus + attrModulus) % attrModulus
	out := make([]byte, padding, padding+int64(len(text))+attrFooterLen)
	out = append(out, text...)
	start := len(out)
	out = binary.LittleEndian.AppendUint64(out, uint64(contentLen))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(text)))
	sum := crc32.Update(crc32.Checksum(text, castagnoli), castagnoli, out[start:])
	out = binary.LittleEndian.AppendUint32(out, sum)
	return append(out, attrMagic...), nil
}

// looksAttributed reports whether a file of this size may carry attributes.
func looksAttributed(size int64) bool {
	return size >= attrFooterLen && size%attrModulus == attrResidue
}

// readAttributes returns the length of the content of a file of the given size, and its attributes. It fails with
// ErrCorrupt if the file is marked as having attributes that do not check out.
func readAttributes(f io.ReaderAt, size int64) (int64, storedAttributes, error) {
	var none storedAttributes
	if !looksAttributed(size) {
		return size, none, nil
	}
	var footer [attrFooterLen]byte
	if err := readFullAt(f, footer[:], size-attrFooterLen); err != nil {
		return 0, none, err
	}
	if string(footer[16:]) != attrMagic {
		return size, none, nil
	}
	contentLen := binary.LittleEndian.Uint64(footer[:8])
	textLen := int64(binary.LittleEndian.Uint32(footer[8:12]))
	room := size - attrFooterLen - textLen
	// The padding is shorter than attrModulus, so the lengths are bounded from both sides before they are used.
	if textLen > maxAttrLen || room < 0 || contentLen > uint64(room) || room-int64(contentLen) >= attrModulus {
		return 0, none, fmt.Errorf("%w: lengths do not fit a file of %d bytes", ErrCorrupt, size)
	}
	text := make([]byte, textLen)
	if err := readFullAt(f, text, room); err != nil {
		return 0, none, err
	}
	sum := crc32.Update(crc32.Checksum(text, castagnoli), castagnoli, footer[:12])
	if sum != binary.LittleEndian.Uint32(footer[12:16]) {
		return 0, none, fmt.Errorf("%w: checksum mismatch", ErrCorrupt)
	}
	var a storedAttributes
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&a); err != nil {
		return 0, none, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return int64(contentLen), a, nil
}

func readFullAt(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		// Not io.EOF: callers take that for the end of the object.
		return io.ErrUnexpectedEOF
	}
	return err
}

// etag is weak: it follows from the file's identity, not from its bytes.
func etag(info os.FileInfo) string {
	return fmt.Sprintf(`W/"%x-%x-%x"`, info.ModTime().UnixNano(), info.Size(), inodeOf(info))
}
