package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// rolloutTimeout bounds one try to write how a rollout has ended.
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

func rollingOf(d *fleet.Server) rolling { return rolling{d.Name, d.Revision, d.Generation} }

// RolloutEnd is how a rollout has ended.
type RolloutEnd struct {
	Server     fleet.ServerName
	Revision   fleet.Revision
	Generation uint64
	// Failed says why it is to be rolled back. "": all that is wanted serves.
	Failed string
}

// rollouts makes the ends of rollouts durable. Only the loop's goroutine uses it.
type rollouts struct {
	write    func(context.Context, RolloutEnd) error
	log      *slog.Logger
	progress map[rolling]*progress
	ended    map[rolling]*outcome
	writes   sync.WaitGroup
	done     chan rolloutWritten
}

// outcome is how a rollout has ended, to be written or written.
type outcome struct {
	order
	failed string
}

type rolloutWritten struct {
	rolling rolling
	err     error
}

func newRollouts(write func(context.Context, RolloutEnd) error, log *slog.Logger) rollouts {
	return rollouts{
		write: write, log: log, progress: make(map[rolling]*progress),
		ended: make(map[rolling]*outcome), done: make(chan rolloutWritten),
	}
}

// observe finds the rollouts that have ended. It returns when the next one may
// have, with time alone.
func (r *rollouts) observe(servers []want, plans []decision, now time.Time) (wake time.Time) {
	current := make(map[rolling]bool)
	for i := range servers {
		w := &servers[i]
		if w.desired == nil || !underWay(w.desired) {
			continue
		}
		k := rollingOf(w.desired)
		current[k] = true
		p := r.progress[k]
		if p == nil {
			p = &progress{}
			r.progress[k] = p
		}
		late, look := p.observe(w, now)
		wake = earlier(wake, look)
		switch {
		case r.ended[k] != nil:
		case rolledOut(w, now):
			r.ended[k] = &outcome{}
		case late:
			r.ended[k] = &outcome{failed: lateReason(w, &plans[i])}
		}
	}
	for k := range r.progress {
		if !current[k] {
			delete(r.progress, k)
		}
	}
	for k, o := range r.ended {
		if !current[k] && !o.inFlight {
			delete(r.ended, k)
		}
	}
	return wake
}

// underWay reports whether desired state shows a rollout as going on.
func underWay(d *fleet.Server) bool {
	return d.Rolling() || d.Stable != 0 && d.Stable != d.Revision
}

// rolledOut reports whether a rollout has ended: all that is wanted has served for
// min_ready, and nothing else does. An ordered stop is not enough, because the
// replica answers calls until a report shows that it stops. A rollout that is paused,
// held or on trial goes on, also if the server needs no replicas meanwhile.
func rolledOut(w *want, now time.Time) bool {
	d := w.desired
	if rolloutCondition(d) != "" {
		return false
	}
	if d.Spec.PerSession() {
		return sessionsRolledOut(w)
	}
	minReady, ready := d.Spec.UpdatePolicy().MinReady, 0
	for _, u := range w.units {
		switch {
		case outdated(d, u):
			if u.mayServe() {
				return false
			}
		default:
			if yes, _ := available(u, minReady, now); yes {
				ready++
			}
		}
	}
	if d.Rolling() && d.Rollout.From == 0 && d.Target.Idle() && w.back.everReady && !w.back.failing {
		return true // a first revision that has served, and went idle before min_ready
	}
	needed := d.Target.Replicas
	unproven := d.Rolling() && (d.StableTemplate != nil || d.Rollout.From == 0)
	if d.Rolling() && d.Target.Idle() || d.Target.Stopped() && unproven {
		needed = 1 // a revision that never ran has shown nothing
	}
	return ready >= needed
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
			err := r.write(tctx, RolloutEnd{k.server, k.rev, k.generation, o.failed})
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
	log := r.log.With("server", w.rolling.server, "revision", w.rolling.rev)
	switch {
	case w.err != nil:
		o.notBefore = now.Add(rolloutRetry)
		log.Warn("end of rollout not written, retrying", "err", w.err)
	case o.failed != "":
		log.Warn("rolled back", "reason", o.failed)
	default:
		log.Info("rolled out", "generation", w.rolling.generation)
	}
}
