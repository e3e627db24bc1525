package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// gate is a log that counts what it has stored. While it is shut, entries wait before
// they reach the disk.
type gate struct {
	logStore
	stored atomic.Uint64 // highest index for which StoreLogs has returned

	mu      sync.Mutex
	hold    chan struct{} // nil: open
	waiting chan struct{} // one value when an entry waits
}

func (g *gate) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

func (g *gate) StoreLogs(logs []*raft.Log) error {
	g.mu.Lock()
	hold := g.hold
	g.mu.Unlock()
	if hold != nil {
		select {
		case g.waiting <- struct{}{}:
		default:
		}
		<-hold
	}
	if err := g.logStore.StoreLogs(logs); err != nil {
		return err
	}
	g.stored.Store(logs[len(logs)-1].Index)
	return nil
}

func (g *gate) shut() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	hold := make(chan struct{})
	g.hold = hold
	return sync.OnceFunc(func() {
		g.mu.Lock()
		g.hold = nil
		g.mu.Unlock()
		close(hold)
	})
}

func gated(t *testing.T) (*cluster, map[fleet.ControllerID]*gate) {
	c := newCluster(t)
	gates := map[fleet.ControllerID]*gate{}
	c.wrap = func(id fleet.ControllerID) func(logStore) logStore {
		return func(under logStore) logStore {
			gates[id] = &gate{logStore: under, waiting: make(chan struct{}, 1)}
			return gates[id]
		}
	}
	return c, gates
}

// When Propose returns, StoreLogs has returned on a majority, which means an fsync.
func TestAcknowledgedMeansFsyncedByAMajority(t *testing.T) {
	c, gates := gated(t)
	startThree(c)
	for _, s := range c.stores() {
		conn := reflect.ValueOf(s.disk.bolt).Elem().FieldByName("conn").Elem()
		for _, field := range []string{"NoSync", "NoGrowSync"} {
			if conn.FieldByName(field).Bool() {
				t.Errorf("bbolt's %s is set", field)
			}
		}
	}
	for i := range 30 {
		res := c.must(put("a", fmt.Sprint("x", i)))
		have := 0
		for _, g := range gates {
			if g.stored.Load() >= res.Index {
				have++
			}
		}
		if have < 2 {
			t.Fatalf("entry %d was acknowledged when %d of 3 had it on disk", res.Index, have)
		}
	}
}

// While no follower's disk takes the entry, nothing is acknowledged. A caller that
// stops waiting does not know the outcome. One follower is enough.
func TestNothingIsAcknowledgedWithoutAMajority(t *testing.T) {
	c, gates := gated(t)
	startThree(c)
	c.must(put("a", "x"))
	c.agree()
	lead, rest := c.leader(), c.followers()
	var open []func()
	for _, s := range rest {
		open = append(open, gates[s.ID()].shut())
		defer open[len(open)-1]()
	}
	type outcome struct {
		res desired.Result
		err error
	}
	done := make(chan outcome, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	impatient := make(chan error, 1)
	go func() {
		res, err := lead.Propose(t.Context(), put("b", "y"))
		done <- outcome{res, err}
	}()
	go func() {
		_, err := lead.Propose(ctx, put("c", "z"))
		impatient <- err
	}()
	for _, s := range rest {
		<-gates[s.ID()].waiting // the entry waits for the disk
	}
	select {
	case out := <-done:
		if out.err == nil {
			t.Fatalf("acknowledged without a majority: %+v", out.res)
		}
	default:
	}
	cancel()
	if err := <-impatient; !errors.Is(err, fleet.ErrOutcomeUnknown) && !errors.Is(err, fleet.ErrNotLeader) {
		t.Errorf("Propose that was given up: %v, want an unknown outcome", err)
	}
	open[0]()
	out := <-done
	// On a busy machine the leader may have lost its leadership meanwhile.
	if out.err == nil {
		if have := gates[rest[0].ID()].stored.Load(); have < out.res.Index {
			t.Errorf("entry %d was acknowledged, the only free follower has %d", out.res.Index, have)
		}
	} else if !errors.Is(out.err, fleet.ErrOutcomeUnknown) && !errors.Is(out.err, fleet.ErrNotLeader) {
		t.Error(out.err)
	}
	open[1]()
	c.agree()
}
