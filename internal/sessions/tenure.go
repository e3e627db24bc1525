package sessions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// tenure is the time during which this controller gives replicas to sessions.
type tenure struct {
	s     *Service
	order fleet.Order
	atEnd func(func()) (stop func() bool) // has a function called when the tenure ends

	mu       sync.Mutex
	openings map[key]*opening
	queues   map[fleet.ServerName][]*waiter // oldest first
	claims   map[fleet.ReplicaID]key        // spares that are being given away
}

// key names a session at a server.
type key struct {
	server  fleet.ServerName
	session fleet.SessionID
}

// opening is the opening of one session, which several controllers may wait for.
type opening struct {
	done   chan struct{} // closed when the rest is set
	opened fleet.SessionGiven
	err    error
}

// errTenure ends what waits when the tenure ends.
var errTenure = fmt.Errorf("open a session: leadership has ended: %w", fleet.ErrNotLeader)

// Lead gives replicas to sessions, and ends idle ones, until ctx, the leader's tenure,
// ends. Then it returns nil.
func (s *Service) Lead(ctx context.Context, order fleet.Order) error {
	t := &tenure{
		s: s, order: order, atEnd: func(f func()) (stop func() bool) { return context.AfterFunc(ctx, f) },
		openings: make(map[key]*opening), queues: make(map[fleet.ServerName][]*waiter), claims: make(map[fleet.ReplicaID]key),
	}
	s.tenure.Store(t)
	defer s.waiting.Post()
	defer s.tenure.Store(nil)
	observed, end := s.cfg.View.Subscribe()
	defer end()
	desired, end := s.cfg.Desired.Subscribe()
	defer end()
	ends := newEnds(s)
	for {
		now := time.Now()
		snap, servers := s.cfg.View.Snapshot(), s.servers()
		t.observe(snap, servers)
		t.match(snap, servers)
		wake := ends.look(now, snap, servers)
		timer := time.NewTimer(min(max(wake.Sub(now), 0), time.Second))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-observed:
		case <-desired:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// servers returns what is desired, by name.
func (s *Service) servers() map[fleet.ServerName]*fleet.Server {
	list := s.cfg.Desired.Servers()
	out := make(map[fleet.ServerName]*fleet.Server, len(list))
	for i := range list {
		out[list[i].Name] = &list[i]
	}
	return out
}

// give returns the replica of a session. All that ask for the same one at once get the
// same answer.
func (t *tenure) give(ctx context.Context, r fleet.SessionRequest) (fleet.SessionGiven, error) {
	k := key{r.Server, r.Session}
	for {
		t.mu.Lock()
		o := t.openings[k]
		first := o == nil
		if first {
			o = &opening{done: make(chan struct{})}
			t.openings[k] = o
		}
		t.mu.Unlock()
		if first {
			o.opened, o.err = t.open(ctx, r)
			t.mu.Lock()
			delete(t.openings, k)
			t.mu.Unlock()
			close(o.done)
			t.s.metrics.count(r.Server, o)
			return o.opened, o.err
		}
		select {
		case <-o.done:
			if o.err != nil && errors.Is(o.err, context.Canceled) {
				continue // the first has given up
			}
			return o.opened, o.err
		case <-ctx.Done():
			return fleet.SessionGiven{}, context.Cause(ctx)
		}
	}
}

// open returns the replica of a session, or gives it one.
func (t *tenure) open(ctx context.Context, r fleet.SessionRequest) (fleet.SessionGiven, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer t.atEnd(func() { cancel(errTenure) })()
	look, end := t.s.cfg.View.Subscribe()
	defer end()
	died := false // a replica has ended before it was the session's
	for {
		d := t.s.servers()[r.Server]
		switch {
		case d == nil:
			return fleet.SessionGiven{}, fmt.Errorf("%w %q", fleet.ErrUnknownServer, r.Server)
		case !d.Spec.PerSession():
			return fleet.SessionGiven{}, shared(r.Server)
		case t.s.cfg.Directory.Ended(r.Session):
			return fleet.SessionGiven{}, fmt.Errorf("server %q: the session was ended: %w", r.Server, fleet.ErrSessionLost)
		}
		snap := t.s.cfg.View.Snapshot()
		had := ownedBy(snap, key{r.Server, r.Session})
		var spare *fleet.Replica
		healed := false
		switch {
		case had != nil && snap.Nodes[had.Node].Worker != nil:
			spare = had
		case had != nil && time.Since(snap.Nodes[had.Node].Since) < reconnectTime:
			select { // its node is probably back in a moment
			case <-look:
			case <-time.After(reconnectTime):
			case <-ctx.Done():
				return fleet.SessionGiven{}, context.Cause(ctx)
			}
			continue
		default:
			if healed = t.s.cfg.Directory.opened(r.Session, r.Server); healed && d.Spec.OnLoss == fleet.OnLossNotFound {
				t.s.cfg.Directory.End(r.Session, r.Until)
				t.s.metrics.ended.WithLabelValues(string(r.Server), endedByLoss).Inc()
				return fleet.SessionGiven{}, fmt.Errorf("server %q, on_loss 404: %w", r.Server, fleet.ErrSessionLost)
			}
			var err error
			if spare, err = t.take(ctx, d, snap, r); err != nil {
				return fleet.SessionGiven{}, err
			}
		}
		opened, err := t.claim(ctx, d, r, spare)
		switch {
		case err == nil:
			opened.Healed, opened.Again = healed, had != nil
			t.recordOpened(r, spare, &opened)
			return opened, nil
		case ctx.Err() != nil:
			return fleet.SessionGiven{}, context.Cause(ctx)
		case had != nil, !died, !errors.Is(err, fleet.ErrReplicaLost):
			// It stops, or cannot be reached. Another one may do, as soon as that is reported.
			// One that has ended may have done so because of the client's initialize.
			died = died || errors.Is(err, fleet.ErrReplicaLost)
			t.s.log.Info("replica not given to a session", "server", r.Server, "replica", spare.ID, "err", err)
			select {
			case <-look:
			case <-time.After(askAgainMin):
			case <-ctx.Done():
				return fleet.SessionGiven{}, context.Cause(ctx)
			}
		default:
			return fleet.SessionGiven{}, fmt.Errorf("server %q: %w", r.Server, err)
		}
	}
}

// claim has a replica's worker give it to the session. A worker that does not answer is
// given up a while after the server should have.
func (t *tenure) claim(ctx context.Context, d *fleet.Server, r fleet.SessionRequest, to *fleet.Replica) (fleet.SessionGiven, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.Spec.StartTimeout, fleet.DefaultStartTimeout)+orderTimeout)
	defer cancel()
	worker := t.s.cfg.View.Snapshot().Nodes[to.Node].Worker
	if worker == nil {
		t.release(to.ID)
		return fleet.SessionGiven{}, fmt.Errorf("node %s: %w", to.Node, fleet.ErrNotDelivered)
	}
	answer, err := worker.OpenSession(ctx, t.order, fleet.SessionStart{
		Replica: to.ID, Session: r.Session, Initialize: r.Initialize, Restore: r.Restore, Once: r.Once,
	})
	if err != nil && !errors.Is(err, fleet.ErrReplicaLost) {
		t.release(to.ID) // unless a report says that it belongs to the session
	}
	return fleet.SessionGiven{Replica: to.ID, Node: to.Node, Result: answer.Result, Error: answer.Error}, err
}

func (t *tenure) recordOpened(r fleet.SessionRequest, to *fleet.Replica, o *fleet.SessionGiven) {
	if o.Error != nil {
		return
	}
	t.s.cfg.Directory.open(r.Session, r.Until, r.Server, r.Caller)
	if o.Healed {
		t.s.log.Info("session has a fresh replica", "server", r.Server, "replica", to.ID, "node", to.Node, "session", short(r.Session))
		t.s.cfg.Record(fleet.EventSessionHealed, r.Server, to.ID,
			fmt.Sprintf("session %s of server %s has lost its replica and goes on at %s on node %s", short(r.Session), r.Server, to.ID, to.Node))
	}
}

// ownedBy returns the replica of a session, the latest if there are several, or nil.
func ownedBy(snap *observe.Snapshot, k key) (latest *fleet.Replica) {
	for _, r := range snap.Sorted() {
		if r.Server != k.server || r.Session != k.session || r.Phase >= fleet.PhaseDraining || r.Unhealthy {
			continue
		}
		if latest == nil || r.SessionAt.After(latest.SessionAt) {
			latest = r
		}
	}
	return latest
}

// short is what logs and events show of a session.
func short(id fleet.SessionID) string { return string(id[:min(8, len(id))]) }
