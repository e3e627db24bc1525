package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestLifeOfAReplica(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.rt.Handle("a", agenttest.Echo{PageSize: 3, Complaint: "hello from stderr", Banner: "welcome"}.Serve)
		r.rt.Inject(agenttest.Fault{Step: agenttest.StepPull, Delay: time.Second})
		r.rt.Inject(agenttest.Fault{Step: agenttest.StepStart, Delay: time.Second})
		r.ready("a", func(tpl *fleet.Template) { tpl.Resources.CPUs = 2 })

		got := r.until("a", fleet.PhaseReady)
		if got.Node != "n1" || got.Server != "a" || got.ContainerID != "test-a" || got.Resources.CPUs != 2 || got.ReadyAt.IsZero() {
			t.Errorf("report of a ready replica: %+v", got)
		}
		cat := r.view.snapshot().catalogues[got.Catalogue]
		if len(cat.Tools) != 15 || cat.Protocol == "" || len(cat.ServerInfo) == 0 {
			t.Errorf("catalogue has %d tools, protocol %q", len(cat.Tools), cat.Protocol)
		}
		if got := r.call("a", "echo", `{"text":"hi"}`).text(t); got != "hi" {
			t.Errorf("echo: got %q", got)
		}

		slow := r.call("a", "slow", `{"ms":900}`)
		r.order("a", "scaled down")
		slow.text(t)
		got = r.until("a", fleet.PhaseStopped)
		if got.Reason != "scaled down" || got.Exit == nil || !got.Exit.Requested || got.Failing || got.Load.Total != 2 || got.EndedAt.IsZero() {
			t.Errorf("report of a stopped replica: %+v, exit %+v", got, got.Exit)
		}
		if !slices.Equal(got.Log, []string{"stdout: welcome", "hello from stderr"}) && !slices.Equal(got.Log, []string{"hello from stderr", "stdout: welcome"}) {
			t.Errorf("its last lines: %q", got.Log)
		}
		want := []fleet.Phase{fleet.PhasePulling, fleet.PhaseStarting, fleet.PhaseReady, fleet.PhaseDraining, fleet.PhaseStopped}
		pending := func(p fleet.Phase) bool { return p == fleet.PhasePending } // too short to be seen for sure
		if got := slices.DeleteFunc(r.view.snapshot().phases["a"], pending); !slices.Equal(got, want) {
			t.Errorf("phases: got %v, want %v", got, want)
		}
		wantSteps := []string{"pull", "start", "stdin closed", "exit", "remove"}
		if got := r.rt.Steps("a"); !slices.Equal(got, wantSteps) {
			t.Errorf("steps: got %v, want %v", got, wantSteps)
		}
	})
}

func TestOrdersAreIdempotent(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		ctx := t.Context()
		v1, err := r.StartReplica(ctx, order, assignment("a", nil))
		if err != nil {
			t.Fatal(err)
		}
		r.until("a", fleet.PhaseReady)
		v2, err := r.StartReplica(ctx, order, assignment("a", nil))
		if err != nil || v2 != v1 {
			t.Errorf("second start: version %d, %v; the first had %d", v2, err, v1)
		}
		r.order("a", "one")
		r.order("a", "two")
		if got := r.until("a", fleet.PhaseStopped); got.Reason != "one" {
			t.Errorf("reason %q", got.Reason)
		}
		r.order("a", "three")
		if _, err := r.StartReplica(ctx, order, assignment("a", nil)); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := r.rt.Starts("a"); n != 1 {
			t.Errorf("started %d times", n)
		}
	})
}

func TestStopBeforeStartWins(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.order("late", "not wanted")
		if got := r.until("late", fleet.PhaseStopped); got.EndedAt.IsZero() {
			t.Errorf("tombstone: %+v", got)
		}
		if _, err := r.StartReplica(t.Context(), order, assignment("late", nil)); err != nil {
			t.Errorf("the late start: %v", err)
		}
		synctest.Wait()
		if n := r.rt.Starts("late"); n != 0 {
			t.Errorf("started %d times", n)
		}
	})
}

