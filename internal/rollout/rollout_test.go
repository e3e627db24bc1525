package rollout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A tool that the fleet file renames is called by its own name.
func TestVerify(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, verify(ping, fleet.VerifyCall{Tool: "older", Expect: "ok"}))
		defer w.stop()
		time.Sleep(5 * time.Second)
		if w.called != nil {
			t.Fatalf("calls %q before there is a replica", w.called)
		}
		w.run("new2", 2, "same")
		time.Sleep(time.Second)
		w.run("new1", 2, "same")
		time.Sleep(5 * time.Second)
		if want := []string{`new2 {"name":"ping","arguments":{"n":1}}`, `new2 {"name":"old","arguments":{}}`}; !slices.Equal(w.called, want) {
			t.Errorf("calls %q, want %q", w.called, want)
		}
		if r := w.rollout(); !r.Checked || r.Held != "" || r.Warning != "" {
			t.Errorf("rollout %+v, want it checked", r)
		}
		if !w.saw("passed its 2 verify calls") {
			t.Errorf("events %q", w.events)
		}
	})
}

func TestVerifyFails(t *testing.T) {
	hangs := func(ctx context.Context, _ fleet.CallRequest) (fleet.CallResult, error) {
		<-ctx.Done()
		return fleet.CallResult{}, context.Cause(ctx)
	}
	always := func(res fleet.CallResult, err error) func(context.Context, fleet.CallRequest) (fleet.CallResult, error) {
		return func(context.Context, fleet.CallRequest) (fleet.CallResult, error) { return res, err }
	}
	large := fleet.CallResult{Stream: io.NopCloser(strings.NewReader("")), StreamSize: maxResult + 1}
	for _, tt := range []struct {
		name   string
		answer func(context.Context, fleet.CallRequest) (fleet.CallResult, error)
		why    string
		calls  int
	}{
		{"another text", always(text("pang"), nil), `verify call 1 to tool ping: expected a result with the text "pong", got a result: "pang"`, 1},
		{"isError", always(fleet.CallResult{Result: []byte(`{"isError":true,"content":[{"type":"text","text":"key hunter2 expired"}]}`)}, nil), `got isError: "key *** expired"`, 1},
		{"an error", always(fleet.CallResult{Error: []byte(`{"code":-32602,"message":"bad hunter2"}`)}, nil), `expected a result, got the error {"code":-32602,"message":"bad ***"}`, 1},
		{"no answer", hangs, "verify call 1 to tool ping: no answer within 10s", 1},
		{"a bad reply", always(fleet.CallResult{}, fmt.Errorf("hunter2: %w", fleet.ErrBadReply)), "***: server sent an invalid reply", 1},
		{"it dies, twice", always(fleet.CallResult{}, fleet.ErrReplicaLost), "verify call 1 to tool ping: replica lost during the call", 2},
		{"too large", always(large, nil), "too large to be checked", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, verify(ping))
				defer w.stop()
				w.answer = tt.answer
				w.run("new", 2, "same")
				time.Sleep(15 * time.Second)
				w.wantFailed(true, tt.why)
				w.wantOutcome(failedChecks)
				if len(w.called) != tt.calls {
					t.Errorf("calls %q, want %d", w.called, tt.calls)
				}
			})
		})
	}
}

// What says nothing about the revision is tried again.
func TestVerifyAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, verify(ping))
		defer w.stop()
		tries, replies := 0, []error{fleet.ErrNotDelivered, fleet.ErrWorkerLost, fleet.ErrReplicaLost}
		w.answer = func(context.Context, fleet.CallRequest) (fleet.CallResult, error) {
			if tries++; tries <= len(replies) {
				return fleet.CallResult{}, replies[tries-1]
			}
			return fleet.CallResult{Stream: io.NopCloser(strings.NewReader(string(text("pong").Result))), StreamSize: 50}, nil
		}
		w.run("new", 2, "same")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if tries != 4 || !w.rollout().Checked {
			t.Errorf("%d tries, rollout %+v; want 4, the last one passed", tries, w.rollout())
		}
	})
}

