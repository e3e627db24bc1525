package observe

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/silence"
)

// nodeState is one node name with the lives seen under it.
type nodeState struct {
	name    fleet.NodeID
	lives   map[fleet.LifeID]*life
	current *life // the one the snapshot shows: the last to report, else the last to appear
	// shown are the replicas that the last snapshot shows, by id. stale means that it
	// shows the node as it was; see touch.
	shown []*fleet.Replica
	stale bool
	// came says that a stream of the node has begun, and reconnected when further ones
	// did; see Node.
	came        bool
	stopped     bool        // the last stream ended after the worker had said that it stops
	reconnected []time.Time // replaced, never edited
}

// life is one life of one worker. Observer.mu guards it, except for heard, and for
// child, which belongs to the Run loop.
type life struct {
	node   fleet.NodeID // these two never change
	id     fleet.LifeID
	member fleet.Member
	child  *child
	heard  silence.Guard // for its reports

	alive      bool              // gossip lists it
	superseded bool              // a newer life of the node has reported
	orphans    []fleet.ReplicaID // ran when it was superseded; the child stops them
	lost       bool              // its replicas count as gone
	refused    error

	connected bool
	since     time.Time // of connected
	reports   int       // of this connection
	worker    Worker
	info      *fleet.NodeInfo
	draining  bool
	unfit     string // why it starts no replicas; "" if it does
	streams   fleet.StreamStats
	version   uint64
	ahead     time.Duration                      // how far this process's clock is ahead of the worker's
	timed     bool                               // ahead is known
	replicas  map[fleet.ReplicaID]*fleet.Replica // not ended ones
	carried   map[string]bool                    // the catalogues that this stream has carried
}

// maxReconnected bounds Node.Reconnected.
const maxReconnected = 8

// recordStream records that a stream of the node has begun.
func (n *nodeState) recordStream(now time.Time) {
	if n.came && !n.stopped {
		last := n.reconnected[max(0, len(n.reconnected)-maxReconnected+1):]
		n.reconnected = append(slices.Clone(last), now)
	}
	n.came, n.stopped = true, false
}

// show returns the node as a snapshot shows it.
func (n *nodeState) show() Node {
	l := n.current
	x := Node{
		Member: l.member, Connected: l.connected, Since: l.since, Reconnected: n.reconnected, Alive: l.alive,
		Draining: l.draining, Unfit: l.unfit, Lost: l.lost, Refused: l.refused, Version: l.version, Worker: l.worker,
		Streams: l.streams,
	}
	if l.info != nil {
		x.Info = *l.info
	}
	return x
}

// child is the goroutine that follows one life.
type child struct {
	cancel context.CancelFunc
	done   chan struct{}
	ending bool // cancelled; only the Run loop uses it
}

// updateLives brings the lives in line with what gossip lists and with the clock. It
// follows new ones, gives up those that are overdue, and drops the dead. Only the Run
// loop calls it.
func (o *Observer) updateLives(ctx context.Context, members []fleet.Member, now time.Time) {
	o.leaving = slices.DeleteFunc(o.leaving, (*child).ended)
	_, watch := o.cfg.Order()
	o.mu.Lock()
	changed := o.observeMembers(members, now)
	for _, n := range o.nodes {
		for _, l := range n.lives {
			if o.overdue(l, now) {
				o.touch(n)
				o.lose(l, "node "+string(l.node)+" lost", now)
				changed = true
			}
		}
	}
	var stop []*child
	var start []*life
	for name, n := range o.nodes {
		for id, l := range n.lives {
			switch {
			case l.superseded, !l.alive && l.lost:
				switch c := l.child; {
				case c == nil:
				case !c.ending:
					c.ending = true
					stop = append(stop, c)
				case c.ended():
					l.child = nil // another may follow from now on
				}
				// A superseded life stays while gossip lists it. Otherwise it
				// would be followed again.
				if !l.alive {
					delete(n.lives, id)
				}
			case l.child == nil && watch:
				start = append(start, l)
			}
		}
		if l := n.heir(); l != nil && watch {
			o.log.Info("the other worker of this node name has gone, this one counts again", "node", name, "life", l.id, "at", l.member.GRPC)
			o.touch(n)
			l.superseded, l.orphans, l.since = false, nil, now
			start = append(start, l)
		}
		if n.current != nil && n.lives[n.current.member.Life] == nil {
			o.touch(n)
			n.current, changed = n.youngest(), true
		}
		if len(n.lives) == 0 {
			o.touch(n)
			delete(o.nodes, name)
			changed = true
		}
	}
	if changed {
		o.changed()
	}
	o.mu.Unlock()
	if changed {
		o.board.Post()
	}
	for _, l := range start {
		cctx, cancel := context.WithCancel(ctx)
		c := &child{cancel: cancel, done: make(chan struct{})}
		l.child = c
		go func() {
			defer close(c.done)
			o.follow(cctx, l)
		}()
	}
	for _, c := range stop {
		c.cancel()
	}
	o.leaving = append(o.leaving, stop...)
}

