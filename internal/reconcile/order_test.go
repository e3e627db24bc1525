package reconcile

import (
	"errors"
	"testing"
	"time"
)

// An order is tried again after ever longer waits, until it is answered.
func TestOrderIsRepeatedUntilAnswered(t *testing.T) {
	var o order
	now := t0
	for _, want := range []time.Duration{100, 200, 400, 800, 1600, 2000, 2000} {
		if due, next := o.startTry(now); !due || !next.IsZero() {
			t.Fatalf("try %d is not due", o.tries+1)
		}
		if due, next := o.startTry(now); due || !next.IsZero() {
			t.Error("due a second time while it is in flight")
		}
		o.retryLater(errors.New("no answer"), now, noJitter)
		due, next := o.startTry(now)
		if got := next.Sub(now); due || got != want*time.Millisecond {
			t.Errorf("after try %d the next is due %v later, want %v", o.tries, got, want*time.Millisecond)
		}
		now = next
	}
	if !o.first.Equal(t0) || o.err == nil {
		t.Errorf("first try at %v with error %v, want %v and the last error", o.first, o.err, t0)
	}
	o.startTry(now)
	o.confirm(7)
	if due, next := o.startTry(now.Add(time.Hour)); due || !next.IsZero() || o.err != nil {
		t.Errorf("answered, it is due %v or at %v, with error %v", due, next, o.err)
	}
}

// An answer counts once a report as new has come. One that a report contradicts
// makes the order due again.
func TestOrderShownByReport(t *testing.T) {
	var none *order
	o := &order{version: 7}
	if none.shownBy(9) || o.shownBy(9) {
		t.Error("shown without an answer")
	}
	o.confirm(7)
	if o.shownBy(6) || !o.shownBy(7) || !o.shownBy(8) {
		t.Errorf("shown by 6, 7, 8: %v, %v, %v; want by 7 and 8", o.shownBy(6), o.shownBy(7), o.shownBy(8))
	}
	o.repeat(t0)
	if due, _ := o.startTry(t0); !due || o.shownBy(8) {
		t.Error("not due again")
	}
}
