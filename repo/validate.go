package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"gocloud.dev/blob"
)

// ErrUnfit means that a store lacks a property that repositories rely on.
var ErrUnfit = errors.New("repo: the store is not fit for repositories")

// A PropertyError says which property a store lacks. It matches ErrUnfit and unwraps to what was seen.
type PropertyError struct {
	// Property is the property's name, such as "create is exclusive".
	Property string
	Err      error
}

func (e *PropertyError) Error() string {
	return ErrUnfit.Error() + ": " + e.Property + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *PropertyError) Unwrap() error { return e.Err }

// Is reports whether target is ErrUnfit.
func (e *PropertyError) Is(target error) bool { return target == ErrUnfit }

// ValidateOptions are the settings of Validate. The zero value works.
type ValidateOptions struct {
	// Writers is how many race for the same key, 2 to 256. Default 8.
	Writers int
	// Rounds is how many keys they race for, 1 to 1000. Default 4.
	Rounds int
	// LargeSize is the size of the largest object, in bytes, 1 MiB to 512 MiB: what Options.PackSize will be.
	// Default 17 MiB, which many drivers send otherwise than small ones.
	LargeSize int64
	// Retry is as in Options.
	Retry Retry
	// Report, if set, hears of each property that was tried, with the error that Validate will return for it.
	Report func(property string, err error)
}

// Validate finds out whether a store has the properties that repositories rely on, before it is trusted: that
// conditional creates let one of many writers win, that objects can be read and listed at once after they were
// written, that ranges, deletion and large objects work, and the keys that are used. It writes below a prefix of its own,
// "validate-" and a random name, and deletes that. It takes about two hundred requests.
//
// The error joins a *PropertyError for each property that the store lacks; when the store itself fails, it is
// that error, such as ErrPermission or ErrUnavailable; for options out of range it matches ErrInvalid. That a
// store passes is no proof, above all of what it does in a crash.
func Validate(ctx context.Context, bucket *blob.Bucket, opts ValidateOptions) (err error) {
	if opts.Writers == 0 {
		opts.Writers = 8
	}
	if opts.Rounds == 0 {
		opts.Rounds = 4
	}
	if opts.LargeSize == 0 {
		opts.LargeSize = 17 << 20
	}
	if opts.Writers < 2 || opts.Writers > 256 || opts.Rounds < 1 || opts.Rounds > 1000 || opts.LargeSize < 1<<20 || opts.LargeSize > 512<<20 {
		return fmt.Errorf("%w: ValidateOptions with %d Writers, %d Rounds and LargeSize %d are out of range", ErrInvalid, opts.Writers, opts.Rounds, opts.LargeSize)
	}
	options, err := Options{Retry: opts.Retry, Logger: slog.New(slog.DiscardHandler)}.withDefaults()
	if err != nil {
		return err
	}
	v := &validation{store: newStore(bucket, options), opts: opts, prefix: "validate-" + newRepositoryID() + "/"}
	defer func() {
		if cleanErr := v.clean(ctx); cleanErr != nil && err == nil {
			err = fmt.Errorf("repo: delete what the validation has written below %s: %w", v.prefix, cleanErr)
		}
	}()
	var missing []error
	for _, p := range v.properties() {
		err := p.try(ctx)
		if err != nil && (ctx.Err() != nil || isStoreFailure(err)) {
			return err
		}
		if err != nil {
			err = &PropertyError{p.name, err}
			missing = append(missing, err)
		}
		if opts.Report != nil {
			opts.Report(p.name, err)
		}
	}
	return errors.Join(missing...)
}

// isStoreFailure tells what says nothing of a property.
func isStoreFailure(err error) bool {
	return slices.ContainsFunc([]error{ErrNoBucket, ErrAuthentication, ErrPermission, ErrNoSpace, ErrUnavailable},
		func(target error) bool { return errors.Is(err, target) })
}

type validation struct {
	store  store
	opts   ValidateOptions
	prefix string
}

type property struct {
	name string
	try  func(context.Context) error
}

