package reconcile

import (
	"fmt"
	"maps"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// When the leader cordons a node by itself, and for how long.
const (
	// failedStarts is how many starts in a row must fail on a node, of revisions that
	// start on others, within failedWithin.
	failedStarts = 3
	failedWithin = 10 * time.Minute
	// flaps is how often a node's stream must come back within flapsWithin.
	flaps       = 3
	flapsWithin = time.Minute
	// A node is taken back when it has been quiet for suspectFirst. That doubles with
	// each time, up to suspectMost, and begins anew when the node has been good for
	// suspectMemory.
	suspectFirst  = time.Minute
	suspectMost   = 10 * time.Minute
	suspectMemory = 30 * time.Minute
)

// trouble is what is wrong with a node.
type trouble struct {
	reason string    // in words
	last   string    // the last failure in words, or ""
	at     time.Time // when it last showed
}

// suspicion is the leader's own cordon of a node, or the memory of one.
type suspicion struct {
	trouble
	until time.Time // zero: the node takes replicas again
	times int
	freed time.Time // when it was last taken back
}

// suspicions are the nodes that the leader has cordoned by itself, and those that it
// has taken back. They are not stored: a new leader finds the same troubles in what
// the workers report.
type suspicions map[fleet.NodeID]*suspicion

// since returns from when on troubles of a node count.
func (s suspicions) since(id fleet.NodeID) time.Time {
	if x := s[id]; x != nil {
		return x.freed
	}
	return time.Time{}
}

// reason returns why the leader has cordoned a node, "" if it has not.
func (s suspicions) reason(id fleet.NodeID) string {
	if x := s[id]; x != nil && !x.until.IsZero() {
		return x.reason
	}
	return ""
}

// reasons returns why the leader has cordoned nodes, with the last failures.
func (s suspicions) reasons() map[fleet.NodeID]string {
	out := make(map[fleet.NodeID]string)
	for id, x := range s {
		if x.until.IsZero() {
			continue
		}
		if out[id] = "cordoned by the leader: " + x.reason; x.last != "" {
			out[id] += "; last failure: " + x.last
		}
	}
	return out
}

// judge cordons nodes that are in trouble, and takes back those that have been quiet
// for long enough. usable is how many nodes would take replicas without it. More than
// half of them are never cordoned: then the cause is not the nodes. wake is when the
// judgement changes with time alone.
func (s suspicions) judge(now time.Time, troubles map[fleet.NodeID]trouble, usable int, record func(Event)) (wake time.Time) {
	event := func(kind fleet.EventKind, id fleet.NodeID, message string) {
		record(Event{Kind: kind, Node: id, Message: "node " + string(id) + " " + message})
	}
	cordoned, more := 0, 0
	for id, x := range s {
		if x.until.IsZero() {
			continue
		}
		if t, ok := troubles[id]; ok {
			x.trouble = t
			x.until = latest(x.until, t.at.Add(x.quiet()))
		}
		if now.Before(x.until) {
			cordoned++
		}
	}
	for id := range troubles {
		if s.reason(id) == "" {
			more++
		}
	}
	for _, id := range sortedKeys(troubles) {
		if s.reason(id) != "" || 2*(cordoned+more) > usable {
			continue
		}
		x := s[id]
		if x == nil {
			x = &suspicion{}
			s[id] = x
		}
		x.trouble = troubles[id]
		x.times++
		x.until = now.Add(x.quiet())
		event(fleet.EventNodeCordoned, id, "is "+s.reasons()[id])
	}
	for _, id := range sortedKeys(s) {
		x := s[id]
		switch {
		case x.until.IsZero() && now.Sub(x.freed) >= suspectMemory:
			delete(s, id)
		case x.until.IsZero():
		case now.Before(x.until):
			wake = earlier(wake, x.until)
		default:
			event(fleet.EventNodeUncordoned, id, fmt.Sprintf("takes replicas again: it was quiet for %v", x.quiet()))
			x.until, x.freed = time.Time{}, now
		}
	}
	return wake
}

// quiet returns how long the node has to be quiet.
func (x *suspicion) quiet() time.Duration {
	return min(suspectFirst<<min(x.times-1, 10), suspectMost)
}

// flapping returns the nodes whose streams come and go. since returns from when on
// that counts.
func flapping(now time.Time, views []*nodeView, since func(fleet.NodeID) time.Time) map[fleet.NodeID]trouble {
	out := make(map[fleet.NodeID]trouble)
	for _, v := range views {
		n, from := 0, latest(since(v.name), now.Add(-flapsWithin))
		for _, at := range v.node.Reconnected {
			if at.After(from) {
				n++
			}
		}
		if n >= flaps {
			out[v.name] = trouble{
				reason: fmt.Sprintf("its connection came back %d times within %v", n, flapsWithin),
				at:     v.node.Reconnected[len(v.node.Reconnected)-1],
			}
		}
	}
	return out
}

// failing returns the nodes on which starts fail that succeed on others. ended has
// how replicas ended, newest first, and units what there is, by server. since returns
// from when on failures of a node count.
func failing(now time.Time, ended map[fleet.ServerName][]*fleet.Replica, units func() map[fleet.ServerName][]*unit, since func(fleet.NodeID) time.Time) map[fleet.NodeID]trouble {
	failures := make(map[revision]map[fleet.NodeID][]*fleet.Replica)
	recent := func(e *fleet.Replica) bool { return now.Sub(e.EndedAt) <= failedWithin }
	for _, list := range ended {
		for _, e := range list {
			if !failedByItself(e) || e.WasReady() || !recent(e) || !e.EndedAt.After(since(e.Node)) {
				continue
			}
			k := revision{e.Server, e.Revision}
			if failures[k] == nil {
				failures[k] = make(map[fleet.NodeID][]*fleet.Replica)
			}
			failures[k][e.Node] = append(failures[k][e.Node], e)
		}
	}
	if len(failures) == 0 {
		return nil
	}
	blamed := make(map[fleet.NodeID][]*fleet.Replica)
	all := units()
	for k, byNode := range failures {
		var succeeded []success
		for _, e := range ended[k.server] {
			if e.Revision == k.rev && e.WasReady() && recent(e) {
				succeeded = append(succeeded, success{e.Node, e.ReadyAt})
			}
		}
		for _, u := range all[k.server] {
			if u.rev == k.rev && !u.readyAt.IsZero() {
				succeeded = append(succeeded, success{u.node, u.readyAt})
			}
		}
		for id, list := range byNodeToBlame(byNode, succeeded) {
			blamed[id] = append(blamed[id], list...)
		}
	}
	out := make(map[fleet.NodeID]trouble)
	for id, list := range blamed {
		if len(list) < failedStarts {
			continue
		}
		last := list[0]
		for _, e := range list {
			if e.EndedAt.After(last.EndedAt) {
				last = e
			}
		}
		out[id] = trouble{
			reason: fmt.Sprintf("%d starts in a row failed there that succeed on other nodes", len(list)),
			last:   failureOf(last.ID, last.Node, false, last),
			at:     last.EndedAt,
		}
	}
	return out
}

// success is a start that succeeded.
type success struct {
	node fleet.NodeID
	at   time.Time
}

// byNodeToBlame returns the failed starts of a revision that are due to their nodes,
// given all, newest first, and the ones that succeeded. A start that failed is not, if a
// later one on the same node succeeded. If starts fail on several nodes, as many others
// must have started the revision since: else the cause is the revision, or something
// that it needs.
func byNodeToBlame(failed map[fleet.NodeID][]*fleet.Replica, succeeded []success) map[fleet.NodeID][]*fleet.Replica {
	last := make(map[fleet.NodeID]time.Time) // success
	for _, s := range succeeded {
		last[s.node] = latest(last[s.node], s.at)
	}
	inRow := make(map[fleet.NodeID][]*fleet.Replica)
	first := time.Time{} // of these failures
	for id, list := range failed {
		n := 0
		for n < len(list) && list[n].EndedAt.After(last[id]) {
			n++
		}
		if n > 0 {
			inRow[id] = list[:n]
			first = earlier(first, list[n-1].EndedAt)
		}
	}
	works, since := 0, 0 // other nodes
	for id, at := range last {
		if inRow[id] != nil {
			continue
		}
		works++
		if at.After(first) {
			since++
		}
	}
	if len(inRow) == 1 && works > 0 || len(inRow) > 1 && since >= len(inRow) {
		return inRow
	}
	return nil
}

func (s suspicions) clone() suspicions {
	out := make(suspicions, len(s))
	for id, x := range s {
		c := *x
		out[id] = &c
	}
	return out
}

// judgeNodes finds the nodes that are in trouble, and cordons them or takes them back.
// A follower does not judge streams: its own say little about the leader's.
func (st *state) judgeNodes(ended map[fleet.ServerName][]*fleet.Replica, now time.Time, record func(Event)) (wake time.Time) {
	troubles := failing(now, ended, st.replicas.byServer, st.suspects.since)
	if st.replicas.leads {
		if troubles == nil {
			troubles = make(map[fleet.NodeID]trouble)
		}
		maps.Copy(troubles, flapping(now, st.views.list, st.suspects.since))
	}
	if len(troubles) == 0 && len(st.suspects) == 0 {
		return time.Time{}
	}
	usable := 0
	for _, v := range st.views.list {
		if v.usable() {
			usable++
		}
	}
	maps.DeleteFunc(troubles, func(id fleet.NodeID, _ trouble) bool {
		v := st.views.byName[id]
		return v == nil || !v.usable()
	})
	return st.suspects.judge(now, troubles, usable, record)
}
