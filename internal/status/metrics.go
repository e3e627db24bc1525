package status

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

var (
	descReplicas = prometheus.NewDesc("mcpfleet_server_replicas", "Replicas of a server, wanted and ready.", []string{"server", "which"}, nil)
	descRestarts = prometheus.NewDesc("mcpfleet_server_restarts_total", "Replicas started to replace failed ones.", []string{"server"}, nil)
	descUnplaced = prometheus.NewDesc("mcpfleet_unplaceable_replicas", "Replicas that no node has room for.", []string{"server"}, nil)
	descLacking  = prometheus.NewDesc("mcpfleet_unplaceable_resources", "Resources that the replicas would reserve that no node has room for.",
		[]string{"resource"}, nil)
	descNodes    = prometheus.NewDesc("mcpfleet_nodes", "Workers by state.", []string{"state"}, nil)
	descNodeInfo = prometheus.NewDesc("mcpfleet_node_info", "A worker that has reported, with the runtimes that it offers; always 1.",
		[]string{"node", "runtimes", "version"}, nil)
	descStreams      = prometheus.NewDesc("mcpfleet_streams", "Streams that a worker keeps for clients that may come back.", []string{"node"}, nil)
	descStreamBytes  = prometheus.NewDesc("mcpfleet_stream_bytes", "Bytes of the messages of these streams.", []string{"node"}, nil)
	descEvicted      = prometheus.NewDesc("mcpfleet_streams_evicted_total", "Streams forgotten before the end of their window.", []string{"node"}, nil)
	descResumed      = prometheus.NewDesc("mcpfleet_streams_resumed_total", "Readers of streams.", []string{"node"}, nil)
	descUnattributed = prometheus.NewDesc("mcpfleet_log_messages_unattributed_total",
		"Log messages of servers that were dropped because it is not known whose call they belong to.", []string{"node"}, nil)
)

// Describe implements prometheus.Collector.
func (v *View) Describe(ch chan<- *prometheus.Desc) {
	ch <- descReplicas
	ch <- descRestarts
	ch <- descUnplaced
	ch <- descLacking
	ch <- descNodes
	ch <- descNodeInfo
	ch <- descStreams
	ch <- descStreamBytes
	ch <- descEvicted
	ch <- descResumed
	ch <- descUnattributed
	v.starts.took.Describe(ch)
}

func collectStreams(ch chan<- prometheus.Metric, node string, s fleet.StreamStats) {
	ch <- prometheus.MustNewConstMetric(descStreams, prometheus.GaugeValue, float64(s.Kept), node)
	ch <- prometheus.MustNewConstMetric(descStreamBytes, prometheus.GaugeValue, float64(s.Bytes), node)
	ch <- prometheus.MustNewConstMetric(descEvicted, prometheus.CounterValue, float64(s.Evicted), node)
	ch <- prometheus.MustNewConstMetric(descResumed, prometheus.CounterValue, float64(s.Resumed), node)
	ch <- prometheus.MustNewConstMetric(descUnattributed, prometheus.CounterValue, float64(s.Unattributed), node)
}

// Collect implements prometheus.Collector.
func (v *View) Collect(ch chan<- prometheus.Metric) {
	p := v.picture.Load()
	for _, st := range p.servers {
		name := string(st.Name)
		ch <- prometheus.MustNewConstMetric(descReplicas, prometheus.GaugeValue, float64(st.Target.Replicas), name, "desired")
		ch <- prometheus.MustNewConstMetric(descReplicas, prometheus.GaugeValue, float64(st.Ready), name, "ready")
		ch <- prometheus.MustNewConstMetric(descRestarts, prometheus.CounterValue, float64(st.Restarts), name)
		ch <- prometheus.MustNewConstMetric(descUnplaced, prometheus.GaugeValue, float64(st.Unplaced), name)
	}
	for resource, n := range p.lacking() {
		ch <- prometheus.MustNewConstMetric(descLacking, prometheus.GaugeValue, n, resource)
	}
	states, cordons := map[string]int{api.NodeReady: 0}, v.cordons()
	for name, n := range p.snap.Nodes {
		state, _ := nodeState(&n, cordons[name])
		states[state]++
		if n.Reported() {
			ch <- prometheus.MustNewConstMetric(descNodeInfo, prometheus.GaugeValue, 1,
				string(name), strings.Join(n.Info.Runtimes, ","), n.Info.Version)
			collectStreams(ch, string(name), n.Streams)
		}
	}
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(descNodes, prometheus.GaugeValue, float64(n), state)
	}
	v.starts.took.Collect(ch)
}

// lacking returns what the replicas would reserve that no node has room for, by the
// name of the resource. Resources that nodes have are among them, with 0.
func (p *picture) lacking() map[string]float64 {
	var sum fleet.Resources
	for _, st := range p.servers {
		sum = sum.Add(st.UnplacedResources)
	}
	out := map[string]float64{"cpus": sum.CPUs, "memory": float64(sum.Memory), "pids": float64(sum.PIDs)}
	for _, n := range p.snap.Nodes {
		for name := range n.Info.Capacity.Custom {
			out[name] = 0
		}
	}
	for name, n := range sum.Custom {
		out[name] = float64(n)
	}
	return out
}
