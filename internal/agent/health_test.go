package agent

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestVitals(t *testing.T) {
	failed := errors.New("no answer")
	type step func(*vitals)
	ping := func(err error, busy bool, replies int64) step {
		calls := int64(0)
		if busy {
			calls = 1
		}
		return func(v *vitals) { v.pinged(err, calls, calls, calls, replies) }
	}
	deaf := func(v *vitals) { v.pinged(failed, 5, 5, 5, v.replies) }
	left := func(v *vitals) { v.pinged(failed, 1, 1, 5, v.replies) } // one call is inside its deadline, four have passed theirs
	tick := func(replies int64) step { return func(v *vitals) { v.tick(replies) } }
	late := func(replies int64) step { return func(v *vitals) { v.timedOut(1, replies) } }
	dead, busy := ping(failed, false, 0), ping(failed, true, 0)
	for _, tc := range []struct {
		name      string
		steps     []step
		unhealthy bool
		suspect   bool
	}{
		{"fresh", nil, false, false},
		{"two failures", []step{dead, dead}, false, false},
		{"three failures", []step{dead, dead, dead}, true, false},
		{"an answer in between", []step{dead, dead, ping(nil, false, 1), dead}, false, false},
		{"a late reply in between", []step{dead, dead, ping(failed, false, 1)}, false, false},
		{"busy does not count", []step{dead, dead, busy, busy, busy}, false, false},
		{"busy does not excuse", []step{dead, dead, busy, dead}, true, false},
		{"healthy again", []step{dead, dead, dead, ping(nil, false, 1)}, false, false},
		{"two timeouts", []step{late(0), late(0)}, false, false},
		{"three timeouts", []step{late(0), late(0), late(0)}, false, true},
		{"three timeouts, a reply between", []step{late(0), late(0), late(1)}, false, false},
		{"a suspect answers", []step{late(0), late(0), late(0), ping(nil, true, 1)}, false, false},
		{"several wait, a server that may be slow", []step{deaf, deaf, deaf, deaf}, false, false},
		{"several wait, one that answers meanwhile", []step{ping(nil, true, 0), ping(nil, true, 0), deaf, deaf, deaf}, true, false},
		{"one waits, several were given up", []step{tick(20), tick(20), left, left, left}, true, false},
		{"one waits, several were given up, a server that may be slow", []step{left, left, left, left}, false, false},
		{"one waits", []step{ping(nil, true, 0), ping(nil, true, 0), busy, busy, busy}, false, false},
		{"several wait, one that answers soon", []step{tick(20), tick(21), tick(21), deaf, deaf, deaf}, true, false},
		{"several wait, one that has become slow", []step{tick(20), tick(21), tick(22), tick(22), deaf, deaf, deaf}, false, false},
		{"several wait, and a reply between", []step{ping(nil, true, 0), ping(nil, true, 0), deaf, deaf, tick(1), deaf}, false, false},
		{"a suspect does not", []step{late(0), late(0), late(0), dead, dead, dead}, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := newVitals(fleet.Health{})
			for _, s := range tc.steps {
				s(v)
			}
			if v.unhealthy != tc.unhealthy || v.suspect() != tc.suspect {
				t.Errorf("unhealthy %v, suspect %v; want %v, %v", v.unhealthy, v.suspect(), tc.unhealthy, tc.suspect)
			}
			if (v.reason() != "") != tc.unhealthy {
				t.Errorf("reason %q", v.reason())
			}
		})
	}
}

func (r *rig) untilHealth(id fleet.ReplicaID, unhealthy bool) fleet.Replica {
	r.t.Helper()
	return r.view.until(r.t, "the health of "+string(id)+" changed", func(v *view) (bool, any) {
		return v.replicas[id].Unhealthy == unhealthy, v.replicas[id]
	}).replicas[id]
}