// A check ends with the tenure, the pause or the rollout that it was made for, and
// what it found is ignored.
func TestVerifyIsOvertaken(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(w *world)
		ends bool // the call
	}{
		{"another revision", func(w *world) {
			spec := w.State().Servers["s"].Spec
			spec.Image = "c"
			w.do(desired.PutServer{Name: "s", Spec: spec})
		}, true},
		{"removed", func(w *world) { w.do(desired.DeleteServer{Name: "s"}) }, true},
		{"the tenure ends", func(w *world) { w.stop() }, true},
		{"paused", func(w *world) { w.do(desired.SetRollout{Name: "s", Verb: desired.PauseRollout}) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, verify(ping))
				ended := make(chan struct{})
				fail := make(chan struct{})
				w.answer = func(ctx context.Context, _ fleet.CallRequest) (fleet.CallResult, error) {
					select {
					case <-ctx.Done():
						close(ended)
						return fleet.CallResult{}, context.Cause(ctx)
					case <-fail:
						return text("pang"), nil
					}
				}
				w.run("new", 2, "same")
				time.Sleep(time.Second)
				tt.do(w)
				synctest.Wait()
				select {
				case <-ended:
					if !tt.ends {
						t.Error("the call has ended")
					}
				default:
					if tt.ends {
						t.Error("the call still runs")
					}
				}
				close(fail)
				time.Sleep(time.Second)
				if sv := w.State().Servers["s"]; sv != nil && (sv.Failed != nil || sv.Rollout.Checked) {
					t.Errorf("failed %+v, rollout %+v", sv.Failed, sv.Rollout)
				}
				w.stop()
			})
		})
	}
}

func TestBreakingTools(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.stop()
		w.run("new", 2, "fewer")
		time.Sleep(time.Second)
		if r := w.rollout(); !r.Checked || r.Held != "" || r.Warning != "tool old: it is gone" {
			t.Errorf("rollout %+v, want a warning", r)
		}
		if !w.saw("callers may break: tool old: it is gone") {
			t.Errorf("events %q", w.events)
		}
	})
}

func TestBreakingToolsHold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, hold)
		defer w.stop()
		w.run("new", 2, "fewer")
		w.calls("new", 0, 100)
		time.Sleep(time.Hour)
		if r := w.rollout(); r.Checked || !strings.Contains(r.Held, "callers may break: tool old: it is gone; waiting for rollout resume") {
			t.Errorf("rollout %+v, want it held", r)
		}
		if !w.saw("rollout_held callers may break") {
			t.Errorf("events %q", w.events)
		}
		w.do(desired.SetRollout{Name: "s", Verb: desired.ResumeRollout})
		time.Sleep(time.Hour)
		if r := w.rollout(); !r.Checked || r.Held != "" || r.Warning == "" {
			t.Errorf("rollout %+v, want it resumed, with the warning", r)
		}
	})
}

// A catalogue that was too large to be kept is that of a replica.
func TestToolsOfReplicas(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, hold)
		defer w.stop()
		w.state.Servers["s"].Revisions[0].Catalogue = nil
		w.run("new", 2, "fewer")
		time.Sleep(time.Second)
		if r := w.rollout(); r.Held == "" {
			t.Errorf("rollout %+v, want it held", r)
		}
	})
}

// Tools that are not known hold no rollout. The event says that they were not compared.
func TestToolsAreNotKnown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, hold)
		defer w.stop()
		w.state.Servers["s"].Revisions[0].Catalogue = nil
		w.end("old1", "old2")
		w.run("new", 2, "fewer")
		time.Sleep(time.Second)
		if r := w.rollout(); r.Held != "" || !r.Checked {
			t.Errorf("rollout %+v, want it checked", r)
		}
		if !w.saw("its tools were not compared: those of a revision are not known") {
			t.Errorf("events %q", w.events)
		}
	})
}

// A new revision is judged in every rollout, as soon as there are enough calls, and
// then whenever there are twice as many.
func TestWorseIsRolledBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.stop()
		w.calls("old1", 0, 1000) // before the rollout
		w.run("new", 2, "same")
		time.Sleep(2 * time.Second)
		w.calls("old1", 20, 0)
		w.calls("new", 49, 0)
		time.Sleep(2 * time.Second)
		w.calls("new", 1, 0)
		time.Sleep(2 * time.Second) // judged at 50
		w.calls("old2", 60, 0)
		w.calls("new", 0, 49)
		time.Sleep(2 * time.Second)
		if sv := w.State().Servers["s"]; sv.Failed != nil {
			t.Fatalf("rolled back before there are twice as many calls: %+v", sv.Failed)
		}
		w.calls("new", 0, 1)
		time.Sleep(2 * time.Second)
		w.wantFailed(false, "it serves worse: revision 2: 50 of 100 calls failed, revision 1: 0 of 80; p = ")
		w.wantOutcome(servedWorse)
		if !w.saw("rolled_back revision 2 failed: it serves worse") {
			t.Errorf("events %q", w.events)
		}
	})
}

