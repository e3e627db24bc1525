package autoscale

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// metrics show what the leader decides. Other controllers show no servers.
type metrics struct {
	target, wanted, load *prometheus.GaugeVec
	missing              prometheus.Gauge
	decisions            *prometheus.CounterVec
}

// serverGauges are the gauges of one server, looked up once.
type serverGauges struct {
	target, wanted, recent, lookBack prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mcpfleet_autoscaler_" + name, Help: help}, append(labels, "server"))
	}
	m := &metrics{
		target: gauge("target", "Replicas that a server that scales by itself shall have."),
		wanted: gauge("wanted", "Replicas that its calls of the last second ask for, whatever the limits and delays are."),
		load:   gauge("load", "Mean calls, running and queued, of a server that scales by itself.", "over"),
		missing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mcpfleet_autoscaler_load_missing", Help: "1 while nothing is scaled down because a part of the load is not known.",
		}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mcpfleet_autoscaler_decisions_total", Help: "Changes of targets, by server and reason.",
		}, []string{"server", "reason"}),
	}
	reg.MustRegister(m.target, m.wanted, m.load, m.missing, m.decisions)
	return m
}

func (m *metrics) server(name fleet.ServerName) *serverGauges {
	n := string(name)
	return &serverGauges{
		target: m.target.WithLabelValues(n), wanted: m.wanted.WithLabelValues(n),
		recent: m.load.WithLabelValues("second", n), lookBack: m.load.WithLabelValues("look_back", n),
	}
}

// show shows a decision.
func (g *serverGauges) show(in *Input, h *History, now time.Time, d Decision) {
	g.target.Set(float64(in.Target))
	g.wanted.Set(float64(d.Wanted))
	g.recent.Set(h.recent.mean(now))
	g.lookBack.Set(h.lookBack.mean(now))
}

func (m *metrics) showMissing(missing bool) {
	m.missing.Set(0)
	if missing {
		m.missing.Set(1)
	}
}

// forget removes the gauges of a server, and its counters if it is gone.
func (m *metrics) forget(name fleet.ServerName, gone bool) {
	n := string(name)
	m.target.DeleteLabelValues(n)
	m.wanted.DeleteLabelValues(n)
	m.load.DeleteLabelValues("second", n)
	m.load.DeleteLabelValues("look_back", n)
	if gone {
		for _, kind := range kinds() {
			m.decisions.DeleteLabelValues(n, string(kind))
		}
	}
}

// clear removes all gauges of servers, when a tenure ends.
func (m *metrics) clear() {
	for _, v := range []*prometheus.GaugeVec{m.target, m.wanted, m.load} {
		v.Reset()
	}
	m.showMissing(false)
}