func TestDeadServerBecomesUnhealthy(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		synctest.Wait() // the first ping was answered
		began := time.Now()
		call := r.call("a", "freeze", `{"ms":90000}`)
		synctest.Wait()
		call.cancel(false) // or it would count as busy
		got := r.untilHealth("a", true)
		contains(t, got.Reason, "unhealthy: 3 pings")
		if got.Phase != fleet.PhaseReady {
			t.Errorf("phase %s: who replaces it decides", got.Phase)
		}
		// Three times a period and a timeout, and once more the timeout for tools/list.
		if took := time.Since(began); took != 50*time.Second {
			t.Errorf("took %s", took)
		}
		if got = r.untilHealth("a", false); got.Reason != "" {
			t.Errorf("reason after its recovery: %q", got.Reason)
		}
		if took := time.Since(began); took < 90*time.Second {
			t.Errorf("healthy again after %s, while it was frozen", took)
		}
	})
}

// A server that answered pings beside a call, and is silent now while several
// calls wait, is judged long before their deadlines.
func TestSilentServerIsJudgedSooner(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		if got := r.call("a", "slow", `{"ms":25000}`).text(t); got != "slept" { // two pings come meanwhile
			t.Errorf("got %q", got)
		}
		began := time.Now()
		r.call("a", "freeze", `{}`)
		for range 3 {
			r.call("a", "echo", `{"text":"x"}`)
		}
		contains(t, r.untilHealth("a", true).Reason, "unhealthy: 3 pings")
		if took := time.Since(began); took > 35*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A call with a long deadline does not hide that a server, which answered many
// before, has answered nothing to others until they were given up.
func TestOneLongCallDoesNotHideSilence(t *testing.T) {
	for _, tc := range []struct {
		name    string
		timeout bool
	}{{"timed out", true}, {"their callers went away", false}} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				r.ready("a", nil)
				for range manyReplies {
					r.call("a", "echo", `{"text":"x"}`).text(t)
				}
				began := time.Now()
				r.call("a", "freeze", `{"ms":600000}`)
				var others []*caller
				for range 3 {
					others = append(others, r.call("a", "echo", `{"text":"x"}`))
				}
				time.Sleep(5 * time.Second)
				for _, c := range others {
					c.cancel(tc.timeout)
				}
				contains(t, r.untilHealth("a", true).Reason, "unhealthy: 3 pings")
				if took := time.Since(began); took > 40*time.Second {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestBusyServerStaysHealthy(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		if got := r.call("a", "freeze", `{"ms":300000}`).text(t); got != "thawed" {
			t.Errorf("got %q", got)
		}
		r.view.until(t, "a heartbeat came", func(v *view) (bool, any) { return v.reports > 300, v.reports })
		r.view.mu.Lock()
		defer r.view.mu.Unlock()
		if got := r.view.replicas["a"]; got.Unhealthy || got.Phase != fleet.PhaseReady {
			t.Errorf("got %+v", got)
		}
	})
}

// A server need not know ping, nor answer it with a result, nor at all.
func TestServerWithoutPingIsAlive(t *testing.T) {
	for name, server := range map[string]agenttest.Echo{
		"refuses it":           {NoPing: true},
		"ignores it":           {IgnorePing: true},
		"answers with an id":   {BarePing: true},
		"answers as it should": {},
		"ignores it, in pages": {IgnorePing: true, PageSize: 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				r.rt.Handle("a", server.Serve)
				r.ready("a", nil)
				for range 20 {
					time.Sleep(15 * time.Second) // of the bubble's clock
					if got := r.until("a", fleet.PhaseReady); got.Unhealthy {
						t.Fatalf("got %+v", got)
					}
				}
				if n := r.rt.Count("pings of a"); server.IgnorePing && n != 1 {
					t.Errorf("a server that ignores ping was sent %d", n)
				}
				// A cancelled call does not hold its slot for ever.
				call := r.call("a", "hang", `{}`)
				synctest.Wait()
				call.cancel(true)
				<-call.released
				if e := r.call("a", "freeze", `{}`); e == nil {
					t.Fatal("no call")
				} else {
					synctest.Wait()
					e.cancel(false)
				}
				r.untilHealth("a", true) // what hangs is found all the same
			})
		})
	}
}

