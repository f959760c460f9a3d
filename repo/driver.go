package repo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"gocloud.dev/blob"
)

// A Driver opens locations of one type. Drivers of stores in the cloud are packages of the module
// github.com/holdstill/holdstill/repo/cloud, each to be imported for its effect; those of the types "local" and
// "memory" are always there.
type Driver struct {
	// Type is the type of the sections that this driver opens, as rclone calls it.
	Type string
	// Open opens the bucket. It must take every key it knows from Settings, and fail with the error of Settings.Err.
	// An error of the store may be left to the first request. Open must not write.
	Open func(context.Context, *Settings) (*blob.Bucket, error)
	// Classify tells what an error of this driver's buckets means, and ClassUnknown for any other. May be nil.
	Classify func(error) ErrorClass
	// Writes tells how to write to a bucket, if it is one of this driver's, whoever opened it. May be nil.
	Writes func(*blob.Bucket) WriteHints
}

// WriteHints say how the driver of a bucket wants objects written. The zero value goes for most.
type WriteHints struct {
	// Upload means to use blob.Bucket.Upload, where writing through a blob.Writer is not safe,
	// or takes longer.
	Upload bool
	// Prepare, if set, changes the options with which an object is written. If it returns a
	// function, the options carry the data themselves: then blob.Bucket.Upload gets an empty
	// reader, and the function is called when it has returned, after which the data may change.
	Prepare func(data []byte, opts *blob.WriterOptions) (done func())
}

// driverImports are the packages that have the drivers which this package has not.
var driverImports = map[string]string{
	"s3":                   "github.com/holdstill/holdstill/repo/cloud/s3",
	"azureblob":            "github.com/holdstill/holdstill/repo/cloud/azure",
	"google cloud storage": "github.com/holdstill/holdstill/repo/cloud/gcs",
}

// driverSet is what RegisterDriver fills, as database/sql does with its drivers: programs choose them by import.
type driverSet struct {
	mu   sync.RWMutex
	list []Driver // replaced, never changed
}

var drivers = &driverSet{list: []Driver{localDriver, memoryDriver}}

// RegisterDriver makes a driver known to [OpenLocation]. It is meant for the init function of a package that is
// imported for its effect, and panics if the driver has no type or no Open, or the type has a driver already.
func RegisterDriver(d Driver) {
	if d.Type == "" || d.Open == nil {
		panic("repo: RegisterDriver of a driver without Type or Open")
	}
	drivers.mu.Lock()
	defer drivers.mu.Unlock()
	if slices.ContainsFunc(drivers.list, func(other Driver) bool { return other.Type == d.Type }) {
		panic(fmt.Sprintf("repo: RegisterDriver called twice for type %q", d.Type))
	}
	drivers.list = append(slices.Clip(drivers.list), d)
}

// Drivers returns the types of locations that can be opened, sorted.
func Drivers() []string {
	var types []string
	for _, d := range drivers.all() {
		types = append(types, d.Type)
	}
	slices.Sort(types)
	return types
}

func (s *driverSet) all() []Driver {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.list
}

func (s *driverSet) writeHints(bucket *blob.Bucket) WriteHints {
	for _, d := range s.all() {
		if d.Writes == nil {
			continue
		}
		if h := d.Writes(bucket); h.Upload || h.Prepare != nil {
			return h
		}
	}
	return WriteHints{}
}

// OpenLocation opens the bucket of a location, with its path as the prefix of all keys. Close the bucket after use. The
// first part of the path of a location that is neither local nor in memory is the bucket's or container's name.
//
// The keys of the section are rclone's, and its values rclone's strings; each driver's package lists those it takes. A
// key that is not known is refused, so that a setting with a typing error is not lost silently.
//
// A location of type "local" must exist: Init makes repositories, but OpenLocation no folders; see
// [OpenLocationOptions]. One of type "memory" is a new bucket that is empty, and gone when it is closed.
//
// Errors: a [*LocationError], also for a type whose driver is not linked in; it names the package to import. Else the
// driver's or the file system's. No error, and nothing printed of one, holds a value of the section.
func OpenLocation(ctx context.Context, l Location, opts OpenLocationOptions) (*blob.Bucket, error) {
	settings := &Settings{location: l, create: opts.Create, options: l.Options(), unread: l.Options()}
	if l.IsZero() {
		return nil, settings.Refuse(RuleNotEmpty, "", "the location is the zero Location; make one with ParseLocation")
	}
	driver, err := settings.driver()
	if err != nil {
		return nil, err
	}
	if l.IsLocal() || l.Type() == memoryDriver.Type {
		return driver.Open(ctx, settings)
	}
	bucket, prefix, _ := strings.Cut(l.Path(), "/")
	if bucket == "" {
		return nil, settings.Refuse(RuleBucket, "", "name the bucket after the colon, as in %s:bucket/path", l.Section())
	}
	settings.bucket = bucket
	b, err := driver.Open(ctx, settings)
	if err != nil || prefix == "" {
		return b, err
	}
	return blob.PrefixedBucket(b, prefix+"/"), nil
}

// OpenLocationOptions are the settings of OpenLocation. The zero value works.
type OpenLocationOptions struct {
	// Create makes the folder of a local location if there is none. Buckets in the cloud are never made.
	Create bool
}

func (s *Settings) driver() (Driver, error) {
	kind := s.location.Type()
	for _, d := range drivers.all() {
		if d.Type == kind {
			return d, nil
		}
	}
	if path := driverImports[kind]; path != "" {
		return Driver{}, s.Refuse(RuleDriver, typeKey, "the driver for this type is not linked in; add import _ %q to the program", path)
	}
	known := append(slices.Collect(maps.Keys(driverImports)), Drivers()...)
	slices.Sort(known)
	return Driver{}, s.Refuse(RuleDriver, typeKey, "there is no driver for this type; there are %q, or open the bucket yourself with gocloud.dev/blob", slices.Compact(known))
}
