package observe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	redialMin = 50 * time.Millisecond
	redialMax = time.Second
	// quietTries is how many failed tries in a row, some 3 s, cause no warning.
	quietTries = 7
	// orphanTimeout is short, because the end of Run waits for it.
	orphanTimeout = time.Second
)

var (
	errSilent    = errors.New("no heartbeat")
	errOtherLife = errors.New("another life of the node answers")
	errNoCluster = errors.New("there is no cluster yet")
)

// follow keeps one life's watch open until ctx ends.
func (o *Observer) follow(ctx context.Context, l *life) {
	wait, tries := redialMin, 0
	for ctx.Err() == nil {
		heard, err := o.session(ctx, l)
		if tries++; heard {
			wait, tries = redialMin, 0
		}
		if ctx.Err() != nil {
			return
		}
		if tries == quietTries && refusal(err) == nil && !errors.Is(err, errNoCluster) && o.listed(l) {
			o.log.Warn("node is in the gossip ring but cannot be watched: no replica is placed there, and none there gets calls",
				"node", l.node, "life", l.id, "err", err)
		}
		o.lookAgain() // gossip may have called it dead already
		o.log.Debug("watch ended", "node", l.node, "life", l.id, "err", err, "redial", wait)
		pause := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		wait = min(2*wait, redialMax)
	}
}

// listed reports whether gossip lists the life.
func (o *Observer) listed(l *life) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return l.alive
}

// session makes one connection: it dials, watches until the stream breaks or falls
// silent, and fails the calls in flight on it. It reports whether any report came.
func (o *Observer) session(ctx context.Context, l *life) (heard bool, err error) {
	order, ok := o.cfg.Order()
	if !ok {
		return false, errNoCluster
	}
	o.mu.Lock()
	member := l.member
	o.mu.Unlock()
	w, err := o.cfg.Dial(member)
	if err != nil {
		return false, fmt.Errorf("dial node %s at %s: %w", member.Node, member.GRPC, err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			o.log.Debug("connection not closed", "node", member.Node, "err", err)
		}
	}()
	wctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	guarded := make(chan struct{})
	go func() {
		defer close(guarded)
		o.guard(wctx, l, cancel)
	}()
	o.mu.Lock()
	l.reports = 0
	o.mu.Unlock()

	err = w.Watch(wctx, order, func(r fleet.Report) {
		if wctx.Err() == nil && !o.apply(l, w, r) {
			cancel(errOtherLife)
		}
	})
	if cause := context.Cause(wctx); cause != nil && ctx.Err() == nil {
		err = cause
	}
	if err == nil {
		err = errors.New("stream ended")
	}
	cancel(nil)
	<-guarded
	heard = o.disconnect(l, err)
	w.Fail(fmt.Errorf("connection to node %s lost: %w", member.Node, err))
	o.stopOrphans(l, w, order)
	return heard, err
}

// stopOrphans stops the replicas of a worker whose node name another worker has taken
// over, because nobody would ever call them. If the order does not arrive, they stop
// when the worker ends, or when it counts again.
func (o *Observer) stopOrphans(l *life, w Worker, order fleet.Order) {
	o.mu.Lock()
	orphans := l.orphans
	l.orphans = nil
	o.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), orphanTimeout)
	defer cancel()
	for _, id := range orphans {
		if _, err := w.StopReplica(ctx, order, id, "another worker has the node's name"); err != nil {
			o.log.Warn("replica of a replaced worker not stopped", "node", l.node, "life", l.id, "replica", id, "err", err)
		}
	}
}

// guard cancels a watch that has been silent for too long.
func (o *Observer) guard(ctx context.Context, l *life, cancel context.CancelCauseFunc) {
	quiet, lost := l.heard.Wait(ctx, func() time.Duration {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !l.alive {
			return o.cfg.Silence / 2
		}
		return o.cfg.Silence
	})
	if lost {
		cancel(fmt.Errorf("%w for %v", errSilent, quiet.Round(time.Millisecond)))
	}
}

// disconnect takes the life out of rotation. It reports whether the connection has
// carried any report.
func (o *Observer) disconnect(l *life, err error) (heard bool) {
	o.mu.Lock()
	if n := o.nodes[l.node]; n != nil {
		o.touch(n)
		n.stopped = n.stopped || l.connected && l.draining
	}
	was, refused := l.connected, refusal(err)
	heard = l.reports > 0
	news := refused != nil && l.refused == nil
	if was {
		l.connected, l.since, l.worker = false, time.Now(), nil
	}
	l.refused = refused
	if was || news {
		o.changed()
	}
	replicas, draining := len(l.replicas), l.draining
	o.mu.Unlock()
	switch {
	case news:
		o.log.Error("node refuses this controller", "node", l.node, "err", err)
	case was && draining:
		o.log.Info("draining node disconnected", "node", l.node, "replicas", replicas)
	case was:
		o.log.Warn("node disconnected", "node", l.node, "replicas", replicas, "err", err)
	}
	if was || news {
		o.board.Post()
	}
	return heard
}
