package reconcile

import (
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// fencePatience is how long a worker may leave a fence unanswered before it is
// given replicas all the same. Orders carry the leader's epoch themselves, and
// workers of older versions know no fence.
const fencePatience = 10 * time.Second

// fence is the leader's claim on one life of a worker. Once it is answered, the
// worker refuses all earlier leaders. Once a report as new as the answer has
// come, everything that those leaders ordered there is known.
type fence struct {
	order
	refused  bool // the worker obeys a newer leader, or another cluster
	upToDate bool // such a report had come by the end of the last pass
}

// fences keeps one fence for each life of a worker. A follower has none, and
// gives no orders.
type fences struct {
	log    *slog.Logger
	jitter func() float64
	leads  bool
	byLife map[fleet.LifeID]*fence
}

func newFences(log *slog.Logger, jitter func() float64, leads bool) *fences {
	return &fences{log: log, jitter: jitter, leads: leads, byLife: make(map[fleet.LifeID]*fence)}
}

// of returns the fence of a life, and makes it when first asked for.
func (f *fences) of(life fleet.LifeID) *fence {
	c := f.byLife[life]
	if c == nil {
		c = new(fence)
		f.byLife[life] = c
	}
	return c
}

// acceptsStarts reports whether a worker may be given replicas.
func (f *fences) acceptsStarts(life fleet.LifeID, now time.Time) bool {
	if !f.leads {
		return true
	}
	c := f.byLife[life]
	return c != nil && !c.refused && (c.acked || !c.first.IsZero() && now.Sub(c.first) >= fencePatience)
}

// refusesOrders reports whether a worker has refused this leader.
func (f *fences) refusesOrders(life fleet.LifeID) bool {
	c := f.byLife[life]
	return c != nil && c.refused
}

// hasReported reports whether everything that earlier leaders ordered from a
// node is known, or of no concern because the node obeys another leader.
func (f *fences) hasReported(n observe.Node) bool {
	if !f.leads {
		return true
	}
	c := f.byLife[n.Member.Life]
	return c != nil && (c.refused || c.shownBy(n.Version))
}

// observe records, at the end of a pass, which nodes have reported everything.
// Later changes on them happen by themselves, or were ordered by this leader.
func (f *fences) observe(nodes map[fleet.NodeID]observe.Node) {
	for _, n := range nodes {
		if c := f.byLife[n.Member.Life]; c != nil && !c.upToDate {
			c.upToDate = !c.refused && f.hasReported(n)
		}
	}
}

// upToDate reports whether the node had reported everything by the last pass.
func (f *fences) upToDate(life fleet.LifeID) bool {
	c := f.byLife[life]
	return f.leads && c != nil && c.upToDate
}

// recordAnswer takes in a worker's answer to its fence. Answers to fences that
// are no longer kept are ignored.
func (f *fences) recordAnswer(a answer, now time.Time) {
	c := f.byLife[a.life]
	if c == nil || &c.order != a.order {
		return
	}
	switch {
	case a.err == nil:
		c.confirm(a.version)
	case isRefusal(a.err):
		c.inFlight = false
		f.recordRefusal(a.life, a.node, a.err)
	default:
		f.log.Debug("fence unanswered", "node", a.node, "try", c.tries, "err", a.err)
		c.retryLater(a.err, now, f.jitter)
	}
}

// recordRefusal ends all orders to a worker that obeys another leader.
func (f *fences) recordRefusal(life fleet.LifeID, node fleet.NodeID, err error) {
	if c := f.of(life); !c.refused {
		c.refused = true
		f.log.Error("node obeys another controller: it gets no more orders from here", "node", node, "err", err)
	}
}

// forget drops the fences of lives that are not among these.
func (f *fences) forget(lives map[fleet.LifeID]bool) {
	maps.DeleteFunc(f.byLife, func(l fleet.LifeID, _ *fence) bool { return !lives[l] })
}

// isRefusal reports whether a worker refused an order because of who gave it.
func isRefusal(err error) bool {
	return errors.Is(err, fleet.ErrStaleEpoch) || errors.Is(err, fleet.ErrForeignCluster)
}