// All calls of a replica that starts meanwhile count, also those before it is looked at:
// one that dies of its first calls may never be seen alive.
func TestFirstCallsOfReplicas(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.stop()
		w.run("new", 2, "same")
		time.Sleep(2100 * time.Millisecond)
		w.calls("old1", 100, 0)
		w.run("new2", 2, "same")
		w.calls("new2", 0, 60)
		time.Sleep(2 * time.Second)
		w.wantFailed(false, "60 of 60 calls failed")
	})
}

// Calls count only while both revisions serve.
func TestLateCallsDoNotCount(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.stop()
		w.run("new", 2, "same")
		time.Sleep(2 * time.Second)
		w.calls("old1", 100, 0)
		w.calls("new", 12, 0)
		time.Sleep(2 * time.Second)
		w.end("old1", "old2")
		w.calls("new", 0, 1000)
		time.Sleep(2 * time.Second)
		w.do(desired.EndRollout{Name: "s", Revision: 2})
		w.wantOutcome(rolledOut)
		if !w.saw("revision 2: rolled out; 12 calls of revision 2: too few to judge") {
			t.Errorf("events %q", w.events)
		}
	})
}

func TestCanary(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, canary(fleet.GateAuto, 5, 50))
		defer w.stop()
		time.Sleep(time.Hour)
		if r := w.rollout(); r.Step != 0 {
			t.Fatalf("rollout %+v, want it to wait for the new replica", r)
		}
		w.run("new", 2, "same")
		time.Sleep(59 * time.Second)
		w.calls("old1", 200, 0)
		w.calls("new", 12, 0)
		if r := w.rollout(); r.Step != 0 {
			t.Errorf("rollout %+v before the step is over", r)
		}
		time.Sleep(3 * time.Second)
		if r := w.rollout(); r.Step != 1 || !r.Checked {
			t.Errorf("rollout %+v, want the second step", r)
		}
		if !w.saw("revision 2: canary with 5% of the calls: 12 calls of revision 2: too few to judge") {
			t.Errorf("events %q", w.events)
		}
		w.calls("old1", 60, 0)
		w.calls("new", 60, 0)
		time.Sleep(62 * time.Second)
		if r := w.rollout(); r.Step != 2 {
			t.Errorf("rollout %+v, want it past the canary", r)
		}
		if !w.saw("canary with 50% of the calls: revision 2: 0 of 60 calls failed, revision 1: 0 of 60: not worse") {
			t.Errorf("events %q", w.events)
		}
		w.do(desired.EndRollout{Name: "s", Revision: 2})
		w.wantOutcome(rolledOut)
		if w.saw("too few to judge") && w.saw("rolled out;") {
			t.Errorf("events %q: it was judged", w.events)
		}
	})
}

// Nobody calls an idle server, and its old replicas have stopped. The steps pass, one
// after the other.
func TestCanaryOfIdleServer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, canary(fleet.GateAuto, 5, 50))
		defer w.stop()
		spec := w.State().Servers["s"].Spec
		spec.Autoscaling = &fleet.Autoscaling{MaxReplicas: 3, TargetOngoing: 2}
		w.do(desired.PutServer{Name: "s", Spec: spec})
		w.do(desired.SetTarget{Name: "s", Written: w.State().Servers["s"].Written})
		w.end("old1", "old2")
		w.run("new", 2, "same")
		w.wantTwoSteps()
		if !w.saw("revision 2: canary with 50% of the calls: 0 calls of revision 2: too few to judge") {
			t.Errorf("events %q", w.events)
		}
	})
}

// The old replicas do not serve: the new revision may be the repair. The steps pass, and
// say that nothing was compared.
func TestCanaryBesideNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, canary(fleet.GateAuto, 5, 50))
		defer w.stop()
		w.end("old1", "old2")
		w.run("new", 2, "same")
		w.calls("new", 60, 0)
		w.wantTwoSteps()
		if !w.saw("revision 2: canary with 50% of the calls: revision 1 did not serve meanwhile: nothing to compare with") {
			t.Errorf("events %q", w.events)
		}
	})
}

