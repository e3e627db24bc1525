package reconcile

import "time"

// Bounds of the wait between two tries of an order.
const (
	orderRetryMin = 50 * time.Millisecond
	orderRetryMax = 2 * time.Second
)

// order is one request to a worker: a start, a stop or a fence. It is repeated
// until the worker answers, and remembered until a report as new as the answer
// has come.
type order struct {
	reason    string
	acked     bool
	version   uint64 // of the report in which it shows, once acked
	inFlight  bool
	tries     int
	first     time.Time // try
	notBefore time.Time // next try
	err       error     // of the last try
}

// startTry reports whether a try is due, and counts it as in flight if so.
// Otherwise it returns when the next one will be due; zero means not before
// something else changes.
func (o *order) startTry(now time.Time) (due bool, next time.Time) {
	switch {
	case o.acked, o.inFlight:
		return false, time.Time{}
	case now.Before(o.notBefore):
		return false, o.notBefore
	case o.first.IsZero():
		o.first = now
	}
	o.inFlight = true
	o.tries++
	return true, time.Time{}
}

// confirm records the worker's answer. Reports of that version and later show
// what the order did.
func (o *order) confirm(version uint64) {
	o.inFlight, o.acked, o.version, o.err = false, true, version, nil
}

// retryLater records a try without an answer and puts the next one off, longer
// after each.
func (o *order) retryLater(err error, now time.Time, jitter func() float64) {
	wait := min(orderRetryMin<<min(o.tries, 10), orderRetryMax)
	o.inFlight, o.err, o.notBefore = false, err, now.Add(spread(wait, jitter))
}

// repeat sends an order again although it was answered.
func (o *order) repeat(at time.Time) { o.acked, o.notBefore = false, at }

// shownBy reports whether the order was answered and a report of this version
// shows what it did. A nil order is shown by none.
func (o *order) shownBy(version uint64) bool {
	return o != nil && o.acked && version >= o.version
}
