package observe

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// apply takes in one report of a life's stream. It returns false if the report is
// from another life, because that has taken over the address.
func (o *Observer) apply(l *life, w Worker, r fleet.Report) bool {
	now := time.Now()
	l.heard.Heard()
	o.mu.Lock()
	if r.Node != nil && (r.Node.Node != l.node || r.Node.Life != l.id) {
		o.mu.Unlock()
		return false
	}
	n := o.nodes[l.node]
	if n == nil || n.lives[l.id] != l || l.superseded || r.Full && o.supersede(n, l, r) {
		o.mu.Unlock()
		return true
	}
	o.touch(n)
	var came bool
	switch {
	case r.Full:
		came = o.applyFull(n, l, w, r, now)
	case !l.connected, r.Version < l.version:
		o.mu.Unlock()
		return true // changes before the full report, or older than the last
	}
	l.reports++
	if !l.timed && !r.Now.IsZero() {
		// Measure once for each life. Times that moved with each message's delay
		// would look like changes.
		l.ahead, l.timed = now.Sub(r.Now), true
	}
	idle := !r.Full && r.Version == l.version && r.Draining == l.draining && r.Unfit == l.unfit &&
		r.Streams == l.streams && len(r.Replicas) == 0 && len(r.Catalogues) == 0 && len(r.Forgotten) == 0
	shape := r.Full || r.Draining != l.draining || r.Unfit != l.unfit || len(r.Catalogues) > 0 || len(r.Forgotten) > 0
	unfit := r.Unfit != l.unfit
	l.version, l.draining, l.unfit, l.streams = r.Version, r.Draining, r.Unfit, r.Streams
	for i := range r.Catalogues {
		c := r.Catalogues[i]
		o.cats[c.Hash] = &c
		l.carried[c.Hash] = true
	}
	for i := range r.Replicas {
		if o.applyReplica(l, r.Replicas[i]) {
			shape = true
		}
	}
	for _, id := range r.Forgotten {
		delete(l.replicas, id)
	}
	switch {
	case shape:
		o.changed()
	case !idle:
		o.loadChanged()
	}
	count := len(l.replicas)
	o.mu.Unlock()
	if came {
		o.log.Info("node connected", "node", l.node, "life", l.id, "replicas", count, "version", r.Version)
		o.lookAgain() // another life may be superseded now
	}
	switch {
	case !unfit:
	case r.Unfit != "":
		o.log.Warn("node starts no replicas", "node", l.node, "life", l.id, "reason", r.Unfit)
	default:
		o.log.Info("node starts replicas again", "node", l.node, "life", l.id)
	}
	if !idle {
		o.board.Post()
	}
	return true
}

// supersede reports whether a later life of the same node is connected, and marks
// this one as superseded if so: its reports are ignored. The caller holds mu.
func (o *Observer) supersede(n *nodeState, l *life, r fleet.Report) bool {
	for _, other := range n.lives {
		if other.connected && other.member.Started.After(l.member.Started) {
			o.log.Error("two workers answer under one node name: the later one counts", "node", l.node,
				"life", other.id, "at", other.member.GRPC, "other_life", l.id, "other_at", l.member.GRPC)
			l.superseded = true
			for _, replica := range r.Replicas {
				l.orphans = append(l.orphans, replica.ID)
			}
			o.lookAgain()
			return true
		}
	}
	return false
}

// applyFull begins a connection. Replicas that the report does not list are gone,
// and the node's other lives are over. The caller holds mu.
func (o *Observer) applyFull(n *nodeState, l *life, w Worker, r fleet.Report, now time.Time) (came bool) {
	if r.Node != nil {
		info := *r.Node
		l.info = &info
	}
	if !l.connected {
		for _, other := range n.lives {
			n.stopped = n.stopped || other.connected && other.draining
		}
		l.connected, l.since, l.worker, came = true, now, w, true
		n.recordStream(now)
	}
	l.lost, l.refused = false, nil
	l.carried = make(map[string]bool)
	l.replicas = make(map[fleet.ReplicaID]*fleet.Replica)
	for _, other := range n.lives {
		if other != l && !other.superseded {
			if other.connected {
				o.log.Error("two workers answer under one node name: the later one counts", "node", l.node,
					"life", l.id, "at", l.member.GRPC, "other_life", other.id, "other_at", other.member.GRPC)
				other.orphans = slices.Collect(maps.Keys(other.replicas))
			}
			o.lose(other, "node "+string(l.node)+" was restarted", now)
			other.superseded, other.connected, other.worker = true, false, nil
		}
	}
	n.current = l
	return came
}

// applyReplica takes in one replica's report. It reports whether more has
// changed than its load, calls and usage. The caller holds mu.
func (o *Observer) applyReplica(l *life, r fleet.Replica) (more bool) {
	r.Node = l.node
	for _, t := range []*time.Time{&r.CreatedAt, &r.ReadyAt, &r.EndedAt, &r.SessionAt} {
		if !t.IsZero() {
			*t = t.Add(l.ahead)
		}
	}
	if r.Phase.Ended() {
		delete(l.replicas, r.ID)
		o.ended.add(&r)
		return true
	}
	old := l.replicas[r.ID]
	l.replicas[r.ID] = &r
	if old != nil {
		same := *old
		same.Load, same.Calls, same.Usage = r.Load, r.Calls, r.Usage
		return !reflect.DeepEqual(same, r)
	}
	o.ended.remove(r.Server, r.ID) // its node counted as lost
	return true
}

// prune drops the catalogues that no live stream has carried and no ended replica
// names. A stream carries a catalogue only once, so it is kept as long as the
// stream. The caller holds mu.
func (o *Observer) prune() {
	used := make(map[string]bool)
	for _, n := range o.nodes {
		for _, l := range n.lives {
			maps.Copy(used, l.carried)
			for _, r := range l.replicas {
				used[r.Catalogue] = true
			}
		}
	}
	o.ended.addCatalogues(used)
	maps.DeleteFunc(o.cats, func(hash string, _ *fleet.Catalogue) bool { return !used[hash] })
}