// The time of the checks is not part of the first step.
func TestStepBeginsAfterTheChecks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, func(u *fleet.Update) {
			verify(ping, ping, ping, ping)(u)
			canary(fleet.GateAuto, 5)(u)
		})
		defer w.stop()
		w.answer = func(context.Context, fleet.CallRequest) (fleet.CallResult, error) {
			time.Sleep(9 * time.Second)
			return text("pong"), nil
		}
		w.run("new", 2, "same")
		time.Sleep(95 * time.Second)
		if r := w.rollout(); !r.Checked || r.Step != 0 {
			t.Errorf("rollout %+v before the step is over", r)
		}
		time.Sleep(3 * time.Second)
		if r := w.rollout(); r.Step != 1 {
			t.Errorf("rollout %+v, want the step passed", r)
		}
	})
}

// Each step is judged by its own calls, also those since the last look.
func TestCanaryIsWorse(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, canary(fleet.GateAuto, 5, 50))
		defer w.stop()
		w.run("new", 2, "same")
		time.Sleep(time.Second)
		w.calls("old1", 1000, 0)
		w.calls("new", 1000, 0)
		time.Sleep(62 * time.Second)
		w.calls("old1", 60, 0)
		w.calls("new", 55, 0)
		time.Sleep(5 * time.Second)
		w.calls("new", 0, 40)
		time.Sleep(40 * time.Second)
		if r := w.rollout(); r.Step != 1 {
			t.Fatalf("rollout %+v", r)
		}
		time.Sleep(20 * time.Second)
		w.wantFailed(false, "40 of 95 calls failed, revision 1: 0 of 60")
	})
}

// A canary does not get further with replicas that end again and again, also if few
// calls are lost with them. Ends that others have as well are no fault of a revision.
func TestCanaryCrashes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		exit   fleet.Exit
		old    bool // replicas of the old revision end, too
		failed bool
	}{
		{"it crashes", fleet.Exit{Code: 3}, false, true},
		{"out of memory", fleet.Exit{Code: -1, Signal: "SIGKILL", OOM: true}, false, true},
		{"killed by somebody", fleet.Exit{Code: -1, Signal: "SIGKILL"}, false, false},
		{"stopped", fleet.Exit{Code: 3, Requested: true}, false, false},
		{"nobody called it", fleet.Exit{}, false, false},
		{"both crash", fleet.Exit{Code: 3}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, canary(fleet.GateAuto, 20))
				defer w.stop()
				w.run("new0", 2, "same")
				for i := range 6 {
					time.Sleep(8 * time.Second)
					w.calls("old1", 160, 0)
					w.exit(fleet.ReplicaID(fmt.Sprint("new", i)), tt.exit)
					if tt.old {
						w.run(fleet.ReplicaID(fmt.Sprint("old1-", i)), 1, "same")
						w.exit(fleet.ReplicaID(fmt.Sprint("old1-", i)), tt.exit)
					}
					w.run(fleet.ReplicaID(fmt.Sprint("new", i+1)), 2, "same")
				}
				time.Sleep(2 * time.Second)
				switch f := w.State().Servers["s"].Failed; {
				case tt.failed:
					w.wantFailed(false, "it serves worse: 5 replicas of revision 2 have ended by themselves, 0 of revision 1; p = ")
				case f != nil:
					t.Errorf("rolled back: %s", f.Reason)
				}
			})
		})
	}
}

func TestManualGate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, canary(fleet.GateManual, 5, 25))
		defer w.stop()
		w.run("new", 2, "same")
		for step := range 2 {
			time.Sleep(time.Hour)
			if r := w.rollout(); r.Step != step || !strings.Contains(r.Held, "waiting for rollout resume") {
				t.Fatalf("rollout %+v, want it held at step %d", r, step)
			}
			w.do(desired.SetRollout{Name: "s", Verb: desired.ResumeRollout})
		}
		time.Sleep(time.Hour)
		if r := w.rollout(); r.Step != 2 || r.Held != "" {
			t.Errorf("rollout %+v, want it past the canary", r)
		}
	})
}

