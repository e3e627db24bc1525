package status

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

var (
	descReplicas = prometheus.NewDesc("mcpfleet_server_replicas", "Replicas of a server, wanted and ready.", []string{"server", "which"}, nil)
	descRestarts = prometheus.NewDesc("mcpfleet_server_restarts_total", "Replicas started to replace failed ones.", []string{"server"}, nil)
	descNodes    = prometheus.NewDesc("mcpfleet_nodes", "Workers by state.", []string{"state"}, nil)
	descNodeInfo = prometheus.NewDesc("mcpfleet_node_info", "A worker that has reported, with the runtimes that it offers; always 1.",
		[]string{"node", "runtimes", "version"}, nil)
)

// Describe implements prometheus.Collector.
func (v *View) Describe(ch chan<- *prometheus.Desc) {
	ch <- descReplicas
	ch <- descRestarts
	ch <- descNodes
	ch <- descNodeInfo
	v.starts.took.Describe(ch)
}

// Collect implements prometheus.Collector.
func (v *View) Collect(ch chan<- prometheus.Metric) {
	p := v.picture.Load()
	for _, st := range p.servers {
		name := string(st.Name)
		ch <- prometheus.MustNewConstMetric(descReplicas, prometheus.GaugeValue, float64(st.Target.Replicas), name, "desired")
		ch <- prometheus.MustNewConstMetric(descReplicas, prometheus.GaugeValue, float64(st.Ready), name, "ready")
		ch <- prometheus.MustNewConstMetric(descRestarts, prometheus.CounterValue, float64(st.Restarts), name)
	}
	states := map[string]int{api.NodeReady: 0}
	for name, n := range p.snap.Nodes {
		states[nodeState(&n)]++
		if n.Reported() {
			ch <- prometheus.MustNewConstMetric(descNodeInfo, prometheus.GaugeValue, 1,
				string(name), strings.Join(n.Info.Runtimes, ","), n.Info.Version)
		}
	}
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(descNodes, prometheus.GaugeValue, float64(n), state)
	}
	v.starts.took.Collect(ch)
}
