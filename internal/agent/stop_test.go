package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// over waits for the end of a Run that was told to stop.
func (r *rig) over() error {
	<-r.stopped
	return r.stop() // nothing is left to hurry
}

func (r *rig) fence(o fleet.Order, renewed bool) {
	r.t.Helper()
	if _, err := r.Fence(r.t.Context(), o, renewed); err != nil {
		r.t.Fatal(err)
	}
}

// A node that is told to stop goes on serving, starts nothing more, and ends
// when the controllers have moved all that it runs.
func TestDrain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		r.ready("b", nil)
		began := time.Now()
		r.tell()
		r.view.until(t, "the node drains", func(v *view) (bool, any) { return v.last.Draining, v.last })
		if _, err := r.StartReplica(t.Context(), order, assignment("c", nil)); !errors.Is(err, fleet.ErrDraining) {
			t.Errorf("a new replica: %v", err)
		}
		if _, err := r.StartReplica(t.Context(), order, assignment("a", nil)); err != nil {
			t.Errorf("the repeated order of one that runs: %v", err)
		}
		if _, err := r.Fence(t.Context(), fleet.Order{Cluster: cluster, Epoch: 2}, false); err != nil {
			t.Errorf("a new leader: %v", err)
		}
		next := fleet.Order{Cluster: cluster, Epoch: 2}
		for _, id := range []fleet.ReplicaID{"a", "b"} {
			time.Sleep(5 * time.Second) // of the bubble's clock: its replacement starts
			if got := r.call(id, "echo", `{"text":"hi"}`).text(t); got != "hi" {
				t.Errorf("%s answered %q", id, got)
			}
			running := r.call(id, "slow", `{"ms":500}`)
			if _, err := r.StopReplica(t.Context(), next, id, "moved"); err != nil {
				t.Error(err)
			}
			running.text(t)
			if got := r.until(id, fleet.PhaseStopped); got.Reason != "moved" {
				t.Errorf("%s ended because %q", id, got.Reason)
			}
		}
		if err := r.over(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began).Round(time.Millisecond); took != 11*time.Second {
			t.Errorf("took %s", took)
		}
		if _, err := r.StartReplica(t.Context(), next, assignment("e", nil)); !errors.Is(err, fleet.ErrDraining) {
			t.Errorf("start after the end: %v", err)
		}
	})
}

// Replicas that nobody moves are stopped when the time is over.
func TestDrainGivesUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), func(c *Config) { c.DrainTimeout = 5 * time.Second })
		stubborn := agenttest.Echo{IgnoreEOF: true, IgnoreTerm: true}.Serve
		ids := []fleet.ReplicaID{"a", "b", "c", "d"}
		for _, id := range ids {
			r.rt.Handle(fleet.ServerName(id), stubborn)
			r.ready(id, nil)
		}
		began := time.Now()
		r.tell()
		time.Sleep(4 * time.Second)
		busy, short := r.call("a", "slow", `{"ms":60000}`), r.call("a", "slow", `{"ms":3500}`)
		if err := r.over(); err != nil {
			t.Fatal(err)
		}
		// 5 s of waiting, 3 s for the calls, then 2 + 2 s of the ladder, all at once.
		if took := time.Since(began); took != 12*time.Second {
			t.Errorf("took %s", took)
		}
		short.text(t)
		if e := busy.reply(t); !errors.Is(e.Err, fleet.ErrReplicaLost) {
			t.Errorf("the running call: %v", e.Err)
		}
		v := r.view.snapshot()
		for _, id := range ids {
			if got := v.replicas[id]; got.Phase != fleet.PhaseStopped {
				t.Errorf("the last report shows %s as %s", id, got.Phase)
			}
		}
		if !v.last.Draining {
			t.Error("the last report does not say that the node drains")
		}
	})
}

// Told to hurry, before or while it drains, a node waits for nobody to move
// what it runs, and for running calls only shortly.
func TestHurry(t *testing.T) {
	for name, tc := range map[string]struct {
		tell  func(*rig)
		calls bool
		takes time.Duration
	}{
		"at once":             {func(r *rig) { r.rush(); r.tell() }, false, 0},
		"with a running call": {func(r *rig) { r.rush(); r.tell() }, true, lastCalls},
		"while it drains":     {func(r *rig) { r.tell(); time.Sleep(7 * time.Second); r.rush() }, false, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				r.ready("a", nil)
				r.rt.Inject(agenttest.Fault{Step: agenttest.StepPull, Server: "b", Delay: time.Hour})
				r.start("b", nil)
				r.until("b", fleet.PhasePulling)
				if tc.calls {
					r.call("a", "slow", `{"ms":60000}`)
				}
				began := time.Now()
				tc.tell(r)
				if err := r.over(); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != tc.takes {
					t.Errorf("took %s, want %s", took, tc.takes)
				}
			})
		})
	}
}

