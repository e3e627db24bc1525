package mcphttp

import (
	"context"
	"encoding/hex"
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
	calls map[[16]byte]map[string]context.CancelCauseFunc
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
		r.calls = make(map[[16]byte]map[string]context.CancelCauseFunc)
	}
	if r.calls[key.session] == nil {
		r.calls[key.session] = make(map[string]context.CancelCauseFunc, 1)
	}
	r.calls[key.session][key.id] = cancel
	return ctx, leave, func() {
		leave()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.calls[key.session], key.id)
		if len(r.calls[key.session]) == 0 {
			delete(r.calls, key.session)
		}
	}
}

// cancel cancels a request. It reports whether that ran here.
func (r *running) cancel(key callKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	cancel := r.calls[key.session][key.id]
	if cancel != nil {
		cancel(errCancelled)
	}
	return cancel != nil
}

// endAll ends all requests and streams of a session, because that has ended.
func (r *running) endAll(session fleet.SessionID) {
	var uid [16]byte
	if n, err := hex.Decode(uid[:], []byte(session)); err != nil || n != len(uid) {
		return // it is not one of a client
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cancel := range r.calls[uid] {
		cancel(errSession)
	}
}
