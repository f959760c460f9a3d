package repo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/blake3"
)

// An attachment is an object of its own, all numbers little-endian:
//
//	"HOLDATTM" | version uint32 = 1 | reserved uint32 = 0 | digest [32]byte | data
//
// The digest is that of the object's key, a line feed, and the data: an object under
// another name is found out. The key is attachment/<snapshot>/<name>/<version>, with a
// version of 8 hexadecimal digits that count up and 24 random ones. The last in the order
// of the keys counts. A new one is created before the old ones are deleted, so
// that a reader finds the one or the other, and no key is ever used twice.

const (
	attachmentPrefix   = "attachment/"
	attachmentMagic    = "HOLDATTM"
	attachmentHeadSize = 48
	attachmentCount    = 8
	attachmentRandom   = 24
)

// MaxAttachmentSize is the most that one attachment can hold, in bytes. MaxAttachments is
// how many a snapshot can have.
const (
	MaxAttachmentSize = 64 << 20
	MaxAttachments    = 1000
)

// An Attachment is a named blob that was added to a snapshot.
type Attachment struct {
	// Name is its name within the snapshot; see CheckAttachmentName.
	Name string
	// Size is how much it holds, in bytes.
	Size int64
	// Modified is when it was stored, by the clock of the store, in UTC.
	Modified time.Time

	key string
}

// CheckAttachmentName reports whether a string can name an attachment: as CheckID does for
// snapshots, 1 to 240 of A-Z a-z 0-9 . - _, not beginning with a dot. Any other fails with
// ErrBadAttachmentName.
func CheckAttachmentName(name string) error {
	if err := CheckID(name); err != nil {
		_, reason, _ := strings.Cut(err.Error(), ErrBadID.Error())
		return fmt.Errorf("%w%s", ErrBadAttachmentName, reason)
	}
	return nil
}

func checkAttachment(id, name string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	return CheckAttachmentName(name)
}

// attachmentKey is the parsed key of an attachment.
type attachmentKey struct {
	snapshot, name string
	count          uint32
}

func parseAttachmentKey(key string) (a attachmentKey, ok bool) {
	rest, ok := strings.CutPrefix(key, attachmentPrefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || checkAttachment(parts[0], parts[1]) != nil {
		return a, false
	}
	version := parts[2]
	if raw, err := hex.DecodeString(version); err != nil || len(version) != attachmentCount+attachmentRandom || hex.EncodeToString(raw) != version {
		return a, false
	}
	count, err := strconv.ParseUint(version[:attachmentCount], 16, 32)
	return attachmentKey{parts[0], parts[1], uint32(count)}, err == nil
}

func newAttachmentKey(id, name string, count uint32) string {
	var random [attachmentRandom / 2]byte
	_, _ = rand.Read(random[:]) // documented never to fail
	return fmt.Sprintf("%s%s/%s/%08x%x", attachmentPrefix, id, name, count, random)
}

func sealAttachment(key string, data []byte) []byte {
	out := append(make([]byte, 0, attachmentHeadSize+len(data)), attachmentMagic...)
	out = binary.LittleEndian.AppendUint32(out, FormatVersion)
	out = binary.LittleEndian.AppendUint32(out, 0)
	digest := attachmentDigest(key, data)
	return append(append(out, digest[:]...), data...)
}

func openAttachment(key string, object []byte) ([]byte, error) {
	if len(object) < attachmentHeadSize || string(object[:8]) != attachmentMagic {
		return nil, corrupt(key, "it does not begin as an attachment")
	}
	if v := binary.LittleEndian.Uint32(object[8:]); v != FormatVersion {
		return nil, &FormatError{Object: key, Version: int(v)}
	}
	data := object[attachmentHeadSize:]
	if digest := attachmentDigest(key, data); binary.LittleEndian.Uint32(object[12:]) != 0 || !bytes.Equal(digest[:], object[16:attachmentHeadSize]) {
		return nil, corrupt(key, "its checksum does not match")
	}
	return data, nil
}

func attachmentDigest(key string, data []byte) (sum [32]byte) {
	h := blake3.New()
	_, _ = h.WriteString(key + "\n")
	_, _ = h.Write(data)
	h.Sum(sum[:0])
	return sum
}

// Attachments lists the attachments of a snapshot in the byte order of their names. It does
// not ask whether there is such a snapshot; one that is not there has none. It stops
// after the first error.
func (r *Repository) Attachments(ctx context.Context, id string) iter.Seq2[Attachment, error] {
	return func(yield func(Attachment, error) bool) {
		all, err := r.listAttachments(ctx, id, "")
		if err != nil {
			yield(Attachment{}, err)
			return
		}
		// Keys sort "a.b/" before "a/".
		slices.SortStableFunc(all, func(a, b Attachment) int { return strings.Compare(a.Name, b.Name) })
		for i, a := range all {
			if i+1 < len(all) && all[i+1].Name == a.Name {
				continue // an older version
			}
			if !yield(a, nil) {
				return
			}
		}
	}
}

// listAttachments returns all versions of all attachments of a snapshot, or of one of them, in the order
// of the keys: the last of a name is the one that counts.
func (r *Repository) listAttachments(ctx context.Context, id, name string) ([]Attachment, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	if err := CheckID(id); err != nil {
		return nil, err
	}
	prefix := attachmentPrefix + id + "/"
	if name != "" {
		if err := CheckAttachmentName(name); err != nil {
			return nil, err
		}
		prefix += name + "/"
	}
	var out []Attachment
	err := r.store.list(ctx, prefix, func(o object) error {
		if key, ok := parseAttachmentKey(o.key); ok {
			size := max(0, o.size-attachmentHeadSize-r.store.keys.objectRoom(o.key))
			out = append(out, Attachment{Name: key.name, Size: size, Modified: o.modified.UTC(), key: o.key})
		}
		return nil
	})
	return out, err
}

// maxAttachmentReads is how often a reader looks again for an attachment that is replaced
// all the time.
const maxAttachmentReads = 10

// ReadAttachment returns the content of an attachment, which was checked. It fails with
// ErrNoAttachment, ErrBadID or ErrBadAttachmentName, with an error that matches ErrCorrupt or
// ErrFormat, or with an error of the bucket. Like Attachments it does not ask
// for the snapshot.
func (r *Repository) ReadAttachment(ctx context.Context, id, name string) ([]byte, error) {
	if err := checkAttachment(id, name); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		versions, err := r.listAttachments(ctx, id, name)
		if err != nil {
			return nil, err
		}
		if len(versions) == 0 {
			return nil, fmt.Errorf("%w: %s has none called %s", ErrNoAttachment, id, name)
		}
		data, err := r.readAttachment(ctx, versions[len(versions)-1].key)
		if !errors.Is(err, errKeyMissing) || attempt == maxAttachmentReads {
			return data, err
		}
	}
}

