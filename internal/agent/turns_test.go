package agent

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// startsAtOnce is a rig whose node starts so many replicas at once.
func startsAtOnce(t *testing.T, most int, faults ...agenttest.Fault) *rig {
	t.Helper()
	rt := agenttest.New()
	for _, f := range faults {
		rt.Inject(f)
	}
	return newRig(t, rt, func(c *Config) { c.MaxStarts = most })
}

// now returns the replica as it is reported once nothing moves.
func (r *rig) now(id fleet.ReplicaID) fleet.Replica {
	synctest.Wait()
	return r.view.snapshot().replicas[id]
}

func TestStartsWaitForTheirTurn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := startsAtOnce(t, 2, agenttest.Fault{Step: agenttest.StepStart, Delay: time.Second})
		all := []fleet.ReplicaID{"a", "b", "c", "d", "e", "f"}
		for _, id := range all {
			r.start(id, nil)
			synctest.Wait()
		}
		for i, id := range all {
			want, reason := fleet.PhasePending, "waits for its turn: 2 replicas are starting"
			if i < 2 {
				want, reason = fleet.PhaseStarting, ""
			}
			if got := r.now(id); got.Phase != want || got.Reason != reason {
				t.Errorf("%s is %s: %q; want %s: %q", id, got.Phase, got.Reason, want, reason)
			}
		}
		r.order("d", "no longer needed")
		if got := r.now("d"); got.Phase != fleet.PhaseStopped || len(r.rt.Steps("d")) > 0 {
			t.Errorf("d was stopped while it waited, and is %s after %q", got.Phase, r.rt.Steps("d"))
		}
		r.until("f", fleet.PhaseReady)
		for id, place := range map[fleet.ReplicaID]time.Duration{"a": 0, "b": 0, "c": time.Second, "e": time.Second, "f": 2 * time.Second} {
			if got := r.now(id); got.Phase != fleet.PhaseReady || got.ColdStart.Place != place || got.ColdStart.Start != time.Second {
				t.Errorf("%s is %s, and waited %s for its turn and %s for its start; want %s and 1s", id, got.Phase, got.ColdStart.Place, got.ColdStart.Start, place)
			}
		}
	})
}

// A slow pull delays no other start. Then the replica is before those that were ordered
// later.
func TestAPullTakesNoTurn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := startsAtOnce(t, 1,
			agenttest.Fault{Step: agenttest.StepPull, Server: "slow", Delay: 10 * time.Second},
			agenttest.Fault{Step: agenttest.StepStart, Delay: 7 * time.Second},
		)
		r.start("slow", nil)
		for _, id := range []fleet.ReplicaID{"a", "b", "c"} {
			r.start(id, nil)
			synctest.Wait()
		}
		time.Sleep(11 * time.Second)
		if got := r.now("a"); got.Phase != fleet.PhaseReady {
			t.Errorf("a is %s beside a slow pull", got.Phase)
		}
		if got := r.now("slow"); got.Phase != fleet.PhasePulling || !strings.HasPrefix(got.Reason, "waits for its turn") {
			t.Errorf("the pulled one is %s: %q", got.Phase, got.Reason)
		}
		got := r.until("slow", fleet.PhaseReady).ColdStart
		if want := (fleet.ColdStart{Place: 4 * time.Second, Pull: 10 * time.Second, Start: 7 * time.Second}); got != want {
			t.Errorf("the phases took %+v, want %+v", got, want)
		}
		if c := r.until("c", fleet.PhaseReady); c.ColdStart.Place != 21*time.Second {
			t.Errorf("c, which was ordered later, waited for %s, want 21s", c.ColdStart.Place)
		}
	})
}

// container is a process that was created before it started.
type container struct {
	fleet.Process
	at time.Time
}

func (c container) Created() time.Time { return c.at }

// containers takes a while to create each process.
type containers struct {
	*agenttest.Runtime
	takes time.Duration
}

func (rt containers) Start(ctx context.Context, l fleet.Launch) (fleet.Process, error) {
	time.Sleep(rt.takes)
	at := time.Now()
	p, err := rt.Runtime.Start(ctx, l)
	return container{p, at}, err
}

// late writes each answer after its delay.
type late struct {
	io.Writer
	delays []time.Duration
}

