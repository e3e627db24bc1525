package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// opened is a replica that was found to be of an era.
type opened struct {
	echo     agenttest.Echo
	era      fleet.Era // of the template
	sessions string    // of the template
	known    fleet.Era // from the controller
	want     fleet.Era
	starts   int           // of processes
	asked    int           // with server/discover
	takes    time.Duration // until READY
	reasons  []string      // instead: why it does not become READY
}

func TestEraOfAReplica(t *testing.T) {
	for name, tt := range map[string]opened{
		"legacy":                       {want: fleet.EraLegacy, starts: 1, asked: 1},
		"modern":                       {echo: agenttest.Echo{Era: agenttest.Modern}, want: fleet.EraModern, starts: 1, asked: 1},
		"both":                         {echo: agenttest.Echo{Era: agenttest.Both}, want: fleet.EraModern, starts: 1, asked: 1},
		"ignores discover":             {echo: agenttest.Echo{IgnoreDiscover: true}, want: fleet.EraLegacy, starts: 1, asked: 1, takes: discoverWait + 250*time.Millisecond},
		"legacy, starts slowly":        {echo: agenttest.Echo{Slow: 5 * time.Second}, want: fleet.EraLegacy, starts: 1, asked: 1, takes: 5 * time.Second},
		"modern, starts slowly":        {echo: agenttest.Echo{Era: agenttest.Modern, Slow: 5 * time.Second}, want: fleet.EraModern, starts: 1, asked: 1, takes: 5 * time.Second},
		"both, starts slowly":          {echo: agenttest.Echo{Era: agenttest.Both, Slow: 5 * time.Second}, want: fleet.EraModern, starts: 2, asked: 2, takes: 10 * time.Second},
		"dies of discover":             {echo: agenttest.Echo{DieOfDiscover: true}, want: fleet.EraLegacy, starts: 2, asked: 1},
		"dies of discover later":       {echo: agenttest.Echo{DieOfDiscover: true, Slow: 5 * time.Second}, want: fleet.EraLegacy, starts: 2, asked: 1, takes: 10 * time.Second},
		"both, for sessions":           {sessions: fleet.SessionsSession, echo: agenttest.Echo{Era: agenttest.Both}, want: fleet.EraLegacy, starts: 1},
		"legacy by order":              {era: fleet.EraLegacy, echo: agenttest.Echo{DieOfDiscover: true}, want: fleet.EraLegacy, starts: 1},
		"both, legacy by order":        {era: fleet.EraLegacy, echo: agenttest.Echo{Era: agenttest.Both}, want: fleet.EraLegacy, starts: 1},
		"both, slowly, by order":       {era: fleet.EraModern, echo: agenttest.Echo{Era: agenttest.Both, Slow: 10 * time.Second}, want: fleet.EraModern, starts: 1, asked: 1, takes: 10 * time.Second},
		"known as legacy":              {known: fleet.EraLegacy, echo: agenttest.Echo{DieOfDiscover: true}, want: fleet.EraLegacy, starts: 1},
		"known as legacy, now modern":  {known: fleet.EraLegacy, echo: agenttest.Echo{Era: agenttest.Modern}, want: fleet.EraModern, starts: 1, asked: 1},
		"known as modern":              {known: fleet.EraModern, echo: agenttest.Echo{Era: agenttest.Both, Slow: 10 * time.Second}, want: fleet.EraModern, starts: 1, asked: 1, takes: 10 * time.Second},
		"known as modern, now legacy":  {known: fleet.EraModern, want: fleet.EraLegacy, starts: 1, asked: 1},
		"known as modern, now ends":    {known: fleet.EraModern, echo: agenttest.Echo{DieOfDiscover: true}, want: fleet.EraLegacy, starts: 2, asked: 1},
		"modern by order, is legacy":   {era: fleet.EraModern, starts: 1, asked: 1, reasons: []string{"server/discover: ", "-32601", "era: modern does not fit it"}},
		"modern by order, is silent":   {era: fleet.EraModern, echo: agenttest.Echo{IgnoreDiscover: true}, starts: 1, asked: 1, reasons: []string{"not ready within 20s of its start: no answer to server/discover"}},
		"modern by order, it ends":     {era: fleet.EraModern, echo: agenttest.Echo{DieOfDiscover: true}, starts: 1, asked: 1, reasons: []string{"ended before it was ready: exit code 4"}},
		"cannot start at all":          {echo: agenttest.Echo{ExitAtOnce: 3, Complaint: "no key"}, starts: 1, reasons: []string{"ended before it was ready: exit code 3; last stderr: no key"}},
		"legacy by order, is modern":   {era: fleet.EraLegacy, echo: agenttest.Echo{Era: agenttest.Modern}, starts: 1, reasons: []string{"initialize: ", "-32022"}},
		"both, more slowly than known": {known: fleet.EraModern, echo: agenttest.Echo{Era: agenttest.Both, Slow: 19 * time.Second}, want: fleet.EraModern, starts: 1, asked: 1, takes: 19 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { tt.check(t) })
		})
	}
}

