package repo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"gocloud.dev/blob"
	"golang.org/x/time/rate"

	"github.com/holdstill/holdstill/chunk"
)

// Options are the settings of an open Repository. The zero value works.
type Options struct {
	// PackSize is how large packs grow, in bytes, from 1 MiB to 512 MiB. Every
	// Writer of a Session and every upload under way holds one in memory. Default
	// 8 MiB.
	PackSize int
	// Uploads is how many packs a Session stores at the same time, 1 to 64.
	// Default 2.
	Uploads int
	// Policy says how hard chunks are compressed. Default chunk.Balanced.
	Policy chunk.Policy
	// NoDeltas stores every chunk in full, never as the difference to another. New
	// snapshots take more space, and making them reads nothing of older ones; restoring
	// them reads no bases. Chunks that are differences already stay so.
	NoDeltas bool
	// Logger hears of upkeep that failed and will be tried again. Default: nothing
	// is logged.
	Logger *slog.Logger
	// Retry says how requests to the store are tried again that failed for now.
	Retry Retry
	// ReadLimiter and WriteLimiter, if set, bound the bytes of objects that are read
	// and written per second. One limiter may serve for both, and for several
	// repositories. An object, or a range of one, is let through as a whole when its
	// turn has come. A burst below 1 is an error.
	ReadLimiter, WriteLimiter *rate.Limiter
	// CacheDir is a folder for what can be made anew from the bucket: the index, in
	// files that are mapped into memory. With it an index takes next to no memory of the
	// process, and is not fetched again at the next Open. Repositories and processes
	// may share a folder; it is made if it is not there. Everything in it may be deleted at any
	// time. Damage to it, a full disk or a folder that cannot be written to costs memory
	// and time, and no snapshot.
	//
	// Of an encrypted repository it holds keyed hashes and places in packs, no keys and no
	// data. Its files can be read by their owner only. Whoever can write to it must be trusted
	// like the process itself.
	//
	// Empty, the default: the index is held in memory, some 50 bytes a chunk. On
	// systems other than Unix files are read instead of mapped, which saves fetching
	// them but no memory.
	CacheDir string
	// CacheSize bounds the decoded chunks that are kept for reading, in bytes.
	// Default 16 MiB.
	CacheSize int64
	// Key opens an encrypted repository. With it, Open refuses a repository that is not
	// encrypted, since somebody could have put it in the other's place. Default: none.
	Key KeySource
}

// DefaultPackSize is the size packs grow to where Options do not say.
const DefaultPackSize = 8 << 20

func (o Options) withDefaults() (Options, error) {
	if o.PackSize == 0 {
		o.PackSize = DefaultPackSize
	}
	if o.Uploads == 0 {
		o.Uploads = 2
	}
	if o.CacheSize == 0 {
		o.CacheSize = 16 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.PackSize < 1<<20 || o.PackSize > 512<<20:
		return o, fmt.Errorf("%w: Options.PackSize %d is not between 1 MiB and 512 MiB", ErrInvalid, o.PackSize)
	case o.Uploads < 1 || o.Uploads > 64:
		return o, fmt.Errorf("%w: Options.Uploads %d is not between 1 and 64", ErrInvalid, o.Uploads)
	case o.CacheSize < 0:
		return o, fmt.Errorf("%w: Options.CacheSize %d is negative", ErrInvalid, o.CacheSize)
	}
	for _, limiter := range []*rate.Limiter{o.ReadLimiter, o.WriteLimiter} {
		if limiter != nil && limiter.Limit() != rate.Inf && (limiter.Burst() < 1 || limiter.Limit() <= 0) {
			return o, fmt.Errorf("%w: a limiter of %v bytes/s with a burst of %d lets nothing pass", ErrInvalid, limiter.Limit(), limiter.Burst())
		}
	}
	var err error
	o.Retry, err = o.Retry.withDefaults()
	return o, err
}

// config is the document of holdstill.json: what all writers of a repository must
// agree on.
type config struct {
	// ID is random and never changes, so that a cache or a job can tell one
	// repository from another at the same place.
	ID string `json:"id"`
	// Requires lists features that a reader must know.
	Requires []string `json:"requires"`
	// Hash names the identity of chunks.
	Hash string `json:"hash"`
	// Cut holds the sizes for content-defined cutting in bytes. Writers that cut
	// alike find each other's chunks.
	Cut cutConfig `json:"cut"`
	// Encryption is nil where the repository is not encrypted.
	Encryption *encryptionConfig `json:"encryption,omitempty"`
}

type cutConfig struct {
	Min int `json:"min"`
	Avg int `json:"avg"`
	Max int `json:"max"`
}

const hashBLAKE3 = "blake3-256"

// featureLeases is required of every writer where a collection may run: to hold a lease.
const featureLeases = "leases"

// maxConfigSize bounds holdstill.json in bytes.
const maxConfigSize = 1 << 20

// Repository is an open repository. It is safe for concurrent use, and any number
// of processes may have the same repository open.
type Repository struct {
	store  store
	opts   Options
	config config
	gear   *chunk.Gear

	// indexes is replaced as a whole; nil until it is first needed.
	indexes atomic.Pointer[indexSet]
	// indexToken is held by whoever replaces indexes. It is a lock that can be
	// waited for under a context: its holder talks to the bucket.
	indexToken chan struct{}
	// indexCache is nil without Options.CacheDir.
	indexCache *indexCache

	cache   *chunkCache
	readers sync.Pool // of *reader

	plans planCache
	// ended are the last sessions of this Repository that ended by themselves.
	ended endedSessions

	// clock and collectFault are set by tests.
	clock        clock
	collectFault collectFault
	// fetchBuffers holds what stretches of packs are read into.
	fetchBuffers sync.Pool // of *[]byte

	closed atomic.Bool
}

