package autoscale

import (
	"context"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Run scales servers until ctx, which is that of a tenure, ends. Then it ends its
// writes and returns nil. It may be called again, but not while it runs.
func (s *Scaler) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stateChanged, unsubscribe := s.cfg.Desired.Subscribe()
	defer unsubscribe()
	loadChanged, take, unsubscribeLoads := s.cfg.Loads.Subscribe()
	defer unsubscribeLoads()
	t := newTenure(s)
	defer s.metrics.clear()
	defer t.writes.Wait()
	defer cancel()
	for {
		began := time.Now()
		t.pass(ctx, began, take())
		// The first news is acted on at once. What follows soon is gathered, for longer
		// if there is so much of it that passes take long.
		pause := time.NewTimer(max(Batch, passShare*time.Since(began)))
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
		next := time.NewTimer(t.untilDue(time.Now()))
		select {
		case <-ctx.Done():
		case <-stateChanged:
		case <-loadChanged:
		case <-next.C:
		case w := <-t.written:
			t.recordWrite(w, time.Now())
		}
		next.Stop()
	}
}

// pass takes in what is new, and decides about the servers whose time has come.
func (t *tenure) pass(ctx context.Context, now time.Time, news fleet.LoadNews) {
	// A target that was written is in a state that is read afterwards.
	for len(t.written) > 0 {
		t.recordWrite(<-t.written, now)
	}
	t.observeLoads(now, news)
	t.observeState(now, t.cfg.Desired.State())
	for sv := t.due.pop(now); sv != nil; sv = t.due.pop(now) {
		t.decide(ctx, now, sv)
	}
}

// decide decides about one server, and begins to write the target if it changes.
func (t *tenure) decide(ctx context.Context, now time.Time, sv *server) {
	sv.input.LoadKnown = t.missing == ""
	d := Decide(now, sv.input, sv.history)
	sv.gauges.show(&sv.input, sv.history, now, d)
	next := d.Next
	switch {
	case d.Kind == "" || sv.writing: // a write that ends makes it due
	case now.Before(sv.notBefore):
		next = earlier(next, sv.notBefore)
	case t.inFlight == maxWrites:
		next = earlier(next, now.Add(Batch))
	default:
		t.write(ctx, sv, d)
	}
	t.due.set(sv, next)
}

// write begins to write a target.
func (t *tenure) write(ctx context.Context, sv *server, d Decision) {
	t.log.Info("scaling", "server", sv.name, "from", sv.input.Target, "to", d.Target, "kind", d.Kind, "reason", d.Reason)
	sv.writing = true
	t.inFlight++
	name, specWritten := sv.name, sv.desired.Written
	t.writes.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		t.written <- written{name, d.Kind, t.cfg.Write(ctx, name, d.Target, specWritten, d.Reason)}
	})
}

// recordWrite takes in how a write went.
func (t *tenure) recordWrite(w written, now time.Time) {
	t.inFlight--
	if w.err == nil {
		t.metrics.decisions.WithLabelValues(string(w.server), string(w.kind)).Inc()
	}
	sv := t.servers[w.server]
	if sv == nil {
		return
	}
	sv.writing = false
	if w.err != nil {
		sv.notBefore = now.Add(writeRetry)
		t.log.Warn("target not written, trying again", "server", w.server, "err", w.err)
	}
	t.due.set(sv, now)
}

// untilDue returns how long to wait for news.
func (t *tenure) untilDue(now time.Time) time.Duration {
	if next := t.due.next(); !next.IsZero() {
		return min(max(next.Sub(now), 0), backup)
	}
	return backup
}