func (w *late) Write(p []byte) (int, error) {
	if len(w.delays) > 0 {
		time.Sleep(w.delays[0])
		w.delays = w.delays[1:]
	}
	return w.Writer.Write(p)
}

func TestPhasesOfAColdStart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		rt.Inject(agenttest.Fault{Step: agenttest.StepPull, Delay: 5 * time.Second})
		rt.Inject(agenttest.Fault{Step: agenttest.StepStart, Delay: time.Second})
		rt.Handle("s", func(ctx context.Context, s *agenttest.Stdio) int {
			s.Out = &late{s.Out, []time.Duration{time.Second, time.Second, 3 * time.Second}} // server/discover, initialize, tools/list
			return agenttest.Echo{}.Serve(ctx, s)
		})
		r := newRig(t, rt, func(c *Config) { c.Runtime = containers{rt, 4 * time.Second} })
		r.start("s", nil)
		want := fleet.ColdStart{Pull: 5 * time.Second, Create: 4 * time.Second, Start: time.Second, Handshake: 2 * time.Second, List: 3 * time.Second}
		if got := r.until("s", fleet.PhaseReady).ColdStart; got != want {
			t.Errorf("the phases took %+v, want %+v", got, want)
		}
	})
}

// A replica that does not become READY keeps its turn until it has ended, and the time
// of those that wait begins with their turn.
func TestATurnEndsWithItsReplica(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := startsAtOnce(t, 1, agenttest.Fault{Step: agenttest.StepRemove, Server: "deaf", Delay: 5 * time.Second})
		r.rt.Handle("deaf", agenttest.Echo{Silent: true}.Serve)
		short := func(t *fleet.Template) { t.StartTimeout = 3 * time.Second }
		r.start("deaf", short)
		synctest.Wait()
		r.start("a", short)
		time.Sleep(3*time.Second + time.Millisecond)
		if got := r.now("a"); got.Phase != fleet.PhasePending {
			t.Errorf("a is %s before the other has ended", got.Phase)
		}
		if got := r.until("a", fleet.PhaseReady); got.ColdStart.Place < 8*time.Second {
			t.Errorf("a waited for %s, want 8s and more", got.ColdStart.Place)
		}
		if got := r.now("deaf"); got.Phase != fleet.PhaseFailed {
			t.Errorf("the other is %s", got.Phase)
		}
	})
}

// A start whose image was removed in between pulls it once more, without its turn.
func TestAnImageThatIsGone(t *testing.T) {
	for _, tt := range []struct {
		name  string
		times int
		want  fleet.Phase
	}{{"once", 1, fleet.PhaseReady}, {"twice", 2, fleet.PhaseFailed}} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := startsAtOnce(t, 1, agenttest.Fault{Step: agenttest.StepStart, Err: fleet.ErrImageGone, Times: tt.times})
				r.start("a", func(t *fleet.Template) { t.Image, t.Command = "img", nil })
				r.until("a", tt.want)
				if got := r.rt.Prepared(); !slices.Equal(got, []string{"img", "img"}) {
					t.Errorf("prepared %q, want the image twice", got)
				}
				r.ready("b", nil) // the turn was given back
			})
		})
	}
}

// A turn that is given at the moment in which its replica gives up goes to the next one.
func TestATurnIsNotLost(t *testing.T) {
	ts := &turns{most: 1}
	first, second, third := ts.newTurn(1), ts.newTurn(2), ts.newTurn(3)
	none := func(string) {}
	if err := first.take(t.Context(), none); err != nil {
		t.Fatal(err)
	}
	if second.takeNow() || third.takeNow() {
		t.Fatal("two replicas have the only turn")
	}
	first.giveBack() // given to the second, which
	second.giveBack()
	select {
	case <-third.given:
	default:
		t.Fatal("the turn did not reach the third")
	}
	third.giveBack()
	third.giveBack()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	if err := first.take(ctx, none); err != nil {
		t.Errorf("a free turn: %v", err)
	}
	if err := second.take(ctx, none); !errors.Is(err, why) {
		t.Errorf("a turn that was given up: %v", err)
	}
	first.giveBack()
	if ts.taken != 0 || len(ts.waiting) != 0 {
		t.Errorf("%d turns are taken, %d waiting", ts.taken, len(ts.waiting))
	}
}
