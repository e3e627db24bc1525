package route

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// codeOK is the code, in metrics, of a call that was answered with a result.
const codeOK = "ok"

// metrics count calls by outcome. Their labels are bounded: users deploy the
// servers, and the codes are those of package api.
type metrics struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	retries  *prometheus.CounterVec
	suspects *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

// serverMetrics are the metrics of one server, looked up once.
type serverMetrics struct {
	all      *metrics
	name     string
	ok       prometheus.Counter
	duration prometheus.Observer
	retries  prometheus.Counter
	suspects prometheus.Counter
	refused  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *Router) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mcpfleet_calls_total", Help: "Calls that ended, by server and outcome.",
		}, []string{"server", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mcpfleet_call_duration_seconds", Help: "How long calls took, the queue included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"server"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mcpfleet_call_retries_total", Help: "Calls that were sent to another replica.",
		}, []string{"server"}),
		suspects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mcpfleet_calls_suspect_total", Help: "Calls that were inside a replica when it died and were repeated alone on another.",
		}, []string{"server"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mcpfleet_call_retries_refused_total", Help: "Calls that were lost and not repeated, though their tool allows it, because they or equal ones had ended replicas before.",
		}, []string{"server"}),
	}
	if reg != nil {
		reg.MustRegister(m.calls, m.duration, m.retries, m.suspects, m.refused, &gauges{
			router:  r,
			queued:  prometheus.NewDesc("mcpfleet_calls_queued", "Calls that wait for a replica, or until the tools of their server are known.", []string{"server"}, nil),
			ongoing: prometheus.NewDesc("mcpfleet_calls_ongoing", "Calls from this controller that hold a slot of a replica.", []string{"server"}, nil),
			alone:   prometheus.NewDesc("mcpfleet_calls_quarantined", "Suspect calls that wait for a replica of their own or run on it.", []string{"server"}, nil),
			blamed:  prometheus.NewDesc("mcpfleet_calls_blamed", "Different calls that were inside a replica when it died, and of which none was answered since.", []string{"server"}, nil),
			silent:  prometheus.NewDesc("mcpfleet_replicas_silent", "Replicas that answer nothing while several calls wait for them.", []string{"server"}, nil),
		})
	}
	return m
}

func (m *metrics) server(name fleet.ServerName) *serverMetrics {
	n := string(name)
	return &serverMetrics{
		all: m, name: n,
		ok:       m.calls.WithLabelValues(n, codeOK),
		duration: m.duration.WithLabelValues(n),
		retries:  m.retries.WithLabelValues(n),
		suspects: m.suspects.WithLabelValues(n),
		refused:  m.refused.WithLabelValues(n),
	}
}

func (m *metrics) forget(name fleet.ServerName) {
	labels := prometheus.Labels{"server": string(name)}
	m.calls.DeletePartialMatch(labels)
	m.duration.DeletePartialMatch(labels)
	m.retries.DeletePartialMatch(labels)
	m.suspects.DeletePartialMatch(labels)
	m.refused.DeletePartialMatch(labels)
}

func (m *serverMetrics) ended(res *fleet.CallResult, err error, took time.Duration) {
	m.duration.Observe(took.Seconds())
	switch {
	case err != nil:
		_, code := api.Outcome(err)
		m.all.calls.WithLabelValues(m.name, code).Inc()
	case res.Error != nil:
		m.all.calls.WithLabelValues(m.name, api.CodeToolError).Inc()
	default:
		m.ok.Inc()
	}
}

// gauges read the router when metrics are collected, so they cost calls nothing.
type gauges struct {
	router                                 *Router
	queued, ongoing, alone, blamed, silent *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.queued, g.ongoing, g.alone, g.blamed, g.silent} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	for name, s := range *g.router.servers.Load() {
		tell := func(d *prometheus.Desc, n int) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), string(name))
		}
		queued, ongoing := s.counts()
		tell(g.queued, queued)
		tell(g.ongoing, ongoing)
		tell(g.alone, s.quarantined())
		tell(g.blamed, int(s.blame.size.Load()))
		tell(g.silent, s.silent())
	}
}

func (s *server) counts() (queued, ongoing int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.replicas {
		ongoing += r.ongoing
	}
	return s.waiting(), ongoing
}

func (s *server) quarantined() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isolation.attempt != nil {
		return s.isolation.queue.length + 1
	}
	return s.isolation.queue.length
}
