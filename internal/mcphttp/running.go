package mcphttp

import (
	"context"
	"encoding/hex"
	"slices"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// callKey names a running request of a session, as its client does.
type callKey struct {
	session [16]byte
	id      string // raw JSON
}

// running are the requests of legacy clients that run, so that their clients can cancel
// them. The zero value is ready, and all methods may be called at once.
type running struct {
	mu    sync.Mutex
	last  uint64
	calls map[[16]byte][]runningCall // by session, in the order in which they came
}

type runningCall struct {
	id     string
	cancel context.CancelCauseFunc
	number uint64
}

// add returns a context that ends when the request is cancelled, or by leave. done must be
// called when it has been answered. Of two requests with one id the later one can be
// cancelled.
func (r *running) add(ctx context.Context, key callKey) (_ context.Context, leave, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	leave = func() { cancel(nil) }
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == nil {
		r.calls = make(map[[16]byte][]runningCall)
	}
	r.last++
	call := runningCall{key.id, cancel, r.last}
	r.calls[key.session] = append(r.calls[key.session], call)
	return ctx, leave, func() {
		leave()
		r.remove(key.session, call.number)
	}
}

func (r *running) remove(session [16]byte, number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls[session]
	if len(calls) == 1 {
		delete(r.calls, session)
		return
	}
	r.calls[session] = slices.DeleteFunc(calls, func(c runningCall) bool { return c.number == number })
}

// cancel cancels a request. It reports whether that ran here.
func (r *running) cancel(key callKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range slices.Backward(r.calls[key.session]) {
		if c.id == key.id {
			c.cancel(errCancelled)
			return true
		}
	}
	return false
}

// endAll ends all requests and streams of a session, because that has ended.
func (r *running) endAll(session fleet.SessionID) {
	var uid [16]byte
	if n, err := hex.Decode(uid[:], []byte(session)); err != nil || n != len(uid) {
		return // it is not one of a client
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls[uid] {
		c.cancel(errSession)
	}
}
