package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

const (
	orderRetryMin = 50 * time.Millisecond
	orderRetryMax = 2 * time.Second
	// startPatience is how long a node may leave a start unanswered while it
	// reports: then the replica is called off and another one started.
	startPatience = 30 * time.Second
)

// unfit is a node that has refused a start for a reason of its own.
type unfit struct {
	why   string
	until time.Time // by then its report tells, or it is tried again
}

const unfitFor = 5 * time.Second

// unfitness returns why a node gets no replicas, "" when it may.
func (m *memory) unfitness(n observe.Node, now time.Time) string {
	if u := m.unfit[n.Member.Life]; n.Unfit == "" && now.Before(u.until) {
		return u.why
	}
	return n.Unfit
}

// answer is what became of one try of an order.
type answer struct {
	id      fleet.ReplicaID // "": of a fence
	node    fleet.NodeID
	life    fleet.LifeID
	order   *order
	version uint64
	err     error
}

// dispatcher sends orders, each try in a goroutine of its own: one silent node
// holds up no other.
type dispatcher struct {
	cfg     Config
	as      fleet.Order
	answers chan answer
	sent    sync.WaitGroup
}

func newDispatcher(cfg Config, as fleet.Order) *dispatcher {
	return &dispatcher{cfg: cfg, as: as, answers: make(chan answer)}
}

// dispatch sends every order that is due, and returns when the next one is.
func (d *dispatcher) dispatch(ctx context.Context, m *memory, s *observe.Snapshot, now time.Time) (wake time.Time) {
	for _, n := range s.Nodes {
		if !n.Connected || m.refuses(n.Member.Life) {
			continue
		}
		a := answer{node: n.Member.Node, life: n.Member.Life, order: &m.fenceOf(n.Member.Life).order}
		wake = earlier(wake, d.send(ctx, a, now, func(ctx context.Context) (uint64, error) {
			return n.Worker.Fence(ctx, d.as)
		}))
	}
	for _, u := range m.all() {
		n := s.Nodes[u.node]
		if !n.Connected || n.Member.Life != u.life || m.refuses(u.life) {
			continue // its return is news, and so is its end
		}
		m.giveUp(u, now)
		a := answer{id: u.id, node: u.node, life: u.life}
		// The start is not repeated once the stop is ordered: an answered stop
		// keeps a delayed start from beginning.
		if u.start != nil && u.stop == nil {
			a.order = u.start
			wake = earlier(wake, d.send(ctx, a, now, func(ctx context.Context) (uint64, error) {
				return n.Worker.StartReplica(ctx, d.as, fleet.Assignment{
					ID: u.id, Server: u.server, Revision: u.rev, Generation: u.gen, Template: u.template,
				})
			}))
		}
		if o := u.stop; o != nil {
			a.order = o
			wake = earlier(wake, d.send(ctx, a, now, func(ctx context.Context) (uint64, error) {
				return n.Worker.StopReplica(ctx, d.as, u.id, o.reason)
			}))
		}
	}
	return wake
}

// send makes one try if it is time, else it says when.
func (d *dispatcher) send(ctx context.Context, a answer, now time.Time, try func(context.Context) (uint64, error)) (next time.Time) {
	o := a.order
	switch {
	case o.acked, o.inFlight:
		return time.Time{}
	case now.Before(o.notBefore):
		return o.notBefore
	case o.first.IsZero():
		o.first = now
	}
	o.inFlight = true
	o.tries++
	d.sent.Go(func() {
		tctx, cancel := context.WithTimeout(ctx, d.cfg.OrderTimeout)
		defer cancel()
		a.version, a.err = try(tctx)
		select {
		case d.answers <- a:
		case <-ctx.Done():
		}
	})
	return time.Time{}
}

// gather takes answers for a moment, so that one pass sees many. It returns
// false when ctx has ended.
func gather(ctx context.Context, m *memory, answers <-chan answer) bool {
	timer := time.NewTimer(batch)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case a := <-answers:
			m.answered(a, time.Now())
		}
	}
}

// giveUp calls off a start that a reporting node does not take.
func (m *memory) giveUp(u *unit, now time.Time) {
	o := u.start
	if o == nil || o.acked || u.stop != nil || o.err == nil || now.Sub(o.first) < startPatience {
		return
	}
	u.stop = &order{reason: "the start was not answered"}
	m.fail(u, nil, fmt.Sprintf("replica %s: node %s did not take the order: %v", u.id, u.node, o.err), now)
}

// withhold takes back starts that were never sent to nodes other than these.
func (m *memory) withhold(known []fleet.NodeID) {
	for _, u := range m.all() {
		if u.start != nil && u.start.tries == 0 && !slices.Contains(known, u.node) {
			m.drop(u.id)
		}
	}
}

// answered records what a worker said to an order, if the order still stands.
func (m *memory) answered(a answer, now time.Time) {
	if a.id == "" {
		m.fenced(a, now)
		return
	}
	u, o := m.units[a.id], a.order
	if u == nil || u.start != o && u.stop != o {
		return
	}
	o.inFlight = false
	switch {
	case a.err == nil, o == u.stop && errors.Is(a.err, fleet.ErrUnknownReplica):
		o.acked, o.version, o.err = true, a.version, nil
	case refusal(a.err):
		m.refuse(u.life, u.node, a.err)
		if u.start == o {
			m.drop(u.id)
		}
	case o == u.start && errors.Is(a.err, fleet.ErrDraining):
		m.drained[u.life] = true
		m.drop(u.id)
		m.log.Info("node is draining and takes no replica", "node", u.node, "replica", u.id)
	case o == u.start && errors.Is(a.err, fleet.ErrNotRecorded):
		m.unfit[u.life] = unfit{a.err.Error(), now.Add(unfitFor)}
		m.drop(u.id)
		m.log.Warn("node does not take a replica: it is placed elsewhere", "node", u.node, "replica", u.id, "err", a.err)
	default:
		m.again(o, a, now)
	}
}