func (tt *opened) check(t *testing.T) {
	r := newRig(t, agenttest.New(), nil)
	r.rt.Handle("a", tt.echo.Serve)
	as := assignment("a", func(tpl *fleet.Template) { tpl.Era, tpl.Sessions = tt.era, tt.sessions })
	as.Era = tt.known
	began := time.Now()
	if _, err := r.StartReplica(t.Context(), order, as); err != nil {
		t.Fatal(err)
	}
	asked := func() int {
		n := r.rt.Count("discovers of a")
		if tt.want == fleet.EraModern {
			n-- // the first check of its health
		}
		return n
	}
	starts := func() {
		synctest.Wait()
		if n := r.rt.Starts("a"); n != tt.starts || asked() != tt.asked {
			t.Errorf("%d processes were started and asked %d times, want %d and %d", n, asked(), tt.starts, tt.asked)
		}
	}
	if tt.reasons != nil {
		contains(t, r.until("a", fleet.PhaseFailed).Reason, tt.reasons...)
		starts()
		return
	}
	got := r.until("a", fleet.PhaseReady)
	starts()
	// The end of a process that is discarded takes a moment.
	if took := time.Since(began); took < tt.takes || took > tt.takes+100*time.Millisecond {
		t.Errorf("READY after %s, want %s", took, tt.takes)
	}
	if c := r.view.snapshot().catalogues[got.Catalogue]; c.Era != tt.want || len(c.Tools) == 0 {
		t.Errorf("catalogue of era %q with %d tools, want %q", c.Era, len(c.Tools), tt.want)
	}
	if text := r.call("a", "echo", `{"text":"hi"}`).text(t); text != "hi" {
		t.Errorf("a call got %q", text)
	}
	time.Sleep(time.Minute)
	if got := r.until("a", fleet.PhaseReady); got.Unhealthy || got.Exit != nil {
		t.Errorf("a minute later: %+v", got)
	}
}

// The first replica's era is remembered for the others of the revision: none of them is
// asked in vain again.
func TestEraIsRemembered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.rt.Handle("s", agenttest.Echo{IgnoreDiscover: true}.Serve)
		for i, id := range []fleet.ReplicaID{"a", "b", "c"} {
			as := assignment(id, nil)
			as.Server, as.Revision = "s", fleet.Revision(1+i/2)
			began := time.Now()
			if _, err := r.StartReplica(t.Context(), order, as); err != nil {
				t.Fatal(err)
			}
			r.until(id, fleet.PhaseReady)
			if took, first := time.Since(began), i != 1; first != (took > discoverWait) {
				t.Errorf("%s of revision %d took %s", id, as.Revision, took)
			}
		}
	})
}

// A server that ends whatever it is asked is not started twice for ever.
func TestServerThatEndsBeforeItIsReady(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.rt.Handle("s", func(_ context.Context, s *agenttest.Stdio) int {
			_, _ = s.In.Read(make([]byte, 1))
			return 7
		})
		for i, want := range []int{2, 3} {
			id := fleet.ReplicaID(fmt.Sprint("r", i))
			as := assignment(id, nil)
			as.Server = "s"
			if _, err := r.StartReplica(t.Context(), order, as); err != nil {
				t.Fatal(err)
			}
			contains(t, r.until(id, fleet.PhaseFailed).Reason, "exit code 7")
			if n := r.rt.Starts("s"); n != want {
				t.Errorf("%d starts, want %d", n, want)
			}
		}
	})
}

// A stop while the process is replaced is obeyed.
func TestStopWhileAProcessStartsAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.rt.Inject(agenttest.Fault{Step: agenttest.StepRemove, Delay: 5 * time.Second})
		r.rt.Handle("a", agenttest.Echo{DieOfDiscover: true}.Serve)
		r.start("a", nil)
		time.Sleep(time.Second)
		r.order("a", "changed my mind")
		contains(t, r.until("a", fleet.PhaseStopped).Reason, "changed my mind")
		if n := r.rt.Starts("a"); n != 1 {
			t.Errorf("%d starts, want 1", n)
		}
	})
}

// A cancelled call of a modern server gets no reply. Its slot is free once the question
// after it is answered.
func TestCancelledCallOfAModernServer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.rt.Handle("a", agenttest.Echo{Era: agenttest.Modern}.Serve)
		r.ready("a", nil)
		synctest.Wait() // the first check of its health
		asked := r.rt.Count("discovers of a")
		c := r.call("a", "slow", `{"ms":60000}`)
		time.Sleep(time.Millisecond)
		c.cancel(true)
		c.reply(t)
		<-c.released
		synctest.Wait()
		if n := r.rt.Count("discovers of a") - asked; n != 1 {
			t.Errorf("%d questions, want 1", n)
		}
		if n := r.rt.Count("pings of a"); n != 0 {
			t.Errorf("%d pings", n)
		}
		if load := r.until("a", fleet.PhaseReady).Load; load.Ongoing != 0 {
			t.Errorf("load %+v", load)
		}
	})
}