// InitOptions are what a new repository is made with. The zero value works.
type InitOptions struct {
	// Cut sets the sizes for content-defined cutting, in bytes. The zero value
	// takes the defaults of package chunk. They are fixed for the life of the
	// repository.
	Cut chunk.GearParams
	// Retry is as in Options.
	Retry Retry
	// Encryption, if set, makes the repository an encrypted one. That cannot be changed
	// later; keys can, see Repository.AddKey.
	Encryption *Encryption
}

// Init makes a new repository in an empty bucket, or in an empty part of one (see
// blob.PrefixedBucket). It fails with ErrRepositoryExists if there is one already,
// also when two processes try at once: one of them wins. It does not open it. With
// ErrMissing it fails where there are encrypted snapshots whose configuration is lost.
//
// To encrypt, see InitOptions.Encryption. Settings out of range fail with ErrInvalid or a
// *chunk.ParamError, a key source with its own error.
func Init(ctx context.Context, bucket *blob.Bucket, opts InitOptions) error {
	if e := opts.Encryption; e != nil && e.SameIdentityAs != nil && opts.Cut == (chunk.GearParams{}) {
		opts.Cut = e.SameIdentityAs.gear.Params()
	}
	gear, err := chunk.NewGear(opts.Cut, nil)
	if err != nil {
		return err
	}
	params := gear.Params()
	c := config{
		ID:       newRepositoryID(),
		Requires: []string{featureLeases},
		Hash:     hashBLAKE3,
		Cut:      cutConfig{params.Min, params.Avg, params.Max},
	}
	options, err := Options{Retry: opts.Retry}.withDefaults()
	if err != nil {
		return err
	}
	s := newStore(bucket, options)
	if err := s.orphans(ctx); err != nil {
		return err
	}
	return s.createConfig(ctx, c, opts.Encryption)
}

func newRepositoryID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Open opens the repository in a bucket. It reads one small object, and those of the keys if
// the repository is encrypted; it makes sure of the bucket where there is none. The bucket
// must stay open as long as the Repository; Close does not close it.
//
// Open fails with ErrInvalid for options out of range, with ErrNotRepository if the bucket
// holds none, with a *FormatError if this library is too old for it, with ErrKey if
// Options.Key is missing, wrong, or given in vain, with a *CorruptError if its configuration
// is damaged or was changed, and else with the store's error: ErrNoBucket,
// ErrAuthentication, ErrPermission, ErrUnavailable.
func Open(ctx context.Context, bucket *blob.Bucket, opts Options) (*Repository, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	r := newRepository(newStore(bucket, opts), opts)
	data, err := r.store.readAll(ctx, configKey, maxConfigSize)
	if errors.Is(err, errKeyMissing) {
		return nil, r.store.absent(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	if err := unseal(configKey, data, &r.config); err != nil {
		return nil, err
	}
	if err := r.config.check(); err != nil {
		return nil, err
	}
	if r.store.keys, err = r.store.unlock(ctx, &r.config, data, opts.Key); err != nil {
		return nil, err
	}
	if opts.CacheDir != "" {
		r.indexCache = newIndexCache(opts.CacheDir, r.config.ID, opts.Logger)
	}
	cut := r.config.Cut
	r.gear, err = chunk.NewGear(chunk.GearParams{Min: cut.Min, Avg: cut.Avg, Max: cut.Max}, r.store.keys.gear())
	if err != nil {
		return nil, corrupt(configKey, "its sizes for cutting cannot be used: %v", err)
	}
	return r, nil
}

// check says whether this library knows all that the repository requires.
func (c *config) check() error {
	encrypted := false
	for _, feature := range c.Requires {
		switch feature {
		case featureLeases:
		case featureEncryption:
			encrypted = true
		default:
			return &FormatError{Object: configKey, Version: FormatVersion, Requires: feature}
		}
	}
	if c.Hash != hashBLAKE3 && (!encrypted || c.Hash != hashKeyed) {
		return &FormatError{Object: configKey, Version: FormatVersion, Requires: "hash " + c.Hash}
	}
	if encrypted != (c.Encryption != nil) {
		return corrupt(configKey, "it does not agree with itself on whether the repository is encrypted")
	}
	return nil
}

func newRepository(s store, opts Options) *Repository {
	return &Repository{store: s, opts: opts, indexToken: make(chan struct{}, 1), cache: newChunkCache(opts.CacheSize)}
}

// ID returns the repository's own identity: 32 lower-case hexadecimal digits,
// random, set at Init.
func (r *Repository) ID() string { return r.config.ID }

// Gear returns the content-defined cutter that all writers of this repository
// share.
func (r *Repository) Gear() *chunk.Gear { return r.gear }

// Traffic returns what has gone to and from the store since Open.
func (r *Repository) Traffic() Traffic { return r.store.traffic.read() }

// Close makes every later call fail with ErrClosed. It does not wait for calls
// under way, nor for open Sessions, which must be ended by themselves.
func (r *Repository) Close() error {
	if r.closed.Swap(true) {
		return ErrClosed
	}
	r.cache.clear()
	return nil
}

func (r *Repository) use() error {
	if r.closed.Load() {
		return ErrClosed
	}
	return nil
}
