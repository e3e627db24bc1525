package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

const (
	// pace is how often the counts of calls are read, and pollReady how soon a new
	// replica that is READY is checked.
	pace      = time.Second
	pollReady = 200 * time.Millisecond
	// writeTimeout bounds one try to write to desired state.
	writeTimeout = 10 * time.Second
)

// Desired is desired state. Package store implements it.
type Desired interface {
	State() *desired.State
	Propose(ctx context.Context, c desired.Command) (desired.Result, error)
	Subscribe() (look <-chan struct{}, cancel func())
}

// Config is what a Loop needs.
type Config struct {
	Desired  Desired
	Observed interface{ Snapshot() *observe.Snapshot }
	// Record records an event about a server.
	Record   func(kind fleet.EventKind, server fleet.ServerName, rev fleet.Revision, message string)
	Registry prometheus.Registerer // nil: no metrics
	Log      *slog.Logger
}

// Loop watches over the rollouts of all servers.
type Loop struct {
	cfg     Config
	outcome *prometheus.CounterVec

	// Only Run uses the rest.
	trials  map[fleet.ServerName]*trial
	running sync.WaitGroup // checks and writes
	done    chan checkDone
	wrote   chan written
}

type checkDone struct {
	trial  *trial
	result result
}

// written is how the write of a decision went.
type written struct {
	trial    *trial
	decision decision
	err      error
}

// New returns a Loop that watches nothing yet.
func New(cfg Config) *Loop {
	return &Loop{cfg: cfg, outcome: newOutcomes(cfg.Registry)}
}

// Run watches until ctx, the leader's tenure, ends, and returns nil. It may be called
// again for another tenure.
func (l *Loop) Run(ctx context.Context) error {
	look, cancel := l.cfg.Desired.Subscribe()
	defer cancel()
	l.trials, l.done, l.wrote = make(map[fleet.ServerName]*trial), make(chan checkDone), make(chan written)
	defer l.running.Wait()
	for {
		var again <-chan time.Time
		if wait := l.pass(ctx, time.Now()); wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look:
		case <-again:
		case d := <-l.done:
			l.finish(ctx, d)
		case w := <-l.wrote:
			l.recordWrite(ctx, time.Now(), w)
		}
	}
}

// pass looks at every rollout of a new revision. It returns when to look again
// without any news, 0 for never.
func (l *Loop) pass(ctx context.Context, now time.Time) (wait time.Duration) {
	state := l.cfg.Desired.State()
	current := make(map[fleet.ServerName]*fleet.Server)
	for name, sv := range state.Servers {
		if sv.Rollout == nil {
			continue
		}
		if d := sv.Fleet(name); d.Tries() {
			current[name] = &d
		}
	}
	for name, t := range l.trials {
		if d := current[name]; d == nil || identify(d) != t.identity {
			l.conclude(t, state.Servers[name])
			delete(l.trials, name)
		}
	}
	if len(current) == 0 {
		return 0
	}
	snap := l.cfg.Observed.Snapshot()
	replicas := replicasOf(snap, current)
	wait = pace
	for name, d := range current {
		t := l.trials[name]
		if t == nil {
			t = &trial{identity: identify(d), stable: d.Stable}
			l.trials[name] = t
		}
		if !d.Rollout.Checked {
			wait = pollReady
		}
		l.act(ctx, t, t.next(now, d, state.Servers[name], snap, replicas[name]))
	}
	return wait
}

// replicasOf returns the replicas of the servers, with the last that have ended.
func replicasOf(snap *observe.Snapshot, servers map[fleet.ServerName]*fleet.Server) map[fleet.ServerName][]*fleet.Replica {
	out := make(map[fleet.ServerName][]*fleet.Replica, len(servers))
	for name := range servers {
		out[name] = append(out[name], snap.Ended[name]...)
	}
	for _, r := range snap.Replicas {
		if servers[r.Server] != nil {
			out[r.Server] = append(out[r.Server], r)
		}
	}
	return out
}

// act begins what was decided for a trial.
func (l *Loop) act(ctx context.Context, t *trial, d decision) {
	switch {
	case d.check != nil:
		checking, cancel := context.WithCancel(ctx)
		t.cancel = cancel
		l.running.Go(func() {
			defer cancel()
			r := d.check.run(checking)
			select {
			case l.done <- checkDone{t, r}:
			case <-ctx.Done():
			}
		})
	case d.write != nil:
		t.writing = true
		l.running.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, writeTimeout)
			defer cancel()
			res, err := l.cfg.Desired.Propose(bounded, d.write)
			if err == nil {
				err = res.Err
			}
			select {
			case l.wrote <- written{t, d, err}:
			case <-ctx.Done():
			}
		})
	}
}

// recordWrite takes in how a write went.
func (l *Loop) recordWrite(ctx context.Context, now time.Time, w written) {
	t, d := w.trial, w.decision
	t.writing = false
	if w.err != nil {
		t.notBefore = now.Add(retryAfter)
		if ctx.Err() == nil && !errors.Is(w.err, fleet.ErrNotLeader) { // else the tenure ends
			l.cfg.Log.Warn("rollout not advanced, retrying", "server", t.server, "revision", t.revision, "err", w.err)
		}
		return
	}
	t.notBefore = now.Add(pollReady) // a write that had no effect is not repeated at once
	l.cfg.Log.Info("rollout advanced", "server", t.server, "revision", t.revision, "wrote", d.write.Tag(), "reason", reasonOf(d))
	if d.said != "" {
		l.record(t, fleet.EventRolloutJudged, d.said)
	}
}

// reasonOf returns why something is written, as far as there is a reason.
func reasonOf(d decision) string {
	switch w := d.write.(type) {
	case desired.FailRollout:
		return w.Reason
	case desired.AdvanceRollout:
		if w.Held != "" {
			return w.Held
		}
	}
	return d.said
}

func (l *Loop) record(t *trial, kind fleet.EventKind, what string) {
	l.cfg.Record(kind, t.server, t.revision, fmt.Sprintf("server %s: revision %d: %s", t.server, t.revision, what))
}

// finish acts on the result of a check, unless the rollout is over by now.
func (l *Loop) finish(ctx context.Context, done checkDone) {
	t := done.trial
	sv := l.cfg.Desired.State().Servers[t.server]
	if l.trials[t.server] != t || sv == nil || sv.Rollout == nil {
		return
	}
	d := sv.Fleet(t.server)
	if err := done.result.again; err != nil {
		l.cfg.Log.Info("check not made, retrying", "server", t.server, "revision", t.revision, "err", err)
	}
	l.act(ctx, t, t.checked(time.Now(), &d, done.result))
}

// conclude counts and reports how a rollout has ended. sv is the server by now, nil if
// it was removed.
func (l *Loop) conclude(t *trial, sv *desired.Server) {
	if t.cancel != nil {
		t.cancel()
	}
	how := outcomeOf(t, sv)
	l.outcome.WithLabelValues(string(how)).Inc()
	if how != rolledOut {
		return
	}
	why := "it was never judged: both revisions have not served beside each other"
	if t.window != nil {
		verdict := t.verdict()
		if !verdict.Judged && t.judged {
			return // the events of the steps say what was found
		}
		if why = verdict.Why; verdict.Worse {
			why = "it serves worse, which was seen too late to roll it back: " + why
		}
	}
	l.record(t, fleet.EventRolloutJudged, "rolled out; "+why)
}
