package observe

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Snapshot is what was known at one moment. It never changes: share it freely, and
// edit nothing in it.
type Snapshot struct {
	Seq        uint64 // grows with each snapshot
	Shape      uint64 // grows when anything but load has changed
	Nodes      map[fleet.NodeID]Node
	Replicas   map[fleet.ReplicaID]*fleet.Replica // those that have not ended, as far as is known
	Catalogues map[string]*fleet.Catalogue        // by hash
	// Ended has the last replicas of each server that have ended, newest first.
	Ended map[fleet.ServerName][]*fleet.Replica

	once   sync.Once
	sorted []*fleet.Replica
}

// Node is one worker in its current life.
type Node struct {
	Member    fleet.Member
	Info      fleet.NodeInfo // zero before its first report
	Connected bool           // its stream delivers, so its replicas may get calls
	Since     time.Time      // when Connected last changed
	// Reconnected is when its stream came back, the last times, oldest first. Earlier
	// lives count. Its first stream does not, nor does one after an orderly stop.
	Reconnected []time.Time
	Alive       bool   // gossip lists it
	Draining    bool   // it is stopping
	Unfit       string // why it starts no replicas, in words; "" if it does
	// Lost: given up until it reports again. Its replicas are not in the snapshot.
	Lost    bool
	Refused error  // why it refuses this controller; nil if it does not
	Version uint64 // of the last report taken in
	Streams fleet.StreamStats
	Worker  Worker // nil unless Connected
}

// Reported reports whether the node has ever reported in this life.
func (n *Node) Reported() bool { return n.Info.Life != "" }

// Serving reports whether a replica may get calls: it is READY and no spare, and its
// node is connected.
func (s *Snapshot) Serving(r *fleet.Replica) bool {
	return r.Phase == fleet.PhaseReady && !r.Spare && s.Nodes[r.Node].Connected
}

// Snapshot returns what is known now. It is built when asked for, and only if
// something has changed, so that reports cost little however fast they come.
func (o *Observer) Snapshot() *Snapshot {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.dirty {
		return o.snap
	}
	o.seq++
	s := &Snapshot{
		Seq:        o.seq,
		Shape:      o.shape,
		Nodes:      maps.Clone(o.snap.Nodes),
		Replicas:   maps.Clone(o.snap.Replicas),
		Catalogues: maps.Clone(o.cats),
		Ended:      maps.Clone(o.ended.byServer),
	}
	s.sorted = o.updateStale(s, o.snap.sorted)
	o.snap, o.dirty = s, false
	return s
}

// Shape returns the Shape that a Snapshot would have now, and builds none.
func (o *Observer) Shape() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.shape
}

// Sorted returns the snapshot's replicas by id. The list is shared: do not edit it.
func (s *Snapshot) Sorted() []*fleet.Replica {
	s.once.Do(func() {
		if s.sorted != nil {
			return
		}
		s.sorted = make([]*fleet.Replica, 0, len(s.Replicas))
		for _, id := range slices.Sorted(maps.Keys(s.Replicas)) {
			s.sorted = append(s.sorted, s.Replicas[id])
		}
	})
	return s.sorted
}
