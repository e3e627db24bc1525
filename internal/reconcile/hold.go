package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// hold keeps a controller that has just begun to lead from acting on half a
// picture: a worker that has not reported yet may run what seems to be missing,
// and one that does not refuse the leader before may still get orders from it.
type hold struct {
	began  time.Time
	grace  time.Duration
	settle time.Duration
	expect int                     // workers of a new cluster
	known  []fleet.NodeID          // may run replicas, as remembered on disk
	heard  func(observe.Node) bool // its report has all that leaders before did

	over    bool
	workers int       // connected at the last look
	arrived time.Time // the last of them
}

// waiting says in words what is waited for, "" once the controller may act,
// and when to look again at the latest.
func (h *hold) waiting(s *observe.Snapshot, now time.Time) (why string, wake time.Time) {
	if h.over {
		return "", time.Time{}
	}
	end := h.began.Add(h.grace)
	if !now.Before(end) {
		h.over = true
		return "", time.Time{}
	}
	var missing []string
	here := func(n observe.Node) bool {
		return n.Connected && n.Reported() && h.heard(n) || n.Refused != nil || n.Lost
	}
	for _, id := range h.known {
		if !here(s.Nodes[id]) {
			missing = append(missing, string(id))
		}
	}
	workers := 0
	for _, id := range sortedKeys(s.Nodes) {
		n := s.Nodes[id]
		if n.Connected {
			workers++
		}
		if n.Alive && !here(n) && !slices.Contains(missing, string(id)) {
			missing = append(missing, string(id))
		}
	}
	if workers > h.workers {
		h.arrived = now
	}
	h.workers = workers
	switch {
	case len(missing) > 0:
		return "waiting for " + strings.Join(missing, ", ") + " to report", end
	case workers == 0:
		return "waiting for workers: there is none", end
	case len(h.known) > 0:
		// All that could run something have reported.
	case workers < h.expect:
		return fmt.Sprintf("waiting for workers: %d of %d have joined", workers, h.expect), end
	case now.Before(h.arrived.Add(h.settle)):
		// A new cluster: workers that come a moment later should get their
		// share.
		return "waiting for more workers", h.arrived.Add(h.settle)
	}
	h.over = true
	return "", time.Time{}
}
