package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

var errSeen = errors.New("seen enough")

// look is a watch that ends with its first report.
func look(ctx context.Context, a *Agent, o fleet.Order) (fleet.Report, error) {
	var first fleet.Report
	err := a.Watch(ctx, o, func(rep fleet.Report) error {
		first = rep
		return errSeen
	})
	if errors.Is(err, errSeen) {
		err = nil
	}
	return first, err
}

func onDisk(t testing.TB, path string) (f ledgerFile) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// takeAway moves a file's directory away: the file cannot be written until the
// directory is brought back.
func takeAway(t testing.TB, path string) (bringBack func()) {
	t.Helper()
	dir := filepath.Dir(path)
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(dir, dir+".away")
	return func() {
		t.Helper()
		move(dir+".away", dir)
	}
}

func TestOrdersOfOthersAreRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var cfg Config
		r := newRig(t, agenttest.New(), func(c *Config) { cfg = *c })
		ctx := t.Context()
		seen := fleet.Order{Cluster: cluster, Incarnation: 2, Epoch: 7}
		if _, err := r.StopReplica(ctx, seen, "x", ""); err != nil {
			t.Fatal(err)
		}
		try := func(name string, a *Agent, o fleet.Order, orders, watch error) {
			t.Helper()
			if _, err := a.StartReplica(ctx, o, assignment("a", nil)); !errors.Is(err, orders) {
				t.Errorf("%s: start: got %v, want %v", name, err, orders)
			}
			if _, err := a.StopReplica(ctx, o, "a", ""); !errors.Is(err, orders) {
				t.Errorf("%s: stop: got %v, want %v", name, err, orders)
			}
			if _, err := a.Fence(ctx, o, false); !errors.Is(err, orders) {
				t.Errorf("%s: fence: got %v, want %v", name, err, orders)
			}
			if _, err := look(ctx, a, o); !errors.Is(err, watch) {
				t.Errorf("%s: watch: got %v, want %v", name, err, watch)
			}
		}
		try("older epoch", r.Agent, fleet.Order{Cluster: cluster, Incarnation: 2, Epoch: 6}, fleet.ErrStaleEpoch, nil)
		try("older incarnation", r.Agent, fleet.Order{Cluster: cluster, Incarnation: 1, Epoch: 99}, fleet.ErrStaleEpoch, nil)
		try("other cluster", r.Agent, fleet.Order{Cluster: "c2", Incarnation: 9, Epoch: 9}, fleet.ErrForeignCluster, fleet.ErrForeignCluster)
		try("no cluster", r.Agent, fleet.Order{Incarnation: 9, Epoch: 9}, fleet.ErrForeignCluster, fleet.ErrForeignCluster)
		if got := onDisk(t, cfg.StateFile); fleet.Order(got) != seen {
			t.Errorf("what was refused changed the file to %+v", got)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		try("stopped", r.Agent, seen, fleet.ErrDraining, fleet.ErrDraining)

		// The next life of the node remembers.
		again, stop := nextLife(t, cfg)
		try("older epoch, next life", again, fleet.Order{Cluster: cluster, Incarnation: 2, Epoch: 6}, fleet.ErrStaleEpoch, nil)
		stop()
		// It runs nothing of the old cluster's, and may serve another: then that one alone.
		again, stop = nextLife(t, cfg)
		if _, err := again.StopReplica(ctx, fleet.Order{Cluster: "c2", Epoch: 1}, "a", ""); err != nil {
			t.Errorf("other cluster, next life: %v", err)
		}
		try("first cluster, next life", again, seen, fleet.ErrForeignCluster, fleet.ErrForeignCluster)
		stop()
	})
}

// nextLife runs another life of a node until it is stopped.
func nextLife(t testing.TB, cfg Config) (*Agent, func()) {
	t.Helper()
	cfg.Runtime = agenttest.New()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	return a, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// The state of a cluster that was lost is put back from a backup: the cluster
// has its id still, its raft begins again, and the workers that the lost one
// ordered about go on with it.
func TestRestoredClusterTakesOver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		ctx := t.Context()
		lost := fleet.Order{Cluster: cluster, Epoch: 4711}
		if _, err := r.StartReplica(ctx, lost, assignment("a", nil)); err != nil {
			t.Fatal(err)
		}
		r.until("a", fleet.PhaseReady)
		restored := fleet.Order{Cluster: cluster, Incarnation: 1763000000, Epoch: 1}
		if _, err := r.Fence(ctx, restored, false); err != nil {
			t.Errorf("the restored cluster: %v", err)
		}
		if _, err := r.StopReplica(ctx, lost, "a", ""); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("the lost one, should it be alive: %v", err)
		}
		if _, err := r.StopReplica(ctx, restored, "a", "bye"); err != nil {
			t.Error(err)
		}
		// A cluster that was founded again, not restored, is another cluster.
		if _, err := r.Fence(ctx, fleet.Order{Cluster: "new", Incarnation: 1763000001, Epoch: 1}, false); !errors.Is(err, fleet.ErrForeignCluster) {
			t.Errorf("a cluster of another id: %v", err)
		}
	})
}

