package status

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
)

// coldStarts counts how long the phases of starts took, once for each replica that
// became READY since this controller began.
type coldStarts struct {
	took  *prometheus.HistogramVec
	since time.Time

	mu      sync.Mutex
	shape   uint64 // of the last snapshot
	counted map[fleet.ReplicaID]bool
	servers map[fleet.ServerName]bool // that have series
}

func newColdStarts() *coldStarts {
	return &coldStarts{
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mcpfleet_cold_start_seconds", Help: "How long the phases of starts took, of replicas that became READY.",
			Buckets: []float64{.005, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"server", "phase"}),
		since:   time.Now(),
		counted: make(map[fleet.ReplicaID]bool),
		servers: make(map[fleet.ServerName]bool),
	}
}

// count counts the replicas that have become READY since the last snapshot. A phase that
// a start did not have is not counted. The series of servers that are gone are dropped.
func (c *coldStarts) count(servers map[fleet.ServerName]*reconcile.ServerStatus, snap *observe.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if snap.Shape == c.shape {
		return // only loads have changed
	}
	c.shape = snap.Shape
	for id := range c.counted {
		if snap.Replicas[id] == nil {
			delete(c.counted, id)
		}
	}
	for id, r := range snap.Replicas {
		if c.counted[id] || r.ReadyAt.Before(c.since) || servers[r.Server] == nil {
			continue
		}
		c.counted[id], c.servers[r.Server] = true, true
		for _, p := range r.ColdStart.Phases() {
			if p.Took > 0 {
				c.took.WithLabelValues(string(r.Server), p.Name).Observe(p.Took.Seconds())
			}
		}
	}
	for name := range c.servers {
		if servers[name] == nil {
			delete(c.servers, name)
			c.took.DeletePartialMatch(prometheus.Labels{"server": string(name)})
		}
	}
}
