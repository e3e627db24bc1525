package route

// waiter is a call without a slot. Its fields belong to the server's mutex
// until ready is closed; then attempt or err is set.
type waiter struct {
	prev, next *waiter
	queued     bool
	avoid      *replica // the replica that just refused it, nil for none

	ready   chan struct{}
	attempt *attempt
	err     error
}

// queue holds waiters in order; any of them can leave.
type queue struct {
	first, last *waiter
	length      int
}

func (q *queue) pushBack(w *waiter) {
	w.prev, w.next, w.queued = q.last, nil, true
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
	q.length++
}

func (q *queue) pushFront(w *waiter) {
	w.prev, w.next, w.queued = nil, q.first, true
	if q.first == nil {
		q.last = w
	} else {
		q.first.prev = w
	}
	q.first = w
	q.length++
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
}