// A follower watches with the last order that it knows. That may be old: the
// newest order counts.
func TestWatchesOfFollowers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var path string
		r := newRig(t, agenttest.New(), func(c *Config) { path = c.StateFile })
		ctx := t.Context()
		at := func(epoch fleet.Epoch) fleet.Order { return fleet.Order{Cluster: cluster, Epoch: epoch} }
		for _, watch := range []fleet.Epoch{5, 3, 5, 9, 8} {
			if _, err := look(ctx, r.Agent, at(watch)); err != nil {
				t.Errorf("watch of epoch %d: %v", watch, err)
			}
		}
		synctest.Wait() // a watch does not wait for the file
		if err := r.orders.record(at(9)); err != nil {
			t.Error(err)
		}
		if got := onDisk(t, path); got.Epoch != 9 {
			t.Errorf("the file has %+v", got)
		}
		if _, err := r.StartReplica(ctx, at(8), assignment("a", nil)); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("an order older than a watch: %v", err)
		}
		if _, err := r.StartReplica(ctx, at(9), assignment("a", nil)); err != nil {
			t.Errorf("an order as old as the newest watch: %v", err)
		}
	})
}

// A worker whose ledger cannot be written is heard of, fenced, and told to
// stop; it starts nothing, says so, and goes on once the file can be written.
func TestOrdersThatCannotBeRecorded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var path string
		r := newRig(t, agenttest.New(), func(c *Config) { path = c.StateFile })
		ctx := t.Context()
		for _, id := range []fleet.ReplicaID{"a", "b"} {
			if _, err := r.StartReplica(ctx, order, assignment(id, nil)); err != nil {
				t.Fatal(err)
			}
			r.until(id, fleet.PhaseReady)
		}
		bringBack := takeAway(t, path)
		next := fleet.Order{Cluster: cluster, Epoch: order.Epoch + 1}
		version, err := r.Fence(ctx, next, false)
		if err != nil {
			t.Fatalf("fence: %v", err)
		}
		rep, err := look(ctx, r.Agent, next)
		if err != nil || rep.Version < version || !strings.Contains(rep.Unfit, "cannot record orders") {
			t.Errorf("report %+v, %v, after a fence at %d", rep, err, version)
		}
		if _, err := r.StartReplica(ctx, next, assignment("c", nil)); !errors.Is(err, fleet.ErrNotRecorded) {
			t.Errorf("start: %v", err)
		}
		if _, err := r.StopReplica(ctx, order, "b", "the leader before"); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("an older leader's stop: %v", err)
		}
		if _, err := r.StopReplica(ctx, next, "a", "bye"); err != nil {
			t.Errorf("stop: %v", err)
		}
		r.until("a", fleet.PhaseStopped)
		r.until("b", fleet.PhaseReady)

		bringBack()
		time.Sleep(2 * tidyPeriod) // it tries again by itself
		synctest.Wait()
		if rep, err = look(ctx, r.Agent, next); err != nil || rep.Unfit != "" {
			t.Errorf("afterwards: %q, %v", rep.Unfit, err)
		}
		if got := onDisk(t, path); fleet.Order(got) != next {
			t.Errorf("the file has %+v", got)
		}
		if _, err := r.StartReplica(ctx, next, assignment("c", nil)); err != nil {
			t.Errorf("start: %v", err)
		}
	})
}

