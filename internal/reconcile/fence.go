package reconcile

import (
	"errors"
	"log/slog"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// fence is the leader's claim on one life of a worker: once it is answered, the
// worker refuses every leader before, and once a report as new as the answer
// has come, all that those leaders ordered there is known.
type fence struct {
	order
	refused bool // it obeys a newer leader, or another cluster
	heeded  bool // such a report had come by the last pass
}

// fenceOf returns the claim on a life, which is made when first asked for.
func (m *memory) fenceOf(life fleet.LifeID) *fence {
	f := m.fences[life]
	if f == nil {
		f = new(fence)
		m.fences[life] = f
	}
	return f
}

// fencePatience is how long a worker may leave the claim unanswered before it
// gets orders all the same: they carry the claim themselves, and a worker of an
// older version knows no other.
const fencePatience = 10 * time.Second

// obeys tells whether a worker may be given replicas.
func (m *memory) obeys(life fleet.LifeID, now time.Time) bool {
	if !m.leads {
		return true
	}
	f := m.fences[life]
	return f != nil && !f.refused && (f.acked || !f.first.IsZero() && now.Sub(f.first) >= fencePatience)
}

// refuses tells whether a worker takes no orders from here.
func (m *memory) refuses(life fleet.LifeID) bool {
	f := m.fences[life]
	return f != nil && f.refused
}

// heard tells whether what leaders before ordered from a node is known, or no
// business of ours.
func (m *memory) heard(n observe.Node) bool {
	if !m.leads {
		return true
	}
	f := m.fences[n.Member.Life]
	return f != nil && (f.refused || f.acked && n.Version >= f.version)
}

// heed notes whose later changes are their own, or ordered from here.
func (m *memory) heed(s *observe.Snapshot) {
	for _, n := range s.Nodes {
		if f := m.fences[n.Member.Life]; f != nil && !f.heeded {
			f.heeded = !f.refused && m.heard(n)
		}
	}
}

func (m *memory) heeds(life fleet.LifeID) bool {
	f := m.fences[life]
	return m.leads && f != nil && f.heeded
}

// fenced records what a worker said to the claim.
func (m *memory) fenced(a answer, now time.Time) {
	f := m.fences[a.life]
	if f == nil || &f.order != a.order {
		return
	}
	f.inFlight = false
	switch {
	case a.err == nil:
		f.acked, f.version, f.err = true, a.version, nil
	case refusal(a.err):
		m.refuse(a.life, a.node, a.err)
	default:
		m.again(&f.order, a, now)
	}
}

// refuse notes that a worker takes no orders from here.
func (m *memory) refuse(life fleet.LifeID, node fleet.NodeID, err error) {
	if f := m.fenceOf(life); !f.refused {
		f.refused = true
		m.log.Error("node obeys another controller: it gets no more orders from here", "node", node, "err", err)
	}
}

// again puts off the next try of an order that was not answered.
func (m *memory) again(o *order, a answer, now time.Time) {
	o.err = a.err
	wait := min(orderRetryMin<<min(o.tries, 10), orderRetryMax)
	o.notBefore = now.Add(spread(wait, m.jitter))
	m.log.Debug("order unanswered", "node", a.node, "replica", a.id, "try", o.tries, slog.Any("err", a.err))
}

func refusal(err error) bool {
	return errors.Is(err, fleet.ErrStaleEpoch) || errors.Is(err, fleet.ErrForeignCluster)
}
