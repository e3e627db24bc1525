package route

import (
	"context"
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
