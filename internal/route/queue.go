package route

import "github.com/mcpfleet/mcpfleet/internal/fleet"

// waiter is a call without a slot. Its fields belong to the server's mutex
// until ready is closed; then attempt or err is set.
type waiter struct {
	prev, next *waiter
	queued     bool
	seq        uint64   // grows from call to call; 0: goes before all others
	avoid      *replica // that just refused it; nil for most
	tool       string
	session    fleet.SessionID
	old        bool     // see want
	suspect    *suspect // it needs a replica to itself; nil for most

	ready   chan struct{}
	attempt *attempt
	err     error
}

// queue holds waiters in order. Any of them can be removed.
type queue struct {
	first, last *waiter
	length      int
	changed     func() // called when length changes; must not block
}

func (q *queue) pushBack(w *waiter)  { q.insertAfter(w, q.last) }
func (q *queue) pushFront(w *waiter) { q.insertAfter(w, nil) }

// insertInOrder puts w behind the waiters with a lower seq.
func (q *queue) insertInOrder(w *waiter) {
	after := q.last
	for after != nil && after.seq > w.seq {
		after = after.prev
	}
	q.insertAfter(w, after)
}

// insertAfter puts w behind after, or at the front if after is nil.
func (q *queue) insertAfter(w, after *waiter) {
	w.prev, w.next, w.queued = after, q.first, true
	if after != nil {
		w.next = after.next
		after.next = w
	} else {
		q.first = w
	}
	if w.next != nil {
		w.next.prev = w
	} else {
		q.last = w
	}
	q.length++
	q.changed()
}

// before returns how many waiters are in front of w.
func (q *queue) before(w *waiter) (n int) {
	for o := q.first; o != nil && o != w; o = o.next {
		n++
	}
	return n
}

// end ends the wait of all.
func (q *queue) end(err error) {
	for w := q.first; w != nil; w = q.first {
		q.remove(w)
		w.err = err
		close(w.ready)
	}
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.length--
	q.changed()
}