// Told to wait for nothing, a node that stops kills its servers: whether a call
// runs, or they have been asked to end and do not.
func TestNow(t *testing.T) {
	for name, tc := range map[string]struct {
		calls bool
		after time.Duration
	}{
		"a call runs":         {true, time.Second},
		"its stdin is closed": {false, time.Second},
		"TERM was sent":       {false, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				now := make(chan struct{})
				rt := agenttest.New()
				r := newRig(t, rt, func(c *Config) { c.Now = now })
				rt.Handle("a", agenttest.Echo{IgnoreEOF: true, IgnoreTerm: true}.Serve)
				r.ready("a", nil)
				if tc.calls {
					r.call("a", "slow", `{"ms":60000}`)
				}
				began := time.Now()
				r.rush()
				r.tell()
				time.Sleep(tc.after) // of the bubble's clock
				close(now)
				if err := r.over(); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != tc.after {
					t.Errorf("took %s, want %s", took, tc.after)
				}
			})
		})
	}
}

// To hurry is no order to stop.
func TestHurryAlone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.rush()
		r.ready("a", nil)
		synctest.Wait()
		if got := r.call("a", "echo", `{"text":"hi"}`).text(t); got != "hi" {
			t.Errorf("answered %q", got)
		}
	})
}

// Where nobody watches there is nobody to wait for.
func TestNobodyMovesReplicas(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, err := New(Config{Node: fleet.NodeInfo{Node: "n"}, Runtime: agenttest.New(), Log: testLog(t), StateFile: t.TempDir() + "/s"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		watchCtx, leave := context.WithCancel(t.Context())
		watched := newView()
		go func() { _ = a.Watch(watchCtx, order, watched.take) }()
		if _, err := a.StartReplica(t.Context(), order, assignment("a", nil)); err != nil {
			t.Fatal(err)
		}
		watched.until(t, "it is ready", func(v *view) (bool, any) { return v.replicas["a"].Phase == fleet.PhaseReady, v.replicas })
		began := time.Now()
		stop()
		time.Sleep(6 * time.Second) // of the bubble's clock
		select {
		case err := <-ended:
			t.Fatalf("a controller watches, but the node ended: %v", err)
		default:
		}
		leave() // and does not come back
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 8*time.Second || took > 9*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A node that drains waits for a leader that gives signs of life, and not for
// one that does not, whoever watches.
func TestNobodyLeads(t *testing.T) {
	next := fleet.Order{Cluster: cluster, Epoch: 2}
	for name, tc := range map[string]struct {
		happens func(*rig) // while the node drains, after a leader has fenced it that would renew that
		calls   bool
		takes   time.Duration
	}{
		"since before the drain": {func(*rig) {}, false, 5 * time.Second},
		"later": {func(r *rig) {
			for range 4 {
				time.Sleep(2 * time.Second)
				r.fence(order, true)
			}
		}, false, 13 * time.Second},
		"later, as other orders show": {func(r *rig) {
			time.Sleep(4 * time.Second)
			r.order("b", "moved")
		}, false, 9 * time.Second},
		"a call runs": {func(*rig) {}, true, 8 * time.Second},
		"another was elected": {func(r *rig) {
			time.Sleep(3 * time.Second)
			r.fence(next, true)
		}, false, 8 * time.Second},
		"another was elected, which renews nothing": {func(r *rig) {
			time.Sleep(3 * time.Second)
			r.fence(next, false)
		}, false, DefaultDrainTimeout},
		"another was elected, and only a follower told": {func(r *rig) {
			time.Sleep(3 * time.Second)
			ctx, leave := context.WithCancel(r.t.Context())
			go func() { _ = r.Watch(ctx, next, newView().take) }()
			synctest.Wait()
			leave()
		}, false, DefaultDrainTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				r.fence(order, true)
				r.ready("a", nil)
				r.ready("b", nil)
				time.Sleep(time.Minute) // a leader has nothing to tell
				began := time.Now()
				r.tell()
				synctest.Wait()
				if tc.calls {
					running := r.call("a", "slow", `{"ms":8000}`)
					defer running.text(t)
				}
				tc.happens(r)
				if err := r.over(); err != nil {
					t.Error(err)
				}
				if took := time.Since(began).Round(time.Second); took != tc.takes {
					t.Errorf("took %s, want %s", took, tc.takes)
				}
			})
		})
	}
}

// Told to hurry after the drain was given up, a node does not wait for a call
// that nobody waits for either.
func TestHurryAfterTheDrain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		hurry := make(chan struct{})
		rt := agenttest.New()
		a, err := New(Config{Node: fleet.NodeInfo{Node: "n"}, Runtime: rt, Log: testLog(t), StateFile: t.TempDir() + "/s", Hurry: hurry})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		watchCtx, leave := context.WithCancel(t.Context())
		watched := newView()
		go func() { _ = a.Watch(watchCtx, order, watched.take) }()
		if _, err := a.StartReplica(t.Context(), order, assignment("a", nil)); err != nil {
			t.Fatal(err)
		}
		watched.until(t, "it is ready", func(v *view) (bool, any) { return v.replicas["a"].Phase == fleet.PhaseReady, v.replicas })
		(&rig{Agent: a}).call("a", "slow", `{"ms":60000}`)
		leave()
		time.Sleep(5 * time.Second) // of the bubble's clock
		began := time.Now()
		stop()
		time.Sleep(5 * time.Second)
		select {
		case err := <-ended:
			t.Fatalf("the call runs, but the node ended: %v", err)
		default:
		}
		close(hurry)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 5*time.Second+lastCalls {
			t.Errorf("took %s", took)
		}
	})
}
