package mcphttp

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// Why a message was not passed on.
const (
	droppedSlow   = "slow_client"
	droppedShared = "shared_conversation"
)

// metrics are those of a front. All series exist from the start.
type metrics struct {
	messages map[string]map[string]prometheus.Counter // by era and method
	opened   prometheus.Counter
	healed   prometheus.Counter
	ended    prometheus.Counter
	resumed  prometheus.Counter
	lost     prometheus.Counter
	gets     prometheus.Gauge
	listens  prometheus.Gauge
	pipes    prometheus.Gauge
	dropped  map[string]prometheus.Counter // by reason
}

// otherMethod stands for the methods that have no series of their own, since clients may
// send any. responses have no method.
const (
	otherMethod = "other"
	responses   = "response"
)

// methods are those that have a series of their own.
var methods = [...]string{
	mcp.MethodInitialize, mcp.MethodInitialized, mcp.MethodPing, mcp.MethodSetLevel, mcp.MethodSubscribe, mcp.MethodUnsubscribe,
	mcp.MethodToolsList, mcp.MethodToolsCall, mcp.MethodResourcesList, mcp.MethodResourceTemplates, mcp.MethodResourcesRead,
	mcp.MethodPromptsList, mcp.MethodPromptsGet, mcp.MethodComplete, mcp.MethodCancelled, mcp.MethodDiscover, mcp.MethodListen,
	otherMethod, responses,
}

const (
	eraLegacy = "legacy"
	eraModern = "modern"
)

func newMetrics(registry prometheus.Registerer) *metrics {
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcpfleet_mcp_messages_total", Help: "Messages of MCP clients by the era of the client and the method.",
	}, []string{"era", "method"})
	sessions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcpfleet_mcp_sessions_total", Help: "Sessions of MCP clients, by what happened here: opened, ended by the client, or healed with a fresh replica.",
	}, []string{"event"})
	streams := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mcpfleet_mcp_streams", Help: "Streams on which MCP clients wait for changes: get (legacy), listen (modern) and sse (the deprecated transport).",
	}, []string{"kind"})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcpfleet_mcp_dropped_messages_total", Help: "Messages that were not passed on: slow_client, or shared_conversation for those that belong to no one client.",
	}, []string{"reason"})
	resumptions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mcpfleet_mcp_resumptions_total", Help: "Legacy clients that came back to the answer of a request: resumed, or lost if it was not kept.",
	}, []string{"outcome"})
	if registry != nil {
		registry.MustRegister(messages, sessions, streams, dropped, resumptions)
	}
	m := &metrics{
		messages: make(map[string]map[string]prometheus.Counter), dropped: make(map[string]prometheus.Counter),
		opened: sessions.WithLabelValues("opened"), healed: sessions.WithLabelValues("healed"), ended: sessions.WithLabelValues("ended"),
		resumed: resumptions.WithLabelValues("resumed"), lost: resumptions.WithLabelValues("lost"),
		gets: streams.WithLabelValues("get"), listens: streams.WithLabelValues("listen"),
		pipes: streams.WithLabelValues("sse"),
	}
	for _, era := range [...]string{eraLegacy, eraModern} {
		m.messages[era] = make(map[string]prometheus.Counter)
		for _, method := range methods {
			m.messages[era][method] = messages.WithLabelValues(era, method)
		}
	}
	for _, reason := range [...]string{droppedSlow, droppedShared} {
		m.dropped[reason] = dropped.WithLabelValues(reason)
	}
	return m
}

// message counts a message.
func (m *metrics) message(era string, msg *message) {
	series, method := m.messages[era], msg.method
	if method == "" {
		method = responses
	}
	counter := series[method]
	if counter == nil {
		counter = series[otherMethod]
	}
	counter.Inc()
}

func (m *metrics) drop(reason string) { m.dropped[reason].Inc() }