// Nobody asks a server whose health checks are off, and nobody calls it dead.
func TestHealthOff(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", func(tpl *fleet.Template) { tpl.Health = fleet.Health{Off: true} })
		hung := r.call("a", "hang", `{}`)
		synctest.Wait()
		hung.cancel(true)
		<-hung.released // by the answer to tools/list
		calls := []*caller{r.call("a", "freeze", `{"ms":3600000}`), r.call("a", "echo", `{}`), r.call("a", "echo", `{}`)}
		synctest.Wait()
		for _, c := range calls {
			c.cancel(true)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := r.until("a", fleet.PhaseReady); got.Unhealthy {
			t.Errorf("got %+v", got)
		}
		if n := r.rt.Count("pings of a"); n != 0 {
			t.Errorf("%d pings were sent", n)
		}
	})
}

// A server that ends at a ping is not pinged again.
func TestServerThatDiesOfPing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.rt.Handle("a", agenttest.Echo{DieOfPing: true}.Serve)
		r.start("a", nil)
		got := r.until("a", fleet.PhaseFailed)
		if want := "it ended when it was sent ping; its next replicas here are asked for their tools instead; exit code 2"; got.Reason != want {
			t.Errorf("reason %q, want %q", got.Reason, want)
		}
		as := assignment("b", nil)
		as.Server = "a"
		if _, err := r.StartReplica(t.Context(), order, as); err != nil {
			t.Fatal(err)
		}
		r.until("b", fleet.PhaseReady)
		time.Sleep(time.Hour)
		if got := r.until("b", fleet.PhaseReady); got.Unhealthy {
			t.Errorf("got %+v", got)
		}
		if n := r.rt.Count("pings of b"); n != 0 {
			t.Errorf("%d pings were sent", n)
		}
	})
}

// A call that is answered with neither a result nor an error ends there.
func TestCallAnsweredWithoutAResult(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		began := time.Now()
		e := r.call("a", "bare", `{}`).reply(t)
		if !errors.Is(e.Err, fleet.ErrBadReply) || !strings.Contains(e.Err.Error(), `neither "result" nor "error"`) {
			t.Errorf("got %v", e.Err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %s", took)
		}
		if got := r.call("a", "echo", `{"text":"on"}`).text(t); got != "on" {
			t.Errorf("the next call got %q", got)
		}
	})
}

// Timed-out calls bring the ping forward: the replica is found dead long
// before the next period.
func TestTimeoutsTriggerAPing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", func(tpl *fleet.Template) { tpl.Health.Period = time.Hour })
		synctest.Wait() // the first ping was answered
		calls := []*caller{r.call("a", "freeze", `{}`), r.call("a", "echo", `{}`), r.call("a", "echo", `{}`)}
		synctest.Wait()
		began := time.Now()
		for _, c := range calls {
			c.cancel(true)
			if e := c.reply(t); !errors.Is(e.Err, fleet.ErrTimeout) || !e.Holding {
				t.Errorf("reply %+v", e)
			}
		}
		r.untilHealth("a", true)
		// Three pings of 5 s, a second apart, and tools/list.
		if took := time.Since(began); took != 22*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestToolsChange(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		before := r.until("a", fleet.PhaseReady).Catalogue
		r.call("a", "grow", `{"name":"new1"}`).text(t)
		r.call("a", "grow", `{"name":"new2"}`).text(t)
		v := r.view.until(t, "the catalogue changed", func(v *view) (bool, any) {
			hash := v.replicas["a"].Catalogue
			return hash != before, hash
		})
		tools := v.catalogues[v.replicas["a"].Catalogue].Tools
		if len(tools) != 17 {
			t.Errorf("%d tools", len(tools))
		}
		if len(v.catalogues) != 2 {
			t.Errorf("%d catalogues: a burst was not gathered", len(v.catalogues))
		}
	})
}
