package trove

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// The objects of Options.Records:
//
//	backup/<id>.json      the record of a backup
//	restore/<id>.json     that of an instance that was made from one
//	strategies.json       all backup strategies
const (
	backupPrefix  = "backup/"
	restorePrefix = "restore/"
	strategiesKey = "strategies.json"
	recordSuffix  = ".json"

	// maxRecord bounds an object, in bytes.
	maxRecord = 8 << 20
)

// store keeps records. Without a bucket it keeps nothing.
type store struct{ bucket *blob.Bucket }

func (s store) put(ctx context.Context, key string, value any) error {
	if s.bucket == nil {
		return nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := s.bucket.WriteAll(ctx, key, append(data, '\n'), nil); err != nil {
		return fmt.Errorf("trove: keep %s: %w", key, err)
	}
	return nil
}

// remove deletes an object, if it is there.
func (s store) remove(ctx context.Context, key string) error {
	if s.bucket == nil {
		return nil
	}
	if err := s.bucket.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return fmt.Errorf("trove: remove %s: %w", key, err)
	}
	return nil
}

// read returns an object, nil if it is not there.
func (s store) read(ctx context.Context, key string) ([]byte, error) {
	if s.bucket == nil {
		return nil, nil
	}
	r, err := s.bucket.NewReader(ctx, key, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("trove: read %s: %w", key, err)
	}
	defer r.Close()
	if r.Size() > maxRecord {
		return nil, fmt.Errorf("trove: %s has %d bytes, more than the %d that a record may have", key, r.Size(), maxRecord)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("trove: read %s: %w", key, err)
	}
	return data, nil
}

// each calls a function with each object below a prefix.
func (s store) each(ctx context.Context, prefix string, visit func(id string, data []byte)) error {
	if s.bucket == nil {
		return nil
	}
	list := s.bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		o, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("trove: list the records: %w", err)
		}
		id, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, prefix), recordSuffix)
		if !ok {
			continue
		}
		data, err := s.read(ctx, o.Key)
		if err != nil {
			return err
		}
		visit(id, data)
	}
}