func (r *Repository) readAttachment(ctx context.Context, key string) ([]byte, error) {
	object, err := r.store.readAll(ctx, key, attachmentHeadSize+MaxAttachmentSize)
	if err != nil {
		return nil, err
	}
	return openAttachment(key, object)
}

// PutAttachment adds an attachment to a snapshot, or replaces the one of the same name: a
// reader finds the old one or the new one. It is durable when PutAttachment returns nil. For a snapshot that
// is not made yet see Session.PutAttachment.
//
// It fails with ErrNotFound if there is no such snapshot or it is deleted meanwhile, with
// ErrBadID or ErrBadAttachmentName, with ErrAttachmentSize for more than MaxAttachmentSize
// bytes or MaxAttachments names, or with an error of the bucket, which leaves open
// whether the attachment was stored.
func (r *Repository) PutAttachment(ctx context.Context, id, name string, data []byte) error {
	if err := checkAttachment(id, name); err != nil {
		return err
	}
	if _, err := r.Manifest(ctx, id); err != nil {
		return err
	}
	key, err := r.putAttachment(ctx, id, name, data, func(string) bool { return true })
	if err != nil {
		return err
	}
	// A deletion may have listed the attachments before this one was there.
	if _, err := r.Manifest(ctx, id); errors.Is(err, ErrNotFound) {
		return errors.Join(err, r.store.remove(ctx, key))
	}
	return nil
}

// putAttachment stores a new version and deletes those of the older ones that it replaces.
func (r *Repository) putAttachment(ctx context.Context, id, name string, data []byte, replaces func(key string) bool) (key string, err error) {
	if len(data) > MaxAttachmentSize {
		return "", fmt.Errorf("%w: %s has %d bytes, more than the %d allowed", ErrAttachmentSize, name, len(data), MaxAttachmentSize)
	}
	all, err := r.listAttachments(ctx, id, "")
	if err != nil {
		return "", err
	}
	names := map[string]bool{name: true}
	var older []Attachment
	count := uint32(0)
	for _, a := range all {
		names[a.Name] = true
		if a.Name == name {
			parsed, _ := parseAttachmentKey(a.key)
			count = max(count, parsed.count)
			if replaces(a.key) {
				older = append(older, a)
			}
		}
	}
	if len(names) > MaxAttachments {
		return "", fmt.Errorf("%w: snapshot %s has %d already, as many as it can have", ErrAttachmentSize, id, len(names)-1)
	}
	if count == 1<<32-1 {
		return "", fmt.Errorf("%w: attachment %s of snapshot %s cannot be replaced any more: delete it first", ErrInvalid, name, id)
	}
	key = newAttachmentKey(id, name, count+1)
	if err := r.store.create(ctx, key, sealAttachment(key, data)); err != nil {
		return key, err
	}
	for _, a := range older {
		if err := r.store.remove(ctx, a.key); err != nil {
			r.opts.Logger.Warn("an attachment that was replaced stays until the next collection", "object", a.key, "error", err)
			break
		}
	}
	return key, nil
}

// DeleteAttachment removes an attachment. It fails with ErrNoAttachment, ErrBadID or
// ErrBadAttachmentName, or with an error of the bucket.
func (r *Repository) DeleteAttachment(ctx context.Context, id, name string) error {
	if err := checkAttachment(id, name); err != nil {
		return err
	}
	versions, err := r.listAttachments(ctx, id, name)
	if err != nil {
		return err
	}
	if len(versions) == 0 {
		return fmt.Errorf("%w: %s has none called %s", ErrNoAttachment, id, name)
	}
	return r.removeAttachments(ctx, versions)
}

// removeAttachments removes versions, the newest of a name last: an older one must
// not come to light.
func (r *Repository) removeAttachments(ctx context.Context, all []Attachment) error {
	for _, a := range all {
		if err := r.store.remove(ctx, a.key); err != nil {
			return err
		}
	}
	return nil
}

// dropAttachments removes the attachments that a snapshot had when it was deleted. What stays
// after a failure is the next collection's.
func (r *Repository) dropAttachments(ctx context.Context, id string, had []Attachment) {
	if err := r.removeAttachments(ctx, had); err != nil {
		r.opts.Logger.Warn("attachments of a deleted snapshot stay until the next collection", "snapshot", id, "error", err)
	}
}
