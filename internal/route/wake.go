package route

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// wakeRetry is how soon a server whose calls still wait is woken again.
	wakeRetry = time.Second
	// wakeTimeout bounds one attempt.
	wakeTimeout = 2 * time.Second
)

// Await waits until a replica of the server takes calls. It holds no slot then. It
// waits like a call: it counts among those that wait, of which there is a bound,
// ends by the same deadline, and fails as soon as waiting is of no use.
func (r *Router) Await(ctx context.Context, name fleet.ServerName, timeout time.Duration, since time.Time) error {
	s := (*r.servers.Load())[name]
	if s == nil {
		return fmt.Errorf("%w %q", fleet.ErrUnknownServer, name)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := s.newDeadline(timeout, since, time.Now(), cancel)
	defer d.stop()
	w, err := s.enqueueAwaiting()
	if w == nil {
		return err
	}
	select {
	case <-w.ready:
		return w.err
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		if w.queued {
			s.awaiting.remove(w)
		}
		return s.cause(ctx, d, "while waiting for the server to start"+s.pending())
	}
}

// enqueueAwaiting returns nil if there is nothing to wait for.
func (s *server) enqueueAwaiting() (*waiter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.down(); err != nil || len(s.replicas) > 0 {
		return nil, err
	}
	if s.isFull() {
		return nil, s.overloaded()
	}
	w := &waiter{ready: make(chan struct{})}
	s.awaiting.pushBack(w)
	s.postIfWanted()
	return w, nil
}

// Run calls wake for every server that rests while calls wait for a replica of
// it: at once, and again every second. It ends with ctx and returns nil.
func (r *Router) Run(ctx context.Context, log *slog.Logger, wake func(context.Context, fleet.ServerName) error) error {
	again := time.NewTimer(wakeRetry)
	defer again.Stop()
	for {
		again.Stop()
		names := r.Wanted()
		for _, name := range names {
			bounded, cancel := context.WithTimeout(ctx, wakeTimeout)
			if err := wake(bounded, name); err != nil && ctx.Err() == nil {
				log.Warn("server not woken: it rests, and calls wait for it", "server", name, "err", err)
			}
			cancel()
		}
		if len(names) > 0 {
			again.Reset(wakeRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.look:
		case <-again.C:
		}
	}
}

// postWanted has Run look at Wanted. It never blocks.
func (r *Router) postWanted() {
	select {
	case r.look <- struct{}{}:
	default: // Run has yet to look
	}
}
