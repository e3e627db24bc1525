// Package calls adds up the calls of replicas: how many there were between two
// readings of the API, how many of them failed, and how long they took. It is pure.
package calls

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// Sum is the calls of one or several replicas.
type Sum struct {
	Calls  uint64 // that have begun
	Failed uint64 // ended without a good result

	latency []uint64
}

// Add adds what the calls of a replica did since an earlier reading. The zero value of
// before adds all of its calls.
func (s *Sum) Add(before, now *api.Replica) {
	s.Calls += grown(before.TotalCalls, now.TotalCalls)
	s.Failed += grown(failed(&before.Calls), failed(&now.Calls))
	for i, n := range now.Calls.Latency {
		old := uint64(0)
		if i < len(before.Calls.Latency) {
			old = before.Calls.Latency[i]
		}
		if i == len(s.latency) {
			s.latency = append(s.latency, 0)
		}
		s.latency[i] += grown(old, n)
	}
}

// Quantile returns the time within which the share q of the calls was answered. It is
// an estimate, because workers count calls in buckets. It returns false if no call was
// answered.
func (s *Sum) Quantile(q float64) (time.Duration, bool) { return quantile(s.latency, q) }

// failed returns how many calls had no good result.
func failed(c *api.Calls) uint64 { return c.IsError + c.Error + c.TimedOut + c.Lost }

// grown returns by how much a counter has grown. It never falls, except in answers
// that overtake each other.
func grown(before, now uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}