// observeMembers takes in what gossip lists. The caller holds mu.
func (o *Observer) observeMembers(members []fleet.Member, now time.Time) (changed bool) {
	listed := make(map[fleet.LifeID]bool, len(members))
	for _, m := range members {
		if m.Role != fleet.RoleWorker {
			continue
		}
		listed[m.Life] = true
		n := o.nodes[m.Node]
		if n == nil {
			n = &nodeState{name: m.Node, lives: make(map[fleet.LifeID]*life)}
			o.nodes[m.Node] = n
		}
		l := n.lives[m.Life]
		if l == nil {
			l = &life{node: m.Node, id: m.Life, member: m, alive: true, since: now, replicas: make(map[fleet.ReplicaID]*fleet.Replica)}
			n.lives[m.Life] = l
			o.touch(n)
			// The new life is shown unless the old one is connected or has replicas.
			// Those end when the new life reports.
			if n.current == nil || !n.current.connected && len(n.current.replicas) == 0 {
				n.current = l
			}
			changed = true
		}
		if !l.alive || l.member != m {
			o.touch(n)
			l.alive, l.member, changed = true, m, true
		}
	}
	for _, n := range o.nodes {
		for id, l := range n.lives {
			if l.alive && !listed[id] {
				o.touch(n)
				l.alive, changed = false, true
			}
		}
	}
	return changed
}

// overdue reports whether it is time to give a life up. The caller holds mu.
func (o *Observer) overdue(l *life, now time.Time) bool {
	if l.connected || l.lost || l.superseded {
		return false
	}
	if !l.alive && (l.draining || l.info == nil) {
		return true // it has left as announced, or has never reported
	}
	return now.Sub(l.since) >= o.cfg.NodeGrace
}

// lose gives up a life's replicas. The caller holds mu.
func (o *Observer) lose(l *life, reason string, now time.Time) {
	l.lost = true
	for _, r := range l.replicas {
		gone := *r
		gone.Phase, gone.Reason, gone.EndedAt, gone.PID, gone.Lost = fleet.PhaseFailed, reason, now, 0, true
		o.ended.add(&gone)
	}
	switch {
	case l.draining && len(l.replicas) == 0:
		o.log.Info("node left", "node", l.node, "life", l.id)
	case l.info != nil:
		o.log.Warn("node lost", "node", l.node, "life", l.id, "reason", reason,
			"replicas", len(l.replicas), "gossip_alive", l.alive)
	}
	l.replicas = make(map[fleet.ReplicaID]*fleet.Replica)
	l.carried = nil
	o.prune()
}

// youngest returns the life to show when the shown one is gone.
func (n *nodeState) youngest() *life {
	var best *life
	for _, l := range n.lives {
		if !l.superseded && (best == nil || l.since.After(best.since)) {
			best = l
		}
	}
	return best
}

// heir returns the superseded life that counts again because all later ones are gone.
// This happens when two workers had one name, and one of them has ended.
func (n *nodeState) heir() *life {
	var best *life
	for _, l := range n.lives {
		if !l.superseded {
			return nil
		}
		if l.alive && l.child == nil && (best == nil || l.member.Started.After(best.member.Started)) {
			best = l
		}
	}
	return best
}

// stopAll ends all children and waits for them.
func (o *Observer) stopAll() {
	var stop []*child
	o.mu.Lock()
	for _, n := range o.nodes {
		for _, l := range n.lives {
			if l.child != nil {
				stop = append(stop, l.child)
			}
		}
	}
	o.mu.Unlock()
	for _, c := range stop {
		c.cancel()
	}
	for _, c := range append(stop, o.leaving...) {
		<-c.done
	}
}

// ended reports whether the goroutine has ended.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// refusal returns the error if it means that the worker refuses this controller, else
// nil.
func refusal(err error) error {
	if errors.Is(err, fleet.ErrStaleEpoch) || errors.Is(err, fleet.ErrForeignCluster) {
		return err
	}
	return nil
}
