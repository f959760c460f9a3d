package lock

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The queue is compared with a slice under any order of pushes, removals and
// clearings.
func TestQueueKeepsTheOrderOfArrival(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var model, gone []*waiter
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				w := &waiter{wake: make(chan struct{})}
				q.push(w)
				model = append(model, w)
			},
			"remove": func(t *rapid.T) {
				if len(model) == 0 {
					return
				}
				i := rapid.IntRange(0, len(model)-1).Draw(t, "i")
				if !q.remove(model[i]) {
					t.Fatal("not found")
				}
				gone = append(gone, model[i])
				model = slices.Delete(model, i, i+1)
			},
			"remove again": func(t *rapid.T) {
				for _, w := range gone {
					if q.remove(w) {
						t.Fatal("removed twice")
					}
				}
			},
			"take all": func(t *rapid.T) {
				first := q.takeAll()
				i := 0
				for w := first; w != nil; w = w.next {
					if i >= len(model) || w != model[i] {
						t.Fatalf("wrong waiter at %d", i)
					}
					i++
				}
				if i != len(model) {
					t.Fatalf("%d taken, want %d", i, len(model))
				}
				wakeAll(first)
				for _, w := range model {
					<-w.wake
				}
				gone, model = append(gone, model...), nil
			},
			"": func(t *rapid.T) {
				if q.len != len(model) {
					t.Fatalf("length %d, want %d", q.len, len(model))
				}
				w := q.head
				for i := range model {
					if w != model[i] {
						t.Fatalf("wrong waiter at %d", i)
					}
					w = w.next
				}
				if w != nil || (q.head == nil) != (q.tail == nil) {
					t.Fatal("the ends do not agree")
				}
			},
		})
	})
}