func TestStopLadder(t *testing.T) {
	for _, tc := range []struct {
		name   string
		server agenttest.Echo
		steps  []string
		takes  time.Duration
		reason string
	}{
		{"ends with its stdin", agenttest.Echo{}, []string{"start", "stdin closed", "exit", "remove"}, 0, "bye"},
		{"needs TERM", agenttest.Echo{IgnoreEOF: true}, []string{"start", "stdin closed", "TERM", "exit", "remove"}, 2 * time.Second, "bye"},
		{"needs KILL", agenttest.Echo{IgnoreEOF: true, IgnoreTerm: true}, []string{"start", "stdin closed", "TERM", "KILL", "exit", "remove"}, 4 * time.Second, "bye; it had to be killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				r.rt.Handle("a", tc.server.Serve)
				r.ready("a", nil)
				began := time.Now()
				r.order("a", "bye")
				got := r.until("a", fleet.PhaseStopped)
				if took := time.Since(began); took != tc.takes {
					t.Errorf("took %s, want %s", took, tc.takes)
				}
				if steps := r.rt.Steps("a"); !slices.Equal(steps, tc.steps) {
					t.Errorf("steps: got %v, want %v", steps, tc.steps)
				}
				if got.Reason != tc.reason || got.Exit.OOM {
					t.Errorf("reason %q, exit %+v", got.Reason, got.Exit)
				}
			})
		})
	}
}

func TestEndsOfAReplica(t *testing.T) {
	for _, tc := range []struct {
		name   string
		server agenttest.Server // nil: Echo
		edit   func(*fleet.Template)
		fault  agenttest.Fault
		do     func(*rig)
		want   []string
		takes  time.Duration
	}{
		{
			name: "crash", do: func(r *rig) { r.call("a", "crash", `{"code":3}`) },
			want: []string{"exit code 3", "last stderr: crashing as told"},
		},
		{
			// Podman on a busy machine: it says how the container ended, long
			// after that could be seen.
			name: "crash, and the runtime is slow", fault: agenttest.Fault{Step: agenttest.StepExit, Delay: 10 * time.Second},
			do:   func(r *rig) { r.call("a", "crash", `{"code":3}`) },
			want: []string{"exit code 3; last stderr: crashing as told"}, takes: 12 * time.Second,
		},
		{
			name: "ends by itself when it is to be killed", server: func(ctx context.Context, s *agenttest.Stdio) int {
				s.CloseOut()
				timer := time.NewTimer(2*time.Second - time.Nanosecond)
				defer timer.Stop()
				<-timer.C
				return 3
			},
			fault: agenttest.Fault{Step: agenttest.StepExit, Delay: 10 * time.Second},
			want:  []string{"ended before it was ready: exit code 3"}, takes: 12 * time.Second,
		},
		{
			name: "killed from outside", do: func(r *rig) { r.rt.Kill("a") },
			want: []string{"killed by SIGKILL"},
		},
		{
			name: "the runtime refuses", fault: agenttest.Fault{Step: agenttest.StepStart, Err: errors.New("no such image")},
			want: []string{"no such image"},
		},
		{
			name: "the pull fails", fault: agenttest.Fault{Step: agenttest.StepPull, Err: errors.New("denied")},
			want: []string{"pull image: denied"},
		},
		{
			name: "ends at once", server: agenttest.Echo{ExitAtOnce: 127, Complaint: "node: not found"}.Serve,
			want: []string{"ended before it was ready: exit code 127", "last stderr: node: not found"},
		},
		{
			name: "ends at once, with a banner", server: agenttest.Echo{ExitAtOnce: 1, Banner: "> demo@1.0.0 start", Complaint: "no key"}.Serve,
			want: []string{"ended before it was ready: exit code 1; last stderr: no key; on its stdout, 1 line that is not JSON-RPC: > demo@1.0.0 start"},
		},
		{
			name: "the runtime knows what may help", server: agenttest.Echo{ExitAtOnce: 1, Complaint: "help me"}.Serve,
			want: []string{"exit code 1", "hint for exit code 1 after help me"},
		},
		{
			name: "never answers", server: agenttest.Echo{Silent: true, Banner: "Server listening", Complaint: "waiting for godot"}.Serve,
			want: []string{"the server seems to have started its HTTP mode; look for a flag such as --stdio",
				"on its stdout, 1 line that is not JSON-RPC: Server listening; not ready within 20s of its start: no answer to initialize; last stderr: waiting for godot"},
			takes: 20 * time.Second,
		},
		{
			name: "starts too slowly", fault: agenttest.Fault{Step: agenttest.StepStart, Delay: time.Minute},
			want: []string{"not ready within 20s"}, takes: 20 * time.Second,
		},
		{
			name: "unknown protocol", server: agenttest.Echo{Version: "1999-01-01"}.Serve,
			want: []string{"1999-01-01"},
		},
		{
			name: "closes stdout and lives on", server: func(ctx context.Context, s *agenttest.Stdio) int {
				s.CloseOut()
				<-ctx.Done()
				return 0
			},
			want: []string{"closed its stdout and ran on: killed"}, takes: 2 * time.Second,
		},
		{
			name: "a grandchild holds stdout", server: func(ctx context.Context, s *agenttest.Stdio) int {
				s.Inherit()
				return 9
			},
			want: []string{"exit code 9"}, takes: stdoutGrace,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				if tc.server != nil {
					r.rt.Handle("a", tc.server)
				}
				if tc.fault.Step != "" {
					r.rt.Inject(tc.fault)
				}
				r.start("a", func(tpl *fleet.Template) {
					legacy(tpl)
					if tc.edit != nil {
						tc.edit(tpl)
					}
				})
				if tc.do != nil {
					r.until("a", fleet.PhaseReady)
					tc.do(r)
				}
				began := time.Now()
				got := r.until("a", fleet.PhaseFailed)
				contains(t, got.Reason, tc.want...)
				if took := time.Since(began); took != tc.takes {
					t.Errorf("took %s, want %s", took, tc.takes)
				}
				if got.Exit != nil && got.Exit.Requested {
					t.Errorf("exit %+v", got.Exit)
				}
				if slices.Contains(r.view.snapshot().phases["a"], fleet.PhaseDraining) && !got.Failing {
					t.Error("it drained, and not because it failed")
				}
				synctest.Wait()
				if left := r.rt.Alive(); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
			})
		})
	}
}

