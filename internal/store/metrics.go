package store

import (
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

var _ prometheus.Collector = (*collector)(nil)

// Collectors returns this store's metrics. Raft's own metrics go to a global sink,
// which is not used.
func (s *Store) Collectors() []prometheus.Collector {
	return []prometheus.Collector{newCollector(s), s.fsm.took, s.disk.snapshots.taken}
}

func applyHistogram() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "mcpfleet_raft_apply_duration_seconds",
		Help:    "Time to apply one committed command to desired state.",
		Buckets: prometheus.ExponentialBuckets(10e-6, 4, 8),
	})
}

func snapshotCounter() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "mcpfleet_raft_snapshots_total",
		Help: "Snapshots of desired state written or received.",
	})
}

type collector struct {
	store                                                  *Store
	term, leader, voters, applied, commit, last, contacted *prometheus.Desc
	problem, pending                                       *prometheus.Desc
}

func newCollector(s *Store) *collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("mcpfleet_raft_"+name, help, nil, nil)
	}
	return &collector{
		store:     s,
		term:      desc("term", "Raft's current term."),
		leader:    desc("leader", "1 if this controller leads."),
		voters:    desc("voters", "Controllers with a vote."),
		applied:   desc("applied_index", "Index of the last log entry in desired state."),
		commit:    desc("commit_index", "Index of the last log entry known to be on a majority."),
		last:      desc("last_index", "Index of the last log entry on this controller's disk."),
		contacted: desc("last_contact_seconds", "Time since the leader was last heard of; 0 on the leader, -1 for never."),
		problem:   desc("problem", "1 if this controller does not keep desired state as it should; /readyz has the reason."),
		pending:   desc("pending_writes", "Writes that wait for a majority, those included that nobody waits for any more."),
	}
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.term, c.leader, c.voters, c.applied, c.commit, c.last, c.contacted, c.problem, c.pending} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	s := c.store
	voters, leader, contact := 0, 0.0, -1.0
	for _, m := range s.raft.GetConfiguration().Configuration().Servers {
		if m.Suffrage == raft.Voter {
			voters++
		}
	}
	if _, leads := s.leaderTerm(); leads {
		leader = 1
	}
	if at := s.LastContact(); !at.IsZero() {
		contact = max(0, time.Since(at).Seconds())
	}
	gauge(c.term, float64(s.raft.CurrentTerm()))
	gauge(c.leader, leader)
	gauge(c.voters, float64(voters))
	gauge(c.applied, float64(s.AppliedIndex()))
	gauge(c.commit, float64(s.CommitIndex()))
	gauge(c.last, float64(s.raft.LastIndex()))
	gauge(c.contacted, contact)
	problem := 0.0
	if s.Problem() != "" {
		problem = 1
	}
	gauge(c.problem, problem)
	gauge(c.pending, float64(s.pending.count()))
}
