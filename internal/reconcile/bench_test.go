package reconcile

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// still is a picture that does not change.
type still struct {
	notice.Board
	snap *observe.Snapshot
}

func (s *still) Snapshot() *observe.Snapshot { return s.snap }
func (s *still) Shape() uint64               { return s.snap.Shape }

// BenchmarkPass is what every batch of reports costs: 20 servers, 10 nodes, 400
// replicas, nothing to do.
func BenchmarkPass(b *testing.B) {
	desired := &desiredState{}
	view := &still{snap: &observe.Snapshot{
		Nodes: make(map[fleet.NodeID]observe.Node), Replicas: make(map[fleet.ReplicaID]*fleet.Replica),
	}}
	for n := range 10 {
		id := fleet.NodeID(fmt.Sprint("n", n))
		view.snap.Nodes[id] = observe.Node{Connected: true, Alive: true, Info: fleet.NodeInfo{Node: id, Life: "l"}, Member: fleet.Member{Node: id, Life: "l"}}
	}
	var servers []fleet.Server
	for s := range 20 {
		name := fmt.Sprint("server", s)
		servers = append(servers, server(name, 1, 20))
		for r := range 20 {
			id := fleet.ReplicaID(fmt.Sprint(name, "-1-", r))
			view.snap.Replicas[id] = &fleet.Replica{
				ID: id, Server: fleet.ServerName(name), Revision: 1, Node: fleet.NodeID(fmt.Sprint("n", r%10)),
				Phase: fleet.PhaseReady, ReadyAt: time.Now(), CreatedAt: time.Now(),
			}
		}
	}
	desired.set(servers...)
	r := New(Config{Desired: desired, View: view, Known: writer{desiredState: desired}, Log: slog.New(slog.DiscardHandler), Settle: time.Nanosecond})
	p := newPass(r, true)
	p.startup.over = true
	p.run(time.Now())
	for b.Loop() {
		p.run(time.Now())
	}
	if s, _ := r.Server("server7"); s.Ready != 20 {
		b.Fatalf("status = %+v, want 20 ready", s)
	}
}