// A revision that gets worse while it is held is rolled back all the same.
func TestHeldIsJudged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, canary(fleet.GateManual, 25))
		defer w.stop()
		w.run("new", 2, "same")
		time.Sleep(time.Hour)
		w.calls("old1", 200, 0)
		w.calls("new", 0, 60)
		time.Sleep(2 * time.Second)
		w.wantFailed(false, "60 of 60")
	})
}

func TestPauseIsRespected(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, canary(fleet.GateAuto, 5))
		defer w.stop()
		w.run("new", 2, "same")
		time.Sleep(30 * time.Second)
		w.do(desired.SetRollout{Name: "s", Verb: desired.PauseRollout})
		w.calls("old1", 200, 0)
		w.calls("new", 0, 60)
		time.Sleep(time.Hour)
		if r := w.rollout(); !r.Paused || r.Step != 0 {
			t.Errorf("rollout %+v, want it paused", r)
		}
		w.do(desired.SetRollout{Name: "s", Verb: desired.ResumeRollout})
		time.Sleep(50 * time.Second)
		if r := w.rollout(); r == nil || r.Step != 0 {
			t.Errorf("rollout %+v, want the step to begin again", r)
		}
		time.Sleep(12 * time.Second)
		if r := w.rollout(); r.Step != 1 {
			t.Errorf("rollout %+v, want the step passed", r)
		}
	})
}

// A new leader goes on where the old one was. Its step begins again, with its own
// first reading.
func TestNewLeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, func(u *fleet.Update) {
			verify(ping)(u)
			canary(fleet.GateAuto, 5, 50)(u)
		})
		w.run("new", 2, "same")
		time.Sleep(90 * time.Second)
		w.calls("new", 0, 1000)
		w.lead()
		defer w.stop()
		time.Sleep(time.Second)
		w.calls("old1", 100, 0)
		w.calls("new", 100, 0)
		time.Sleep(57 * time.Second)
		if r := w.rollout(); r == nil || r.Step != 1 || len(w.called) != 1 {
			t.Errorf("rollout %+v after %d verify calls; want it at the second step, and verified once", r, len(w.called))
		}
		time.Sleep(5 * time.Second)
		if r := w.rollout(); r == nil || r.Step != 2 {
			t.Errorf("rollout %+v, want it past the canary", r)
		}
	})
}

// What cannot be written is tried again.
func TestWriteFails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.stop()
		w.mu.Lock()
		w.refuse = errors.New("no majority")
		w.mu.Unlock()
		w.run("new", 2, "same")
		time.Sleep(10 * time.Second)
		w.mu.Lock()
		w.refuse = nil
		w.mu.Unlock()
		time.Sleep(2 * time.Second)
		if r := w.rollout(); !r.Checked {
			t.Errorf("rollout %+v, want it checked", r)
		}
	})
}

// A write that takes long holds up no other server.
func TestSlowWrite(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.stop()
		spec := w.State().Servers["s"].Spec
		w.do(desired.PutServer{Name: "other", Spec: spec}, desired.EndRollout{Name: "other", Revision: 1})
		spec.Image = "c"
		w.do(desired.PutServer{Name: "other", Spec: spec})
		w.mu.Lock()
		w.slow = func(c desired.Command) time.Duration {
			if c.Subject().Server == "s" {
				return 9 * time.Second
			}
			return 0
		}
		w.mu.Unlock()
		w.run("new", 2, "same")
		time.Sleep(time.Second)
		w.mu.Lock()
		w.replicas["b"] = &fleet.Replica{ID: "b", Server: "other", Revision: 2, Node: "n", Phase: fleet.PhaseReady, ReadyAt: time.Now(), Catalogue: "same"}
		w.mu.Unlock()
		time.Sleep(2 * time.Second)
		if r := w.State().Servers["other"].Rollout; !r.Checked {
			t.Errorf("rollout %+v, want it checked while a write about another server is under way", r)
		}
		time.Sleep(9 * time.Second)
		if r := w.rollout(); !r.Checked {
			t.Errorf("rollout %+v, want it checked", r)
		}
	})
}

// A rollout without progress is for others to end, and is counted.
func TestNoProgress(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.stop()
		time.Sleep(time.Minute)
		w.do(desired.FailRollout{Name: "s", Revision: 2, Reason: "no progress"})
		w.wantOutcome(noProgress)
		time.Sleep(time.Hour)
		w.wantOutcome(noProgress) // the way back is no new revision
	})
}