func (v *validation) properties() []property {
	return []property{
		{"read after write", v.readAfterWrite},
		{"create is conditional", v.conditional},
		{"create is exclusive", v.exclusive},
		{"large objects", v.large},
		{"ranges", v.ranges},
		{"list after write and delete", v.listing},
		{"delete", v.deletion},
		{"characters of keys", v.keys},
	}
}

// noise returns bytes that no store can shrink.
func noise(n int64) []byte {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(data)
	return data
}

func (v *validation) want(ctx context.Context, key string, want []byte) error {
	got, err := v.store.readAll(ctx, key, int64(len(want))+1<<20)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s holds %d bytes that are not the %d written", key, len(got), len(want))
	}
	return nil
}

func (v *validation) wantMissing(ctx context.Context, key string) error {
	_, err := v.store.readAll(ctx, key, 1<<20)
	switch {
	case errors.Is(err, errKeyMissing):
		return nil
	case err != nil:
		return fmt.Errorf("reading a key that does not exist: %w", err)
	}
	return fmt.Errorf("%s can be read and should not exist", key)
}

func (v *validation) readAfterWrite(ctx context.Context) error {
	for _, size := range []int64{0, 1, 1000, 1 << 20} {
		key := fmt.Sprintf("%sread/%d", v.prefix, size)
		data := noise(size)
		if err := v.wantMissing(ctx, key); err != nil {
			return err
		}
		if err := v.store.create(ctx, key, data); err != nil {
			return err
		}
		if err := v.want(ctx, key, data); err != nil {
			return err
		}
	}
	return nil
}

func (v *validation) conditional(ctx context.Context) error {
	key, first := v.prefix+"conditional", []byte("the first")
	if err := v.store.create(ctx, key, first); err != nil {
		return err
	}
	err := v.store.create(ctx, key, []byte("the second"))
	if err == nil {
		return errors.New("an object was replaced though the create was conditional")
	}
	if !errors.Is(err, errKeyExists) {
		return fmt.Errorf("the second create did not fail as one that lost: %w", err)
	}
	return v.want(ctx, key, first)
}

func (v *validation) exclusive(ctx context.Context) error {
	for round := range v.opts.Rounds {
		key := fmt.Sprintf("%sexclusive/%d", v.prefix, round)
		data := make([][]byte, v.opts.Writers)
		errs := make([]error, v.opts.Writers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range data {
			data[i] = noise(200)
			wg.Go(func() {
				<-start
				errs[i] = v.store.create(ctx, key, data[i])
			})
		}
		close(start)
		wg.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				return fmt.Errorf("of %d writers at the same time, more than one won", v.opts.Writers)
			case err == nil:
				winner = i
			case !errors.Is(err, errKeyExists):
				return err
			}
		}
		if winner < 0 {
			return fmt.Errorf("of %d writers at the same time, none won", v.opts.Writers)
		}
		if err := v.want(ctx, key, data[winner]); err != nil {
			return fmt.Errorf("not the winner's: %w", err)
		}
	}
	return nil
}

func (v *validation) large(ctx context.Context) error {
	key, data := v.prefix+"large", noise(v.opts.LargeSize)
	if err := v.store.create(ctx, key, data); err != nil {
		return err
	}
	// Large objects may go another way than small ones, which must know the condition too.
	if err := v.store.create(ctx, key, data[1:]); !errors.Is(err, errKeyExists) {
		return fmt.Errorf("a second create of a large object gave %v", err)
	}
	got, err := v.store.readAll(ctx, key, v.opts.LargeSize)
	if err != nil {
		return err
	}
	if want, have := sha256.Sum256(data), sha256.Sum256(got); want != have {
		return fmt.Errorf("%d bytes with the digest %s were written, and %d with %s read", len(data), hex.EncodeToString(want[:4]), len(got), hex.EncodeToString(have[:4]))
	}
	return nil
}

