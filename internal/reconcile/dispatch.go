package reconcile

import (
	"context"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// answer is the outcome of one try of an order.
type answer struct {
	id      fleet.ReplicaID // "": of a fence
	node    fleet.NodeID
	life    fleet.LifeID
	order   *order
	version uint64
	err     error
}

// dispatcher sends orders. Each try has a goroutine of its own, so that a silent
// node delays no other.
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
func (d *dispatcher) dispatch(ctx context.Context, st *state, s *observe.Snapshot, now time.Time) (wake time.Time) {
	for _, n := range s.Nodes {
		if !n.Connected || st.fences.refusesOrders(n.Member.Life) {
			continue
		}
		a := answer{node: n.Member.Node, life: n.Member.Life, order: &st.fences.of(n.Member.Life).order}
		wake = earlier(wake, d.send(ctx, a, now, func(ctx context.Context) (uint64, error) {
			return n.Worker.Fence(ctx, d.as)
		}))
	}
	for _, u := range st.replicas.sorted() {
		if u.start == nil && u.activate == nil && u.stop == nil {
			continue
		}
		n := s.Nodes[u.node]
		if !n.Connected || n.Member.Life != u.life || st.fences.refusesOrders(u.life) {
			continue // the loop wakes when the node returns or is lost
		}
		st.replicas.abandonStart(u, now)
		a := answer{id: u.id, node: u.node, life: u.life}
		// A start is not repeated once the stop is ordered. An answered stop keeps
		// a delayed start from beginning.
		if u.start != nil && u.stop == nil {
			a.order = u.start
			wake = earlier(wake, d.send(ctx, a, now, func(ctx context.Context) (uint64, error) {
				return n.Worker.StartReplica(ctx, d.as, fleet.Assignment{
					ID: u.id, Server: u.server, Revision: u.rev, Generation: u.gen, Template: u.template, Spare: u.spare, Era: u.era, Raw: u.raw,
				})
			}))
		}
		if u.activate != nil && u.stop == nil {
			a.order = u.activate
			wake = earlier(wake, d.send(ctx, a, now, func(ctx context.Context) (uint64, error) {
				return n.Worker.ActivateReplica(ctx, d.as, u.id)
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

// send makes one try of an order if one is due. Otherwise it returns when that
// will be.
func (d *dispatcher) send(ctx context.Context, a answer, now time.Time, try func(context.Context) (uint64, error)) (next time.Time) {
	due, next := a.order.startTry(now)
	if !due {
		return next
	}
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

// gather takes in answers for a moment, so that one pass sees many. It returns
// false when ctx has ended.
func gather(ctx context.Context, st *state, answers <-chan answer) bool {
	timer := time.NewTimer(batch)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case a := <-answers:
			st.recordAnswer(a, time.Now())
		}
	}
}