func TestStopCutsAStartShort(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fault  agenttest.Fault
		server agenttest.Echo
		phase  fleet.Phase
	}{
		{"while pulling", agenttest.Fault{Step: agenttest.StepPull, Delay: time.Hour}, agenttest.Echo{}, fleet.PhasePulling},
		{"while starting", agenttest.Fault{Step: agenttest.StepStart, Delay: 10 * time.Second}, agenttest.Echo{}, fleet.PhaseStarting},
		{"in the handshake", agenttest.Fault{Step: agenttest.StepSweep}, agenttest.Echo{Silent: true}, fleet.PhaseStarting},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				r.rt.Handle("a", tc.server.Serve)
				r.rt.Inject(tc.fault)
				r.start("a", nil)
				r.until("a", tc.phase)
				began := time.Now()
				r.order("a", "changed my mind")
				got := r.until("a", fleet.PhaseStopped)
				contains(t, got.Reason, "changed my mind")
				if took := time.Since(began); took != 0 {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

// What a replica that does not start says last is reported at once, since callers wait
// for the reason, also if it comes a moment after the end of stdout.
func TestLastWordsOfAFailedStart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.rt.Inject(agenttest.Fault{Step: agenttest.StepRemove, Delay: 5 * time.Second})
		r.rt.Handle("s", func(_ context.Context, s *agenttest.Stdio) int {
			s.CloseOut()
			time.Sleep(10 * time.Millisecond)
			fmt.Fprintln(s.Err, "the license has expired")
			return 7
		})
		r.start("s", legacy)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		got := r.view.snapshot().replicas["s"]
		if want := "its stdout ended; last stderr: the license has expired"; got.Phase != fleet.PhaseDraining || got.Reason != want {
			t.Errorf("%s: %q, want DRAINING: %q", got.Phase, got.Reason, want)
		}
	})
}

func TestRemoveIsTriedAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		r.rt.Inject(agenttest.Fault{Step: agenttest.StepRemove, Err: errors.New("device busy"), Times: 2})
		r.order("a", "bye")
		if got := r.until("a", fleet.PhaseStopped); got.Reason != "bye" {
			t.Errorf("reason %q", got.Reason)
		}
	})
}

func TestSweepComesFirst(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		rt.Leave("old-1")
		rt.Inject(agenttest.Fault{Step: agenttest.StepSweep, Delay: time.Minute})
		r := newRig(t, rt, nil)
		began := time.Now()
		r.ready("a", nil)
		if took := time.Since(began); took != time.Minute {
			t.Errorf("the order was obeyed after %s, before the sweep was over", took)
		}
	})
}

func TestFailedSweepEndsRun(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		rt.Inject(agenttest.Fault{Step: agenttest.StepSweep, Err: errors.New("disk on fire")})
		a, err := New(Config{Node: fleet.NodeInfo{Node: "n"}, Runtime: rt, StateFile: t.TempDir() + "/s"})
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan error)
		go func() {
			_, err := a.StartReplica(context.Background(), order, assignment("a", nil))
			started <- err
		}()
		if err := a.Run(t.Context()); err == nil {
			t.Error("Run returned nil")
		} else {
			contains(t, err.Error(), "disk on fire")
		}
		if err := <-started; !errors.Is(err, fleet.ErrDraining) {
			t.Errorf("the waiting start: %v", err)
		}
	})
}
