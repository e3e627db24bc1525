package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// rolloutTimeout bounds one try to write that a rollout has ended.
	rolloutTimeout = 10 * time.Second
	rolloutRetry   = time.Second
	// rolloutAgain is the wait before an end is written again that desired state
	// does not show although it was written.
	rolloutAgain = 30 * time.Second
)

// rolling names one rollout.
type rolling struct {
	server     fleet.ServerName
	rev        fleet.Revision
	generation uint64
}

// rollouts makes the ends of rollouts durable. Only the loop's goroutine uses it.
type rollouts struct {
	write  func(context.Context, fleet.ServerName, fleet.Revision, uint64) error
	log    *slog.Logger
	ended  map[rolling]*order // to be written, or written
	writes sync.WaitGroup
	done   chan rolloutWritten
}

type rolloutWritten struct {
	rolling rolling
	err     error
}

func newRollouts(write func(context.Context, fleet.ServerName, fleet.Revision, uint64) error, log *slog.Logger) rollouts {
	return rollouts{write: write, log: log, ended: make(map[rolling]*order), done: make(chan rolloutWritten)}
}

// observe finds the rollouts that have ended.
func (r *rollouts) observe(servers []want) {
	current := make(map[rolling]bool)
	for i := range servers {
		w := &servers[i]
		if !rolledOut(w) {
			continue
		}
		k := rolling{w.name, w.desired.Revision, w.desired.Generation}
		current[k] = true
		if r.ended[k] == nil {
			r.ended[k] = new(order)
		}
	}
	for k, o := range r.ended {
		if !current[k] && !o.inFlight {
			delete(r.ended, k)
		}
	}
}

// rolledOut reports whether a rollout that desired state shows as going on has
// ended: all that is wanted serves, and nothing else does. An ordered stop is not
// enough, because the replica answers calls until a report shows that it stops.
func rolledOut(w *want) bool {
	d := w.desired
	if d == nil || !d.Rolling() && (d.Stable == 0 || d.Stable == d.Revision) {
		return false
	}
	serving := 0
	for _, u := range w.units {
		switch {
		case outdated(d, u):
			if u.mayServe() {
				return false
			}
		case u.serving():
			serving++
		}
	}
	return serving >= d.Target.Replicas
}

// dispatch makes the writes that are due, and returns when the next one is.
func (r *rollouts) dispatch(ctx context.Context, now time.Time) (wake time.Time) {
	for k, o := range r.ended {
		due, next := o.startTry(now)
		if !due {
			wake = earlier(wake, next)
			continue
		}
		r.writes.Go(func() {
			tctx, cancel := context.WithTimeout(ctx, rolloutTimeout)
			defer cancel()
			err := r.write(tctx, k.server, k.rev, k.generation)
			select {
			case r.done <- rolloutWritten{k, err}:
			case <-ctx.Done():
			}
		})
	}
	return wake
}

// written records how a write went.
func (r *rollouts) written(w rolloutWritten, now time.Time) {
	o := r.ended[w.rolling]
	if o == nil {
		return
	}
	o.inFlight, o.notBefore = false, now.Add(rolloutAgain)
	if w.err != nil {
		o.notBefore = now.Add(rolloutRetry)
		r.log.Warn("end of rollout not written, retrying", "server", w.rolling.server, "revision", w.rolling.rev, "err", w.err)
		return
	}
	r.log.Info("rolled out", "server", w.rolling.server, "revision", w.rolling.rev, "generation", w.rolling.generation)
}
