package lock

import "time"

// A waiter is a transaction that is held at the gate, or a freeze behind
// another one. Its fields are guarded by Gate.mu; granted may also be read
// after wake was closed.
type waiter struct {
	wake    chan struct{} // closed when it may go on, or when the gate was closed
	granted bool          // it has been let in
	shard   *shard        // where a transaction is counted when it is let in,
	session *Session      // or the session that it belongs to
	since   time.Time

	queued     bool
	prev, next *waiter
}

// letIn makes the transaction one that is inside.
func (w *waiter) letIn() {
	w.granted = true
	if w.session != nil {
		w.session.enter()
	} else {
		w.shard.n.Add(1)
	}
}

// leave undoes letIn.
func (w *waiter) leave() {
	if w.session != nil {
		w.session.leave()
	} else {
		w.shard.leave()
	}
}

// A queue holds waiters in the order of their arrival.
type queue struct {
	head, tail *waiter
	len        int
}

func (q *queue) push(w *waiter) {
	w.queued, w.prev = true, q.tail
	if q.tail != nil {
		q.tail.next = w
	} else {
		q.head = w
	}
	q.tail = w
	q.len++
}

// remove takes w out and reports whether it was in the queue.
func (q *queue) remove(w *waiter) bool {
	if !w.queued {
		return false
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.tail = w.prev
	}
	w.queued, w.prev, w.next = false, nil, nil
	q.len--
	return true
}

// takeAll empties the queue and returns its first waiter, which leads to the
// others by next.
func (q *queue) takeAll() *waiter {
	first := q.head
	for w := first; w != nil; w = w.next {
		w.queued = false
	}
	*q = queue{}
	return first
}

// wakeAll wakes the waiters from first on, in their order. They must have been
// taken out of their queue.
func wakeAll(first *waiter) {
	for w := first; w != nil; {
		next := w.next
		close(w.wake)
		w = next
	}
}
