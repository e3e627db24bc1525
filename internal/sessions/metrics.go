package sessions

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Why sessions ended.
const (
	endedByClient = "client" // DELETE
	endedByIdle   = "idle"
	endedByAge    = "lifetime"
	endedByLoss   = "lost" // on_loss: 404
)

// Why sessions got no replica.
const (
	refusedOverloaded = "overloaded"
	refusedNoReplica  = "no_replica"
	refusedLost       = "lost"
)

// metrics counts sessions. Open ones are what the workers report; the rest is counted
// where it happens, most of it at the leader.
type metrics struct {
	opened, healed *prometheus.CounterVec
	ended, refused *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, s *Service) *metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		opened:  vec("mcpfleet_sessions_opened_total", "Sessions that got a replica to themselves for the first time. The leader counts.", "server"),
		healed:  vec("mcpfleet_sessions_healed_total", "Sessions that got a fresh replica because they had lost theirs. The leader counts.", "server"),
		ended:   vec("mcpfleet_sessions_ended_total", "Sessions with a replica to themselves that ended, by reason: client, idle, lifetime or lost.", "server", "reason"),
		refused: vec("mcpfleet_sessions_refused_total", "Sessions that got no replica, by reason: overloaded, no_replica or lost. The leader counts.", "server", "reason"),
	}
	if registry != nil {
		registry.MustRegister(m.opened, m.healed, m.ended, m.refused, &openSessions{
			s:       s,
			open:    prometheus.NewDesc("mcpfleet_sessions", "Sessions that have a replica to themselves, as this controller sees them.", []string{"server"}, nil),
			waiting: prometheus.NewDesc("mcpfleet_sessions_waiting", "Sessions that wait for a replica to themselves. Only the leader has any.", []string{"server"}, nil),
		})
	}
	return m
}

// count counts an opening that has ended.
func (m *metrics) count(server fleet.ServerName, o *opening) {
	refused := func(reason string) { m.refused.WithLabelValues(string(server), reason).Inc() }
	switch {
	case o.err == nil && o.opened.Healed:
		m.healed.WithLabelValues(string(server)).Inc()
	case o.err == nil && o.opened.Error == nil && !o.opened.Again:
		m.opened.WithLabelValues(string(server)).Inc()
	case errors.Is(o.err, fleet.ErrOverloaded):
		refused(refusedOverloaded)
	case errors.Is(o.err, fleet.ErrNoReplica):
		refused(refusedNoReplica)
	case errors.Is(o.err, fleet.ErrReplicaLost):
		refused(refusedLost)
	}
}

// openSessions are the metrics of sessions that are open or wait to be.
type openSessions struct {
	s             *Service
	open, waiting *prometheus.Desc

	mu    sync.Mutex
	known map[fleet.ServerName]bool // servers that the counters have
}

// Describe implements prometheus.Collector.
func (c *openSessions) Describe(ch chan<- *prometheus.Desc) { ch <- c.open; ch <- c.waiting }

// Collect implements prometheus.Collector.
func (c *openSessions) Collect(ch chan<- prometheus.Metric) {
	open := make(map[fleet.ServerName]int)
	for _, d := range c.s.cfg.Desired.Servers() {
		if d.Spec.PerSession() {
			open[d.Name] = 0
		}
	}
	counted := make(map[key]bool) // a lost replica may still be known beside the fresh one
	for _, r := range c.s.cfg.View.Snapshot().Replicas {
		k := key{r.Server, r.Session}
		if _, known := open[r.Server]; known && r.Session != "" && r.Phase < fleet.PhaseDraining && !counted[k] {
			counted[k] = true
			open[r.Server]++
		}
	}
	c.align(open)
	waiting := c.s.Waiting()
	for name, n := range open {
		ch <- prometheus.MustNewConstMetric(c.open, prometheus.GaugeValue, float64(n), string(name))
		ch <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(waiting[name]), string(name))
	}
}

// align gives the counters the servers that there are: from 0 for new ones, and not any
// more for those that are gone.
func (c *openSessions) align(open map[fleet.ServerName]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.s.metrics
	for name := range open {
		if c.known[name] {
			continue
		}
		m.opened.WithLabelValues(string(name))
		m.healed.WithLabelValues(string(name))
		for _, reason := range []string{endedByClient, endedByIdle, endedByAge, endedByLoss} {
			m.ended.WithLabelValues(string(name), reason)
		}
		for _, reason := range []string{refusedOverloaded, refusedNoReplica, refusedLost} {
			m.refused.WithLabelValues(string(name), reason)
		}
	}
	for name := range c.known {
		if _, still := open[name]; !still {
			for _, vec := range []*prometheus.CounterVec{m.opened, m.healed, m.ended, m.refused} {
				vec.DeletePartialMatch(prometheus.Labels{"server": string(name)})
			}
		}
	}
	c.known = make(map[fleet.ServerName]bool, len(open))
	for name := range open {
		c.known[name] = true
	}
}
