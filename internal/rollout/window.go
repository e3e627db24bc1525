package rollout

import (
	"iter"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// window counts the calls of a server's replicas since its first reading. Workers
// count from the start of each replica, and replicas come and go, so the counts of
// each are kept.
type window struct {
	began    time.Time // the first reading
	replicas map[fleet.ReplicaID]*counted
}

// counted is what a replica's worker had counted.
type counted struct {
	revision    fleet.Revision
	first, last fleet.CallCounts
	looks       uint64 // how often it was found READY
	before      bool   // it had ended before the first reading
	crashed     bool
}

// read takes in what the workers count now. Of a replica that was there before the first
// reading, the calls before its own first reading are left out. All calls of a later one
// count, also if it has ended by now.
func (w *window) read(now time.Time, replicas iter.Seq[*fleet.Replica]) {
	begins := w.replicas == nil
	if begins {
		w.began, w.replicas = now, make(map[fleet.ReplicaID]*counted)
	}
	for r := range replicas {
		c := w.replicas[r.ID]
		if c == nil {
			c = &counted{revision: r.Revision, before: begins && r.Exit != nil}
			if begins || !r.ReadyAt.After(w.began) {
				c.first = r.Calls
			}
			w.replicas[r.ID] = c
		}
		c.last, c.crashed = r.Calls, crashed(r)
		if r.Phase == fleet.PhaseReady {
			c.looks++
		}
	}
}

// crashed reports whether a replica that was READY has ended by itself, other than
// with code 0, with which servers end that nobody calls.
func crashed(r *fleet.Replica) bool {
	x := r.Exit
	return x != nil && r.WasReady() && x.Err == "" && !x.FromOutside() && (x.Code != 0 || x.Signal != "" || x.OOM)
}

// crashes returns how many replicas of a revision have crashed within the window, of
// how many times that one was found READY or crashed.
func (w *window) crashes(rev fleet.Revision) sample {
	s := sample{revision: rev}
	for _, c := range w.replicas {
		if c.revision != rev {
			continue
		}
		s.all += c.looks
		if c.crashed && !c.before {
			s.hits++
			s.all++
		}
	}
	return s
}

// calls returns the calls of a revision within the window.
func (w *window) calls(rev fleet.Revision) (sum fleet.CallCounts) {
	sum.Latency = make([]uint64, len(fleet.LatencyBounds)+1)
	for _, c := range w.replicas {
		if c.revision != rev {
			continue
		}
		sum.OK += since(c.first.OK, c.last.OK)
		sum.IsError += since(c.first.IsError, c.last.IsError)
		sum.Error += since(c.first.Error, c.last.Error)
		sum.TimedOut += since(c.first.TimedOut, c.last.TimedOut)
		sum.Lost += since(c.first.Lost, c.last.Lost)
		for i := range min(len(sum.Latency), len(c.last.Latency)) {
			before := uint64(0)
			if i < len(c.first.Latency) {
				before = c.first.Latency[i]
			}
			sum.Latency[i] += since(before, c.last.Latency[i])
		}
	}
	return sum
}

// since returns how much a count has grown. A count that fell is another worker's
// mistake, and has not grown.
func since(before, now uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}