// A fence gives a version; a report of that version shows all that older
// orders did which were not refused.
func TestFence(t *testing.T) {
	const rounds, starters = 20, 3
	r := newRig(t, agenttest.New(), nil)
	for round := range rounds {
		old := fleet.Order{Cluster: cluster, Epoch: fleet.Epoch(2*round + 1)}
		var mu sync.Mutex
		obeyed := map[fleet.ReplicaID]bool{}
		var starting sync.WaitGroup
		for n := range starters {
			starting.Go(func() {
				for i := 0; ; i++ {
					id := fleet.ReplicaID(fmt.Sprintf("r-%d-%d-%d", round, n, i))
					_, err := r.StopReplica(t.Context(), old, id, "a tombstone is cheap")
					if errors.Is(err, fleet.ErrStaleEpoch) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					obeyed[id] = true
					mu.Unlock()
				}
			})
		}
		fence := fleet.Order{Cluster: cluster, Epoch: old.Epoch + 1}
		version, err := r.Fence(t.Context(), fence, false)
		if err != nil {
			t.Fatal(err)
		}
		r.board.mu.Lock()
		shown := map[fleet.ReplicaID]bool{}
		for id, e := range r.board.entries {
			shown[id] = e.version <= version
		}
		r.board.mu.Unlock()
		starting.Wait()
		for id := range obeyed {
			if in, kept := shown[id]; kept && !in {
				t.Errorf("%s was obeyed, and is newer than the fence's report", id)
			} else if !kept && !r.forgotten(id) {
				t.Errorf("%s was obeyed after the fence", id)
			}
		}
		rep, err := look(t.Context(), r.Agent, fence)
		if err != nil || rep.Version < version {
			t.Errorf("a report of version %d, %v, after a fence at %d", rep.Version, err, version)
		}
	}
}

// An older order that was admitted just before the fence is waited for.
func TestFenceWaitsForWhatWasAdmitted(t *testing.T) {
	r := newRig(t, agenttest.New(), nil)
	ctx := t.Context()
	if _, err := r.Fence(ctx, order, false); err != nil {
		t.Fatal(err)
	}
	type outcome struct {
		version uint64
		err     error
	}
	started, fenced := make(chan outcome, 1), make(chan outcome, 1)
	r.Agent.mu.Lock() // holds the start up between its admission and the board
	old := fleet.Order{Cluster: cluster, Epoch: 2}
	go func() {
		v, err := r.StartReplica(ctx, old, assignment("a", nil))
		started <- outcome{v, err}
	}()
	for admitted := false; !admitted; runtime.Gosched() {
		r.orders.mu.Lock()
		admitted = r.orders.seen == old
		r.orders.mu.Unlock()
	}
	go func() {
		v, err := r.Fence(ctx, fleet.Order{Cluster: cluster, Epoch: 3}, false)
		fenced <- outcome{v, err}
	}()
	select {
	case f := <-fenced:
		t.Errorf("fenced at %d, %v, while an older order was on its way", f.version, f.err)
		fenced <- f
	case <-time.After(100 * time.Millisecond): // if it waits, it waits for ever
	}
	r.Agent.mu.Unlock()
	s := <-started
	f := <-fenced
	if s.err != nil || f.err != nil || f.version < s.version {
		t.Errorf("started at %d, %v; fenced at %d, %v", s.version, s.err, f.version, f.err)
	}
}

// forgotten reports whether the board no longer knows the replica.
func (r *rig) forgotten(id fleet.ReplicaID) bool {
	_, known := r.board.stderrOf(id)
	return !known
}

func TestReportsCarryTheGeneration(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		as := assignment("a", nil)
		as.Generation = 3
		if _, err := r.StartReplica(t.Context(), order, as); err != nil {
			t.Fatal(err)
		}
		if got := r.until("a", fleet.PhaseReady); got.Generation != 3 {
			t.Errorf("generation %d", got.Generation)
		}
	})
}

// A start that is on its way when its leader is deposed is either refused or
// shown: here it waits for the sweep together with the fence.
func TestFenceDuringTheSweep(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		rt.Inject(agenttest.Fault{Step: agenttest.StepSweep, Delay: time.Second})
		r := newRig(t, rt, nil)
		started := make(chan error, 1)
		go func() {
			_, err := r.StartReplica(t.Context(), order, assignment("a", nil))
			started <- err
		}()
		synctest.Wait()
		version, err := r.Fence(t.Context(), fleet.Order{Cluster: cluster, Epoch: 2}, false)
		if err != nil {
			t.Fatal(err)
		}
		err = <-started
		r.board.mu.Lock()
		defer r.board.mu.Unlock()
		e, known := r.board.entries["a"]
		refused := errors.Is(err, fleet.ErrStaleEpoch) && !known
		shown := err == nil && known && e.first <= version
		if !refused && !shown {
			t.Errorf("the start: %v; known: %v", err, known)
		}
	})
}