// A catalogue has all lists of a server, and follows their changes.
func TestCatalogueHasAllLists(t *testing.T) {
	for name, echo := range map[string]agenttest.Echo{
		"legacy": {Lists: true, PageSize: 4},
		"modern": {Lists: true, Era: agenttest.Modern},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				r.rt.Handle("a", echo.Serve)
				r.ready("a", nil)
				got := r.catalogue("a")
				if len(got.Tools) != 15 || len(got.Resources) != 1 || len(got.Templates) != 1 || len(got.Prompts) != 1 {
					t.Errorf("catalogue %+v", got)
				}
				hints := map[string]fleet.CacheHint(nil)
				if echo.Era == agenttest.Modern {
					list := fleet.CacheHint{TTLMs: 1000, Scope: "private"}
					hints = map[string]fleet.CacheHint{
						"server/discover": {TTLMs: 60000, Scope: "public"},
						"tools/list":      list, "resources/list": list, "resources/templates/list": list, "prompts/list": list,
					}
					if !slices.Equal(got.Versions, []string{"2026-07-28"}) || got.Protocol != "2026-07-28" {
						t.Errorf("versions %q, protocol %q", got.Versions, got.Protocol)
					}
				}
				if fmt.Sprint(got.Hints) != fmt.Sprint(hints) {
					t.Errorf("hints %v, want %v", got.Hints, hints)
				}
				r.call("a", "add", `{"name":"new"}`).text(t)
				r.view.until(t, "a has two resources", func(v *view) (bool, any) {
					c := v.catalogues[v.replicas["a"].Catalogue]
					return len(c.Resources) == 2 && len(c.Tools) == 15 && strings.Contains(string(c.Resources[1]), "echo://new"), c
				})
			})
		})
	}
}

// Lists other than that of the tools do not keep a replica from being READY.
func TestListsThatDoNotCome(t *testing.T) {
	for _, tt := range []struct {
		name   string
		echo   agenttest.Echo
		ready  time.Duration
		listed time.Duration // 0: never
	}{
		{"at once", agenttest.Echo{Lists: true}, 0, time.Nanosecond},
		{"a little late", agenttest.Echo{Lists: true, SlowLists: time.Second}, time.Second, time.Second},
		{"late", agenttest.Echo{Lists: true, SlowLists: 10 * time.Second}, listPatience, listPatience + 11*time.Second},
		{"never", agenttest.Echo{Lists: true, SlowLists: time.Hour}, listPatience, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				r.rt.Handle("a", tt.echo.Serve)
				began := time.Now()
				r.ready("a", nil)
				if took := time.Since(began); took != tt.ready {
					t.Errorf("READY after %s, want %s", took, tt.ready)
				}
				if tt.listed == 0 {
					time.Sleep(10 * time.Minute)
					if got := r.until("a", fleet.PhaseReady); got.Unhealthy || len(r.catalogue("a").Prompts) != 0 {
						t.Errorf("got %+v", got)
					}
					if n := r.rt.Count("prompts/list of a"); n != listTries {
						t.Errorf("asked %d times, want %d", n, listTries)
					}
					return
				}
				r.view.until(t, "all is listed", func(v *view) (bool, any) {
					c := v.catalogues[v.replicas["a"].Catalogue]
					return len(c.Resources) == 1 && len(c.Templates) == 1 && len(c.Prompts) == 1, c
				})
				if took := time.Since(began); took > tt.listed {
					t.Errorf("listed after %s, want %s", took, tt.listed)
				}
			})
		})
	}
}

// catalogue returns what the replica offers.
func (r *rig) catalogue(id fleet.ReplicaID) fleet.Catalogue {
	v := r.view.snapshot()
	return v.catalogues[v.replicas[id].Catalogue]
}

// A modern server that hangs is unhealthy, and says so in its own words.
func TestModernServerThatHangs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.rt.Handle("a", agenttest.Echo{Era: agenttest.Modern}.Serve)
		r.ready("a", nil)
		c := r.call("a", "freeze", `{}`)
		time.Sleep(time.Minute)
		c.cancel(true)
		got := r.view.until(t, "a is unhealthy", func(v *view) (bool, any) { return v.replicas["a"].Unhealthy, v.replicas["a"] }).replicas["a"]
		if want := "unhealthy: 3 times in a row no answer to server/discover within 5s"; got.Reason != want {
			t.Errorf("reason %q, want %q", got.Reason, want)
		}
	})
}