func (v *validation) ranges(ctx context.Context) error {
	key, data := v.prefix+"ranges", noise(10_000)
	if err := v.store.create(ctx, key, data); err != nil {
		return err
	}
	for _, r := range [][2]int64{{0, 1}, {0, 10_000}, {1, 9_999}, {5_000, 100}, {9_999, 1}} {
		p := make([]byte, r[1])
		if err := v.store.readRange(ctx, key, p, r[0]); err != nil {
			return err
		}
		if !bytes.Equal(p, data[r[0]:r[0]+r[1]]) {
			return fmt.Errorf("%d bytes at %d are not those written", r[1], r[0])
		}
	}
	p := make([]byte, 1_000)
	n, err := v.store.readSome(ctx, key, p, 9_500, 1)
	if err != nil || !bytes.Equal(p[:n], data[9_500:]) {
		return fmt.Errorf("a range beyond the end gave %d bytes, error %v; want the 500 that there are", n, err)
	}
	if err := v.store.readRange(ctx, key, p, 10_000); !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("a range behind the end was not told from another failure: %w", err)
	}
	return nil
}

func (v *validation) listing(ctx context.Context) error {
	prefix := v.prefix + "list/"
	var want []string
	for i := range 12 {
		key := fmt.Sprintf("%s%02x/%d", prefix, i*20, i)
		if err := v.store.create(ctx, key, noise(int64(i))); err != nil {
			return err
		}
		want = append(want, key)
		if err := v.wantListed(ctx, prefix, want); err != nil {
			return err
		}
	}
	for len(want) > 6 {
		if err := v.store.remove(ctx, want[3]); err != nil {
			return err
		}
		want = slices.Delete(want, 3, 4)
		if err := v.wantListed(ctx, prefix, want); err != nil {
			return err
		}
	}
	return v.pages(ctx, prefix, want)
}

func (v *validation) wantListed(ctx context.Context, prefix string, want []string) error {
	var got []string
	err := v.store.list(ctx, prefix, func(o object) error {
		got = append(got, o.key)
		return nil
	})
	if err != nil {
		return err
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("the listing has %q, and there are, in the order of their bytes, %q", got, want)
	}
	return nil
}

// pages lists in small pages.
func (v *validation) pages(ctx context.Context, prefix string, want []string) error {
	var got []string
	token := blob.FirstPageToken
	for range 100 {
		page, next, err := v.store.bucket.ListPage(ctx, token, 2, &blob.ListOptions{Prefix: prefix})
		if err != nil {
			return objectError("list", prefix, err)
		}
		for _, o := range page {
			got = append(got, o.Key)
		}
		if token = next; len(next) == 0 {
			break
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("a listing in pages has %q, and there are %q", got, want)
	}
	return nil
}

func (v *validation) deletion(ctx context.Context) error {
	key := v.prefix + "delete"
	if err := v.store.remove(ctx, key); err != nil {
		return fmt.Errorf("deleting a key that does not exist: %w", err)
	}
	for round := range 3 {
		data := fmt.Appendf(nil, "round %d", round)
		if err := v.store.create(ctx, key, data); err != nil {
			return fmt.Errorf("creating a key that was deleted: %w", err)
		}
		if err := v.want(ctx, key, data); err != nil {
			return err
		}
		if err := v.store.remove(ctx, key); err != nil {
			return err
		}
		if err := v.wantMissing(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// keys tries every character that a key of this library may have: those of snapshot IDs are the widest.
func (v *validation) keys(ctx context.Context) error {
	var id strings.Builder
	for c := byte('!'); c < 0x7f; c++ {
		if CheckID("a"+string(c)+"a") == nil {
			id.WriteByte(c)
		}
	}
	for _, name := range []string{"k" + id.String(), "UPPER", "a.b", "a..b", strings.Repeat("n", 128)} {
		key := v.prefix + "keys/" + name
		if err := v.store.create(ctx, key, []byte(name)); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		if err := v.want(ctx, key, []byte(name)); err != nil {
			return err
		}
		found := false
		err := v.store.list(ctx, key, func(o object) error {
			found = found || o.key == key
			return nil
		})
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("key %q is not listed", key)
		}
	}
	return nil
}

// clean deletes what was written, also after ctx has ended.
func (v *validation) clean(ctx context.Context) error {
	ctx, cancel := outlive(ctx, abortGrace)
	defer cancel()
	var keys []string
	err := v.store.list(ctx, v.prefix, func(o object) error {
		keys = append(keys, o.key)
		return nil
	})
	for _, key := range keys {
		if err := v.store.remove(ctx, key); err != nil {
			return err
		}
	}
	return err
}
