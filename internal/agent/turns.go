package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
)

// turns bounds how many replicas start at once. The others wait, and the one that was
// ordered first is next. A pull does not need a turn.
type turns struct {
	most int

	mu      sync.Mutex
	taken   int
	waiting []*turn // by nth
}

// turn is the turn of one replica. It is used once, except that it may be given back and
// taken again.
type turn struct {
	turns *turns
	nth   uint64        // of all orders
	given chan struct{} // has a value when the turn was given to a waiting replica
	taken bool          // under turns.mu
}

func (ts *turns) newTurn(nth uint64) *turn {
	return &turn{turns: ts, nth: nth, given: make(chan struct{}, 1)}
}

// take waits for the turn. If it has to wait, it calls waits once with the reason. If ctx
// ends first it returns the cause of that, and the turn was not taken.
func (t *turn) take(ctx context.Context, waits func(reason string)) error {
	if t.takeNow() {
		return nil
	}
	others := "one replica is starting"
	if n := t.turns.most; n > 1 {
		others = fmt.Sprintf("%d replicas are starting", n)
	}
	waits("waits for its turn: " + others)
	select {
	case <-t.given:
		return nil
	case <-ctx.Done():
		t.giveBack()
		return context.Cause(ctx)
	}
}

// takeNow takes the turn if there is one, and else begins to wait.
func (t *turn) takeNow() bool {
	ts := t.turns
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.taken < ts.most { // then nobody waits
		ts.taken++
		t.taken = true
		return true
	}
	i, _ := slices.BinarySearchFunc(ts.waiting, t, func(a, b *turn) int { return cmp.Compare(a.nth, b.nth) })
	ts.waiting = slices.Insert(ts.waiting, i, t)
	return false
}

// giveBack ends the turn, or the wait for it. It does nothing if there is neither.
func (t *turn) giveBack() {
	ts := t.turns
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if i := slices.Index(ts.waiting, t); i >= 0 {
		ts.waiting = slices.Delete(ts.waiting, i, i+1)
		return
	}
	if !t.taken {
		return
	}
	t.taken = false
	select {
	case <-t.given: // given while its replica gave up
	default:
	}
	if len(ts.waiting) == 0 {
		ts.taken--
		return
	}
	next := ts.waiting[0]
	ts.waiting = slices.Delete(ts.waiting, 0, 1)
	next.taken = true
	next.given <- struct{}{}
}
