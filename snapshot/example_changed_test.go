package snapshot_test

import (
	"context"
	"fmt"
	"log"
	"strconv"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
)

// pageStore is a Source that notes which page each of its transactions wrote.
type pageStore struct {
	id      string // random for each start of the server
	pages   []byte
	written []int // by transaction
}

const storePage = 4096

func (s *pageStore) write(page int, row string) {
	copy(s.pages[page*storePage:], row)
	s.written = append(s.written, page)
}

func (s *pageStore) Pin(context.Context) (*snapshot.View, error) {
	now := len(s.written)
	return &snapshot.View{
		FS:       fstest.MapFS{"store.db": {Data: append([]byte(nil), s.pages...), Mode: 0o600}},
		Kind:     "pages",
		Epoch:    s.id,
		Position: strconv.Itoa(now),
		Hint: func(string) snapshot.Hint {
			return snapshot.Hint{Class: snapshot.Paged, PageSize: storePage}
		},
		Changed: func(_, since string) (ranges []snapshot.Range, ok bool) {
			from, err := strconv.Atoi(since)
			if err != nil || from > now {
				return nil, false
			}
			for _, page := range s.written[from:now] {
				ranges = append(ranges, snapshot.Range{Offset: int64(page) * storePage, Length: storePage})
			}
			return ranges, true
		},
	}, nil
}

func ExampleView_changed() {
	ctx := context.Background()
	store := &pageStore{id: "start 7", pages: make([]byte, 1024*storePage)}
	for page := range 1024 {
		store.write(page, fmt.Sprintf("row %d: pending", page))
	}
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Bucket:      bucket,
		Sources:     map[string]snapshot.Source{"store": store},
		VerifyShare: -1, // so that the figures below are the same each time
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	for range 2 {
		snap, err := engine.Create(ctx, snapshot.CreateOptions{})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("read %d of %d KiB\n", snap.Stats.BytesRead>>10, snap.Stats.Bytes>>10)
		store.write(500, "row 500: shipped")
	}
	// Output:
	// read 4096 of 4096 KiB
	// read 64 of 4096 KiB
}
