package sessions

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// waiter is a session that waits for a spare.
type waiter struct {
	key   key
	given chan *fleet.Replica // of capacity 1; closed without a value when err is set
	err   error
}

// take returns a spare for the session. It waits for one, within the bounds of the server.
func (t *tenure) take(ctx context.Context, d *fleet.Server, snap *observe.Snapshot, r fleet.SessionRequest) (*fleet.Replica, error) {
	if why := t.s.cfg.Hopeless(d.Name); why != "" {
		return nil, fmt.Errorf("server %q: %w: %s", d.Name, fleet.ErrNoReplica, why)
	}
	w := &waiter{key: key{r.Server, r.Session}, given: make(chan *fleet.Replica, 1)}
	t.mu.Lock()
	if err := t.refuse(d, snap, r); err != nil {
		t.mu.Unlock()
		return nil, err
	}
	t.queues[d.Name] = append(t.queues[d.Name], w)
	t.mu.Unlock()
	t.match(t.s.cfg.View.Snapshot(), map[fleet.ServerName]*fleet.Server{d.Name: d})
	t.s.waiting.Post()
	defer t.s.waiting.Post()
	select {
	case spare := <-w.given:
		if spare == nil {
			return nil, w.err
		}
		return spare, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	t.dequeue(w)
	t.mu.Unlock()
	select {
	case spare := <-w.given: // at the same moment
		if spare != nil {
			t.release(spare.ID)
		}
	default:
	}
	return nil, context.Cause(ctx)
}

// refuse returns why a session gets no replica now, nil if it may wait for one. It needs
// t.mu held.
func (t *tenure) refuse(d *fleet.Server, snap *observe.Snapshot, r fleet.SessionRequest) error {
	open := make(map[fleet.SessionID]bool)
	for _, rep := range snap.Replicas {
		if rep.Server == d.Name && rep.Session != "" && rep.Phase < fleet.PhaseDraining {
			open[rep.Session] = true
		}
	}
	for _, k := range t.claims {
		if k.server == d.Name {
			open[k.session] = true
		}
	}
	for _, w := range t.queues[d.Name] {
		open[w.key.session] = true
	}
	delete(open, r.Session)
	if len(open) >= d.Spec.MaxSessions {
		return fmt.Errorf("server %q: %w: it has %d sessions, and max_sessions is %d", d.Name, fleet.ErrOverloaded, len(open), d.Spec.MaxSessions)
	}
	if each := d.Spec.SessionsEach; each > 0 {
		own := 0
		for id := range open {
			if t.s.cfg.Directory.callerOf(id) == r.Caller {
				own++
			}
		}
		if own >= each {
			return fmt.Errorf("server %q: %w: the caller has %d sessions, and max_sessions_per_principal is %d", d.Name, fleet.ErrOverloaded, own, each)
		}
	}
	if n := len(t.queues[d.Name]); n >= max(1, d.Spec.MaxQueuedRequests) {
		return fmt.Errorf("server %q: %w: %d sessions wait for a replica", d.Name, fleet.ErrOverloaded, n)
	}
	return nil
}

// match gives spares to the sessions that wait, in their order.
func (t *tenure) match(snap *observe.Snapshot, servers map[fleet.ServerName]*fleet.Server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, queue := range t.queues {
		d := servers[name]
		if d == nil || len(queue) == 0 {
			continue
		}
		spares := t.spares(snap, d)
		for len(queue) > 0 && len(spares) > 0 {
			w, spare := queue[0], spares[0]
			queue, spares = queue[1:], spares[1:]
			t.claims[spare.ID] = w.key
			w.given <- spare
		}
		if why := t.s.cfg.Hopeless(name); why != "" {
			for _, w := range queue {
				w.err = fmt.Errorf("server %q: %w: %s", name, fleet.ErrNoReplica, why)
				close(w.given)
			}
			queue = nil
		}
		if t.queues[name] = queue; len(queue) == 0 {
			delete(t.queues, name)
		}
	}
}

// warmUp is how long a server may need to load its program. A spare says nothing before
// it belongs to a session, so only its age tells whether it is ready to answer at once.
const warmUp = 5 * time.Second

// spares returns the replicas that sessions may get, the best first: of the wanted
// revision, warm, and on the node with the fewest sessions. Of those that still warm up
// the oldest is first. It needs t.mu held.
func (t *tenure) spares(snap *observe.Snapshot, d *fleet.Server) (out []*fleet.Replica) {
	onNode := make(map[fleet.NodeID]int)
	for _, r := range snap.Replicas {
		if r.Session != "" {
			onNode[r.Node]++
		}
	}
	for id := range t.claims {
		if r := snap.Replicas[id]; r != nil && r.Session == "" {
			onNode[r.Node]++
		}
	}
	for _, r := range snap.Sorted() {
		_, claimed := t.claims[r.ID]
		n := snap.Nodes[r.Node]
		free := r.Raw && r.Spare && r.Session == "" && !claimed && r.Phase == fleet.PhaseReady && !r.Unhealthy
		wanted := r.Revision == d.Revision && d.Offers && !d.Unchecked()
		stable := d.StableTemplate != nil && r.Revision == d.Stable
		if r.Server == d.Name && free && (wanted || stable) && n.Worker != nil && !n.Draining {
			out = append(out, r)
		}
	}
	old := func(r *fleet.Replica) int {
		if r.Revision == d.Revision && r.Generation >= d.Generation {
			return 0
		}
		return 1
	}
	now := time.Now()
	loading := func(r *fleet.Replica) (since time.Time) {
		if now.Sub(r.ReadyAt) < warmUp {
			since = r.ReadyAt
		}
		return since
	}
	slices.SortStableFunc(out, func(a, b *fleet.Replica) int {
		return cmp.Or(cmp.Compare(old(a), old(b)), loading(a).Compare(loading(b)), cmp.Compare(onNode[a.Node], onNode[b.Node]), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// observe drops the claims that reports show, and those of replicas that are gone.
func (t *tenure) observe(snap *observe.Snapshot, servers map[fleet.ServerName]*fleet.Server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.claims {
		if r := snap.Replicas[id]; r == nil || r.Session != "" || r.Phase >= fleet.PhaseDraining {
			delete(t.claims, id)
		}
	}
	for name, queue := range t.queues {
		d := servers[name]
		if d != nil && d.Spec.PerSession() {
			continue
		}
		for _, w := range queue {
			if w.err = shared(name); d == nil {
				w.err = fmt.Errorf("%w %q: it was removed", fleet.ErrUnknownServer, name)
			}
			close(w.given)
		}
		delete(t.queues, name)
	}
}

// shared is the error of a session that wants a replica of a server that all share.
func shared(name fleet.ServerName) error {
	return fmt.Errorf("%w: server %q is shared by all sessions", fleet.ErrConflict, name)
}

// release gives up the claim of a spare.
func (t *tenure) release(id fleet.ReplicaID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.claims, id)
}

// dequeue needs t.mu held.
func (t *tenure) dequeue(w *waiter) {
	queue := slices.DeleteFunc(slices.Clone(t.queues[w.key.server]), func(o *waiter) bool { return o == w })
	if t.queues[w.key.server] = queue; len(queue) == 0 {
		delete(t.queues, w.key.server)
	}
}

func (t *tenure) waiting() map[fleet.ServerName]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[fleet.ServerName]int, len(t.queues))
	for name, queue := range t.queues {
		out[name] = len(queue)
	}
	return out
}

func (t *tenure) isClaimed(id fleet.ReplicaID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, claimed := t.claims[id]
	return claimed
}
