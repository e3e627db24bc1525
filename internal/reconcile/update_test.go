package reconcile

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// policy changes how a server is updated.
func policy(set func(*fleet.Update)) func(*fleet.Spec) {
	return func(s *fleet.Spec) {
		p := *s.Update
		set(&p)
		s.Update = &p
	}
}

// rollsOut makes a server's rollout to its revision go like that.
func rollsOut(s *fleet.Server, r fleet.Rollout) *fleet.Server {
	r.From = 1
	s.Rollout = &r
	return s
}

func readySince(d time.Duration) func(*unit) {
	return func(x *unit) { x.readyAt = t0.Add(-d) }
}
func calls(n int) func(*unit) { return func(x *unit) { x.ongoing = n } }
func spare(x *unit)           { x.spare = true }

func TestPlanUpdates(t *testing.T) {
	worked := backoff{everReady: true}
	patient := policy(func(p *fleet.Update) { p.MinReady = 5 * time.Second })
	surge := func(n int) func(*fleet.Spec) {
		return policy(func(p *fleet.Update) { p.MaxSurge = fleet.Amount{Count: n} })
	}
	noSurge := policy(func(p *fleet.Update) { p.MaxSurge, p.MaxUnavailable = fleet.Amount{}, fleet.Amount{Percent: 50} })
	quarterGone := policy(func(p *fleet.Update) { p.MaxSurge, p.MaxUnavailable = fleet.Amount{}, fleet.Amount{Percent: 25} })
	noneKept := policy(func(p *fleet.Update) { p.MaxSurge, p.MaxUnavailable = fleet.Amount{}, fleet.Amount{Percent: 100} })
	verify := policy(func(p *fleet.Update) { p.Verify = []fleet.VerifyCall{{Tool: "t"}} })
	canary := policy(func(p *fleet.Update) { p.Canary = &fleet.Canary{Steps: []float64{5, 50}} })
	old := func(n int) (list []*unit) {
		for i := range n {
			list = append(list, u("r"+string(rune('1'+i)), "n"+string(rune('1'+i%3))))
		}
		return list
	}
	warm := func(n int) func(*fleet.Spec) { return func(s *fleet.Spec) { s.Warm = n } }
	waking := func(s fleet.Server, n int) *fleet.Server {
		s.Spec.Autoscaling = &fleet.Autoscaling{}
		s.Target = fleet.Target{Replicas: n, By: fleet.ByAutoscaling}
		return &s
	}
	tests := []struct {
		name    string
		desired *fleet.Server
		units   []*unit
		back    backoff
		stable  backoff
		want    []string
		wake    time.Time
	}{
		{name: "a new one has not been ready for long enough", desired: rollsOut(next(2, 1, patient), fleet.Rollout{}),
			units: append(old(1), u("r9", "n2", rev(2), readySince(2*time.Second))), wake: t0.Add(3 * time.Second)},
		{name: "now it has", desired: rollsOut(next(2, 1, patient), fleet.Rollout{}),
			units: append(old(1), u("r9", "n2", rev(2), readySince(5*time.Second))), want: []string{"stop r1: revision 2 replaces revision 1"}},
		{name: "what moves off a node need not wait", desired: ptr(server("a", 1, 1, patient)), back: worked,
			units: []*unit{u("r1", "n1", leaves), u("r2", "n2", readySince(time.Second))},
			want:  []string{"stop r1: node n1 is draining"}, wake: t0.Add(4 * time.Second)},
		{name: "draining ones are no surge", desired: rollsOut(next(2, 2), fleet.Rollout{}), back: worked, stable: worked,
			units: append(old(2), u("r8", "n1", told, in(fleet.PhaseDraining)), u("r9", "n1", told, in(fleet.PhaseDraining))),
			want:  []string{"start 2 on n3: revision 2 replaces revision 1"}},
		{name: "three at once", desired: rollsOut(next(2, 4, surge(3)), fleet.Rollout{}), units: old(4), back: worked, stable: worked,
			want: []string{"start 2 on n2: revision 2 replaces revision 1", "start 2 on n3: revision 2 replaces revision 1", "start 2 on n1: revision 2 replaces revision 1"}},
		{name: "old before new, where that is wished", desired: rollsOut(next(2, 4, noSurge), fleet.Rollout{}), units: old(4), back: worked, stable: worked,
			want: []string{"stop r1: revision 2 replaces revision 1", "stop r2: revision 2 replaces revision 1"}},
		{name: "a share that comes to nothing counts as one, without a surge", desired: rollsOut(next(2, 2, quarterGone), fleet.Rollout{}), units: old(2), back: worked, stable: worked,
			want: []string{"stop r1: revision 2 replaces revision 1"}},
		{name: "they are stopping: new ones follow", desired: rollsOut(next(2, 4, noSurge), fleet.Rollout{}), back: worked, stable: worked,
			units: append(old(2), u("r8", "n1", told, in(fleet.PhaseDraining)), u("r9", "n1", told, in(fleet.PhaseDraining))),
			want:  []string{"start 2 on n3: revision 2 replaces revision 1", "start 2 on n2: revision 2 replaces revision 1"}},

		{name: "the new one fails: no more old ones are started than stay", desired: rollsOut(next(2, 4, noSurge), fleet.Rollout{}), stable: worked,
			units: old(2), back: backoff{failing: true, bumpedAt: t0.Add(-time.Second), notBefore: t0.Add(time.Second)}, wake: t0.Add(time.Second)},
		{name: "the new one fails: the last old one stays", desired: rollsOut(next(2, 2, noneKept), fleet.Rollout{}), stable: worked,
			units: old(1), back: backoff{failing: true, bumpedAt: t0.Add(-time.Second), notBefore: t0.Add(time.Second)}, wake: t0.Add(time.Second)},
		{name: "the new one only starts: the last old one stays", desired: rollsOut(next(2, 2, noneKept), fleet.Rollout{}), stable: worked,
			units: append(old(1), u("r9", "n2", rev(2), in(fleet.PhaseStarting)))},
		{name: "an old one that starts stays until a new one has been ready for long enough", desired: rollsOut(next(2, 2, patient), fleet.Rollout{}), back: worked, stable: worked,
			units: []*unit{u("r1", "n1"), u("r2", "n2", in(fleet.PhaseStarting)), u("r9", "n3", rev(2), readySince(time.Second))}, wake: t0.Add(4 * time.Second)},
		{name: "an old one that starts stays while the others cannot be reached", desired: rollsOut(next(2, 1), fleet.Rollout{}), stable: worked,
			units: []*unit{u("r1", "n1", cutOff), u("r2", "n2", in(fleet.PhaseStarting))}, back: backoff{failing: true, bumpedAt: t0.Add(-time.Second), notBefore: t0.Add(time.Second)}, wake: t0.Add(time.Second)},
		{name: "what is left of a failed revision goes before what is to be restarted", back: worked,
			desired: rollsOut(ptr(restarted(server("a", 1, 1), 1)), fleet.Rollout{}),
			units:   []*unit{u("r1", "n1"), u("r9", "n2", rev(2), gen(1), calls(3))},
			want:    []string{"stop r9: revision 1 replaces revision 2"}},
		{name: "what is left of a superseded revision goes before a stable one", desired: rollsOut(next(3, 2), fleet.Rollout{}), back: worked, stable: worked,
			units: []*unit{u("r1", "n1", age(0)), u("r8", "n2", rev(2), calls(3)), u("r9", "n3", rev(3))}, want: []string{"stop r8: revision 3 replaces revision 2"}},

		{name: "to be verified: one beside the old ones", desired: rollsOut(next(2, 4, verify), fleet.Rollout{}), units: old(4), back: worked, stable: worked,
			want: []string{"start 2 on n2: revision 2 replaces revision 1"}},
		{name: "to be verified: the old ones stay", desired: rollsOut(next(2, 2, verify), fleet.Rollout{}),
			units: append(old(2), u("r9", "n2", rev(2))), back: worked, stable: worked},
		{name: "to be verified: an old one that is lost is replaced", desired: rollsOut(next(2, 2, verify), fleet.Rollout{}),
			units: append(old(1), u("r9", "n2", rev(2))), back: worked, stable: worked,
			want: []string{"start 1 on n3: revision 1 is kept up: the rollout of revision 2 is being verified"}},
		{name: "verified: it goes on", desired: rollsOut(next(2, 2, verify), fleet.Rollout{Checked: true}),
			units: append(old(2), u("r9", "n2", rev(2))), back: worked, stable: worked, want: []string{"stop r1: revision 2 replaces revision 1"}},

		{name: "canary: as many as the share needs", desired: rollsOut(next(2, 6, canary), fleet.Rollout{Checked: true, Step: 1}), units: old(6), back: worked, stable: worked,
			want: []string{"start 2 on n1: revision 2 replaces revision 1", "start 2 on n2: revision 2 replaces revision 1", "start 2 on n3: revision 2 replaces revision 1"}},
		{name: "canary: restarted, what is left of it goes, and no stable one", back: worked, stable: worked,
			desired: rollsOut(ptr(upgraded(server("a", 1, 2, canary), restarted(server("a", 2, 2, canary), 1))), fleet.Rollout{Checked: true}),
			units:   []*unit{u("r1", "n1"), u("r2", "n2"), u("r8", "n3", rev(2), calls(3)), u("r9", "n1", rev(2), gen(1))},
			want:    []string{"stop r8: restarted by hand"}},
		{name: "canary: the old ones grow with the target", desired: rollsOut(next(2, 4, canary), fleet.Rollout{Checked: true}),
			units: append(old(2), u("r9", "n3", rev(2))), back: worked, stable: worked,
			want: []string{"start 1 on n1: revision 1 is kept up: the rollout of revision 2 is a canary with 5% of the calls",
				"start 1 on n2: revision 1 is kept up: the rollout of revision 2 is a canary with 5% of the calls"}},

		{name: "canary: what is left of a superseded revision goes, and no stable one", desired: rollsOut(next(3, 2, canary), fleet.Rollout{Checked: true}),
			units: append(old(2), u("r8", "n1", rev(2), calls(3)), u("r9", "n3", rev(3))), back: worked, stable: worked,
			want: []string{"stop r8: revision 3 replaces revision 2"}},

		{name: "canary: more new ones than it needs stay until the old ones are back", desired: rollsOut(next(2, 4, canary), fleet.Rollout{Checked: true}), back: worked, stable: worked,
			units: append(old(1), u("r7", "n1", rev(2)), u("r8", "n2", rev(2)), u("r9", "n3", rev(2))),
			want: []string{"start 1 on n2: revision 1 is kept up: the rollout of revision 2 is a canary with 5% of the calls",
				"start 1 on n3: revision 1 is kept up: the rollout of revision 2 is a canary with 5% of the calls"}},

		{name: "paused while a new one starts: no old one goes", desired: rollsOut(next(2, 2), fleet.Rollout{Paused: true}), back: worked, stable: worked,
			units: append(old(2), u("r9", "n2", rev(2), in(fleet.PhaseStarting)))},
		{name: "paused: nothing new, and nothing old goes", desired: rollsOut(next(2, 2), fleet.Rollout{Paused: true}),
			units: append(old(1), u("r9", "n2", rev(2))), back: worked, stable: worked},
		{name: "paused: what dies is replaced by the same", desired: rollsOut(next(2, 3), fleet.Rollout{Paused: true}),
			units: append(old(1), u("r9", "n2", rev(2))), back: worked, stable: worked,
			want: []string{"start 1 on n3: revision 1 is kept up: the rollout of revision 2 is paused by hand"}},
		{name: "held like paused", desired: rollsOut(next(2, 2), fleet.Rollout{Held: "a tool is gone"}),
			units: append(old(1), u("r9", "n2", rev(2))), back: worked, stable: worked},
		{name: "paused: scaled down", desired: rollsOut(next(2, 1), fleet.Rollout{Paused: true}),
			units: append(old(1), u("r9", "n2", rev(2))), back: worked, stable: worked, want: []string{"stop r1: revision 2 replaces revision 1"}},

		{name: "scaled up while the image is pulled: the old revision grows", desired: rollsOut(next(2, 4), fleet.Rollout{}),
			units: append(old(1), u("r9", "n2", rev(2), in(fleet.PhasePulling))), back: backoff{}, stable: worked,
			want: []string{"start 1 on n3: revision 2 does not serve: revision 1 is kept up", "start 1 on n1: revision 2 does not serve: revision 1 is kept up",
				"start 1 on n2: revision 2 does not serve: revision 1 is kept up"}},

		{name: "idle: a new revision shows that it works", desired: rollsOut(waking(*next(2, 0), 0), fleet.Rollout{}), back: worked, stable: worked,
			want: []string{"start 2 on n1: the server is idle, and revision 2 has to show that it works"}},
		{name: "idle: a new server waits for its first call", desired: waking(fleet.Server{Name: "a", Revision: 1, Rollout: &fleet.Rollout{}}, 0)},

		{name: "scaled down: the emptiest goes", desired: ptr(server("a", 1, 2)), back: worked,
			units: []*unit{u("r1", "n1", calls(1)), u("r2", "n1", calls(3)), u("r3", "n2", calls(2))}, want: []string{"stop r1: 1 more than the 2 replicas wanted"}},

		{name: "spares are started last", desired: ptr(server("a", 1, 1, warm(2))), back: worked,
			want: []string{"start 1 on n1: 1 replica wanted, there are 0", "start spare 1 on n2", "start spare 1 on n3"}},
		{name: "a spare is used first, and replaced", desired: ptr(server("a", 1, 3, warm(1))), back: worked,
			units: []*unit{u("r1", "n1"), u("s1", "n2", spare)},
			want:  []string{"activate s1: 3 replicas wanted, there are 1", "start 1 on n3: 3 replicas wanted, there are 2", "start spare 1 on n1"}},
		{name: "one that still starts is no use yet", desired: ptr(server("a", 1, 2, warm(1))), back: worked,
			units: []*unit{u("r1", "n1"), u("s1", "n2", spare, in(fleet.PhaseStarting))}, want: []string{"start 1 on n3: 2 replicas wanted, there are 1"}},
		{name: "too many", desired: ptr(server("a", 1, 1, warm(1))), back: worked,
			units: []*unit{u("r1", "n1"), u("s1", "n1", spare), u("s2", "n2", spare)}, want: []string{"stop s1: one spare more than wanted"}},
		{name: "idle: spares stay", desired: waking(server("a", 1, 0, warm(1)), 0), back: worked, units: []*unit{u("r1", "n1"), u("s1", "n2", spare)},
			want: []string{"stop r1: idle: no calls for 0s"}},
		{name: "woken: from the spare", desired: waking(server("a", 1, 0, warm(1)), 1), back: worked, units: []*unit{u("s1", "n2", spare)},
			want: []string{"activate s1: 1 replica wanted, there are 0", "start spare 1 on n1"}},
		{name: "stopped by hand: spares go", desired: scaled(server("a", 1, 1, warm(1)), 0), units: []*unit{u("s1", "n2", spare)},
			want: []string{"stop s1: stopped by hand: scaled to 0"}},
		{name: "an unhealthy one is replaced", desired: ptr(server("a", 1, 1, warm(1))), back: worked,
			units: []*unit{u("r1", "n1"), u("s1", "n2", spare, sick)},
			want:  []string{"stop s1: a spare that is of no use: unhealthy and replaced", "start spare 1 on n3"}},
		{name: "during a rollout the old ones stay, and may be used", desired: rollsOut(next(2, 2, verify, warm(1)), fleet.Rollout{}), back: worked, stable: worked,
			units: append(old(1), u("r9", "n3", rev(2)), u("s1", "n2", spare)),
			want:  []string{"activate s1: revision 1 is kept up: the rollout of revision 2 is being verified"}},
		{name: "during a rollout those on a draining node go, and unhealthy ones", desired: rollsOut(next(2, 2, verify, warm(3)), fleet.Rollout{}), back: worked, stable: worked,
			units: append(old(2), u("r9", "n3", rev(2)), u("s1", "n2", spare, leaves), u("s2", "n2", spare, sick), u("s3", "n2", spare)),
			want:  []string{"stop s1: a spare that is of no use: node n2 is draining", "stop s2: a spare that is of no use: unhealthy"}},
		{name: "during a rollout one on a draining node is not used", desired: rollsOut(next(2, 2, verify, warm(1)), fleet.Rollout{}), back: worked, stable: worked,
			units: append(old(1), u("r9", "n3", rev(2)), u("s1", "n2", spare, leaves)),
			want: []string{"start 1 on n1: revision 1 is kept up: the rollout of revision 2 is being verified",
				"stop s1: a spare that is of no use: node n2 is draining"}},
		{name: "those of a revision that starts fail wait", desired: ptr(server("a", 1, 1, warm(1))), units: []*unit{u("r1", "n1")},
			back: backoff{everReady: true, notBefore: t0.Add(time.Second)}, wake: t0.Add(time.Second)},
		{name: "then one is tried", desired: ptr(server("a", 1, 1, warm(2))), units: []*unit{u("r1", "n1")},
			back: backoff{everReady: true, failing: true, bumpedAt: t0.Add(-time.Second), notBefore: t0}, want: []string{"start spare 1 on n2"}},
		{name: "not beside another try", desired: ptr(server("a", 1, 1, warm(2))),
			units: []*unit{u("r1", "n1"), u("s1", "n2", spare, in(fleet.PhaseStarting), age(0))},
			back:  backoff{everReady: true, failing: true, bumpedAt: t0.Add(-time.Second), notBefore: t0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := want{name: "a", desired: tt.desired, units: tt.units, back: tt.back, stable: tt.stable}
			d := plan(t0, []want{w}, newRoom(three, tt.units))[0]
			if got := does(d); !slices.Equal(got, tt.want) && len(got)+len(tt.want) > 0 {
				t.Errorf("actions:\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(tt.want, "\n     "))
			}
			if !d.wake.Equal(tt.wake) {
				t.Errorf("wake = %v, want %v", d.wake, tt.wake)
			}
		})
	}
}

// An update waits for min_ready before each old replica goes, and is over only
// when the last new one has been ready for that long.
func TestMinReady(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.slowly()
		patient := policy(func(p *fleet.Update) { p.MinReady = 5 * time.Second })
		w.deploy(server("a", 1, 2, patient))
		w.desired.set(*rollsOut(ptr(upgraded(server("a", 1, 2, patient), server("a", 2, 2, patient))), fleet.Rollout{}))
		time.Sleep(4 * time.Second)
		if s := w.status("a"); s.State != fleet.StateUpdating || !s.Settled || s.Ready != 3 {
			t.Errorf("in the middle: %+v", s)
		}
		took := w.until(30*time.Second, "rolled out", func() bool { return len(w.desired.ended()) == 1 })
		if took += 4 * time.Second; took < 10*time.Second || took > 12*time.Second {
			t.Errorf("the rollout took %v, want 2 times 5 s", took)
		}
		w.until(time.Second, "converged", w.converged)
	})
}

// A revision that does not become ready is rolled back after progress_deadline,
// also if the leader changes meanwhile, and fails no replica of the old one.
func TestRollback(t *testing.T) {
	for _, tt := range []struct {
		name   string
		how    observetest.Behaviour
		reason string
	}{
		{"cannot start", observetest.Behaviour{FailStart: true, ReadyAfter: 10 * time.Millisecond}, "stderr: "},
		{"dies after 3 s", observetest.Behaviour{ReadyAfter: 10 * time.Millisecond, CrashAfter: 3 * time.Second}, "the last words of"},
		{"never gets ready", observetest.Behaviour{ReadyAfter: time.Hour}, "0 of 3 replicas ready"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, "n1", "n2")
				w.behave(func(_ fleet.ServerName, r fleet.Revision) observetest.Behaviour {
					if r == 2 {
						return tt.how
					}
					return observetest.Behaviour{ReadyAfter: 10 * time.Millisecond}
				})
				quick := policy(func(p *fleet.Update) { p.MinReady, p.ProgressDeadline = 5*time.Second, 20*time.Second })
				w.deploy(server("a", 1, 3, quick))
				before := w.ready("a")
				other := w.newController()
				w.follow(other)
				w.desired.set(*rollsOut(ptr(upgraded(server("a", 1, 3, quick), server("a", 2, 3, quick))), fleet.Rollout{}))
				began := time.Now()
				time.Sleep(10 * time.Second)
				old := w.controller
				w.lead(other)
				defer old.stop()
				w.until(2*time.Minute, "rolled back", func() bool {
					for _, id := range before {
						if !slices.Contains(w.ready("a"), id) {
							t.Fatalf("replica %s of the old revision is gone\n%s", id, w)
						}
					}
					return len(w.desired.ended()) > 0
				})
				if took := time.Since(began); took < 20*time.Second || took > 32*time.Second {
					t.Errorf("rolled back after %v, want 20 s after the new leader", took)
				}
				e := w.desired.ended()[0]
				if e.Revision != 2 || !strings.Contains(e.Failed, tt.reason) || !strings.Contains(e.Failed, "no progress for 20s") {
					t.Errorf("ended as %+v", e)
				}
				w.until(10*time.Second, "as before", func() bool { return w.converged() && slices.Equal(w.ready("a"), before) })
				if s := w.status("a"); s.State != fleet.StateReady || s.Revision != 1 || !strings.HasPrefix(s.Reason, "revision 2 was rolled back: ") {
					t.Errorf("status: %+v", s)
				}
			})
		})
	}
}

// A rollout has not ended while it is held or on trial, and not before the new
// revision has served, also if the server needs no replicas.
func TestRolledOut(t *testing.T) {
	verify := policy(func(p *fleet.Update) { p.Verify = []fleet.VerifyCall{{Tool: "t"}} })
	canary := policy(func(p *fleet.Update) { p.Canary = &fleet.Canary{Steps: []float64{5, 50}} })
	idle := func(s *fleet.Server) *fleet.Server {
		s.Target.By = fleet.ByAutoscaling
		return s
	}
	served := []*unit{u("r9", "n2", rev(2))}
	for _, tt := range []struct {
		name    string
		desired *fleet.Server
		units   []*unit
		want    bool
	}{
		{"served", rollsOut(next(2, 1), fleet.Rollout{}), served, true},
		{"an old one serves, too", rollsOut(next(2, 1), fleet.Rollout{}), []*unit{u("r1", "n1"), u("r9", "n2", rev(2))}, false},
		{"idle, and served", idle(rollsOut(next(2, 0), fleet.Rollout{})), served, true},
		{"idle, and never ran", idle(rollsOut(next(2, 0), fleet.Rollout{})), nil, false},
		{"idle, and held", idle(rollsOut(next(2, 0), fleet.Rollout{Held: "a tool is gone"})), served, false},
		{"idle, and paused", idle(rollsOut(next(2, 0), fleet.Rollout{Paused: true})), served, false},
		{"idle, and not verified yet", idle(rollsOut(next(2, 0, verify), fleet.Rollout{})), served, false},
		{"idle, in a canary", idle(rollsOut(next(2, 0, canary), fleet.Rollout{Checked: true})), served, false},
		{"idle, after the canary", idle(rollsOut(next(2, 0, canary), fleet.Rollout{Checked: true, Step: 2})), served, true},
		{"stopped: the new revision never ran", rollsOut(next(2, 0), fleet.Rollout{}), nil, false},
		{"stopped: restarted, or back to the stable one", rollsOut(ptr(server("a", 1, 0)), fleet.Rollout{}), nil, true},
		{"stopped: the first revision", &fleet.Server{Revision: 1, Rollout: &fleet.Rollout{}}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := rolledOut(&want{name: "a", desired: tt.desired, units: tt.units}, t0); got != tt.want {
				t.Errorf("rolledOut = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestLateReason(t *testing.T) {
	limit := policy(func(p *fleet.Update) { p.ProgressDeadline = 10 * time.Second })
	for _, tt := range []struct {
		desired        *fleet.Server
		last, unplaced string
		want           string
	}{
		{next(2, 3, limit), "", "", "revision 2 made no progress for 10s (progress_deadline): 0 of 3 replicas ready"},
		{idle(*next(2, 0, limit)), "", "", "revision 2 made no progress for 10s (progress_deadline): 0 of 1 replica ready"},
		{next(2, 3, limit), "exit code 2", "", "exit code 2; revision 2 made no progress for 10s (progress_deadline): 0 of 3 replicas ready"},
		{next(2, 3, limit), "exit code 2", "no node fits", "exit code 2; no node fits; revision 2 made no progress for 10s (progress_deadline): 0 of 3 replicas ready"},
	} {
		w := &want{desired: tt.desired, back: backoff{last: tt.last}}
		if got := lateReason(w, &decision{unplaced: tt.unplaced}); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// A server without replicas says what has become of a rollout, too.
func TestStatusWithoutReplicas(t *testing.T) {
	failed := func(s *fleet.Server) *fleet.Server {
		s.Failed = &fleet.FailedRevision{Revision: 2, Reason: "it crashed"}
		return s
	}
	for _, tt := range []struct {
		name    string
		desired *fleet.Server
		want    string
	}{
		{"idle", idle(server("a", 1, 0)), "idle: a call starts it"},
		{"idle, and held", rollsOut(idle(*next(2, 0)), fleet.Rollout{Held: "a tool is gone"}), "idle: a call starts it; the rollout of revision 2 is held: a tool is gone"},
		{"idle, and rolled back", failed(idle(server("a", 1, 0))), "idle: a call starts it; revision 2 was rolled back: it crashed"},
		{"stopped, and paused", rollsOut(next(2, 0), fleet.Rollout{Paused: true}), "stopped by hand: replicas is 0; the rollout of revision 2 is paused by hand"},
		{"stopped, and rolls", rollsOut(next(2, 0), fleet.Rollout{}), "stopped by hand: replicas is 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := status(t0, &want{name: "a", desired: tt.desired}, &decision{}, outlook{}); got.Reason != tt.want {
				t.Errorf("reason %q, want %q", got.Reason, tt.want)
			}
		})
	}
}

// Calls do not fail because of a start that failed, while a spare can take them.
func TestStatusWithASpare(t *testing.T) {
	broken := backoff{everReady: true, failing: true, unstarted: true, notBefore: t0.Add(time.Minute), last: "exit 3"}
	woken := idle(server("a", 1, 0))
	woken.Target.Replicas = 1
	for _, tt := range []struct {
		name   string
		server *fleet.Server
		units  []*unit
		fails  bool
	}{
		{"none", idle(server("a", 1, 0)), nil, true},
		{"a ready one", idle(server("a", 1, 0)), []*unit{u("s1", "n1", spare)}, false},
		{"one that starts", idle(server("a", 1, 0)), []*unit{u("s1", "n1", spare, in(fleet.PhaseStarting))}, true},
		{"one that leaves", idle(server("a", 1, 0)), []*unit{u("s1", "n1", spare, leaves)}, true},
		{"one of an earlier revision", idle(server("a", 2, 0)), []*unit{u("s1", "n1", spare)}, true},
		{"woken", woken, []*unit{u("s1", "n1", spare)}, false},
		{"activated", woken, []*unit{u("s1", "n1", spare, func(x *unit) { x.activate = &order{} })}, false},
		{"woken without one", woken, nil, true},
	} {
		w := &want{name: "a", desired: tt.server, units: tt.units, back: broken}
		if got := status(t0, w, &decision{}, outlook{complete: true}); got.StartFailed != tt.fails {
			t.Errorf("%s: calls fail: %t, want %t (%s)", tt.name, got.StartFailed, tt.fails, got.Reason)
		}
	}
}

// Calls do not fail because the new revision did not start, or finds no node, if the
// stable one is started for them.
func TestStatusWithAStableRevision(t *testing.T) {
	broken := backoff{everReady: true, failing: true, unstarted: true, notBefore: t0.Add(time.Minute), last: "exit 3"}
	woken := idle(server("a", 2, 0))
	woken.Target.Replicas = 1
	rolling := upgraded(server("a", 1, 0), *woken)
	undone := rolling
	undone.Revision = undone.Stable
	starts := decision{unplaced: "no node fits", actions: []action{{template: rolling.StableTemplate}}}
	for _, tt := range []struct {
		name         string
		server       *fleet.Server
		back, stable backoff
		plan         decision
		fails        bool
	}{
		{"no stable one", woken, broken, backoff{}, decision{}, true},
		{"a stable one", &rolling, broken, backoff{}, decision{}, false},
		{"one that does not start", &rolling, broken, broken, decision{}, true},
		{"one that is wanted again", &undone, broken, broken, decision{}, true},
		{"no room for either", &rolling, backoff{}, backoff{}, decision{unplaced: "no node fits"}, true},
		{"room for the stable one", &rolling, backoff{}, backoff{}, starts, false},
	} {
		w := &want{name: "a", desired: tt.server, back: tt.back, stable: tt.stable}
		if got := status(t0, w, &tt.plan, outlook{complete: true, workers: 1}); got.StartFailed != tt.fails {
			t.Errorf("%s: calls fail: %t, want %t (%s)", tt.name, got.StartFailed, tt.fails, got.Reason)
		}
	}
}

// The time of a pull, of a pause and of a trial does not count against
// progress_deadline.
func TestProgress(t *testing.T) {
	verify := policy(func(p *fleet.Update) { p.Verify = []fleet.VerifyCall{{Tool: "t"}} })
	limit := policy(func(p *fleet.Update) { p.ProgressDeadline = 10 * time.Second })
	for _, tt := range []struct {
		name    string
		desired *fleet.Server
		units   []*unit
		late    bool
	}{
		{"starting", rollsOut(next(2, 2, limit), fleet.Rollout{}), []*unit{u("r1", "n1"), u("r9", "n2", rev(2), in(fleet.PhaseStarting))}, true},
		{"pulling", rollsOut(next(2, 2, limit), fleet.Rollout{}), []*unit{u("r1", "n1"), u("r9", "n2", rev(2), in(fleet.PhasePulling))}, false},
		{"paused", rollsOut(next(2, 2, limit), fleet.Rollout{Paused: true}), []*unit{u("r1", "n1")}, false},
		{"stopped", rollsOut(next(2, 0, limit), fleet.Rollout{}), nil, false},
		{"verified", rollsOut(next(2, 2, limit, verify), fleet.Rollout{}), []*unit{u("r1", "n1"), u("r9", "n2", rev(2))}, false},
		{"not even the one to be verified", rollsOut(next(2, 2, limit, verify), fleet.Rollout{}), []*unit{u("r1", "n1")}, true},
		{"the first revision", &fleet.Server{Revision: 2, Spec: fleet.Spec{Update: next(2, 2, limit).Spec.Update}, Target: fleet.Target{Replicas: 2}, Rollout: &fleet.Rollout{}}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, w := progress{}, &want{name: "a", desired: tt.desired, units: tt.units}
			var late bool
			for s := range 15 {
				late, _ = p.observe(w, t0.Add(time.Duration(s)*time.Second))
			}
			if late != tt.late {
				t.Errorf("late = %v after 14 s, want %v", late, tt.late)
			}
		})
	}
	t.Run("each new replica is progress", func(t *testing.T) {
		w := &want{name: "a", desired: rollsOut(next(2, 9, limit), fleet.Rollout{}), units: []*unit{u("r1", "n1")}}
		p := progress{}
		for s := range 60 {
			now := t0.Add(time.Duration(s) * time.Second)
			if s%8 == 0 && s < 40 {
				w.units = append(w.units, u("new"+now.String(), "n1", rev(2)))
			}
			if late, _ := p.observe(w, now); late != (s >= 42) {
				t.Fatalf("late = %v after %d s", late, s)
			}
		}
	})
}

// A spare takes calls as soon as it is needed, and is replaced in the background.
func TestSpares(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.behave(always(observetest.Behaviour{ReadyAfter: 2 * time.Second}))
		warm := func(s *fleet.Spec) { s.Warm = 1 }
		w.desired.set(server("a", 1, 1, warm))
		w.control()
		defer w.stop()
		w.until(10*time.Second, "one serves, and one is warm", func() bool { s := w.status("a"); return s.Ready == 1 && s.Spares == 1 })
		w.desired.set(server("a", 1, 2, warm))
		if took := w.until(10*time.Second, "two serve", func() bool { return w.status("a").Ready == 2 }); took > 100*time.Millisecond {
			t.Errorf("the spare served after %v", took)
		}
		if n := w.happened(fleet.EventReplicaActivated); n != 1 {
			t.Errorf("%d events of an activation, want 1", n)
		}
		w.until(10*time.Second, "it is replaced", func() bool { return w.status("a").Spares == 1 })
		w.desired.set(server("a", 1, 2))
		w.until(5*time.Second, "no spare is wanted", w.converged)
	})
}

// A spare that dies is restarted like any replica, but no replica that takes calls is
// missing because of it.
func TestSparesThatDie(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		w.behave(always(observetest.Behaviour{CrashAfter: 10 * time.Second}))
		w.desired.set(*idle(server("a", 1, 0, func(s *fleet.Spec) { s.Warm = 1 })))
		w.control()
		defer w.stop()
		time.Sleep(35 * time.Second)
		if s := w.status("a"); s.Restarts != 3 || s.Spares != 1 {
			t.Errorf("%d restarts and %d spares, want 3 and 1", s.Restarts, s.Spares)
		}
		a := newAttempts(slog.New(slog.DiscardHandler), noJitter, newHistory())
		a.recordFailure(u("s1", "n1", spare), nil, "it died", t0)
		a.recordUnhealthy(u("s2", "n1", spare), "it hangs")
		if n := a.of("a", 1).unreplaced; n != 0 {
			t.Errorf("%d spares hold up the start of a replica", n)
		}
	})
}

// Workers of older versions start ordinary replicas instead of spares. That is noticed
// at the first one.
func TestSparesOnOldWorkers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2")
		for _, n := range w.workers {
			n.Age()
		}
		w.desired.set(server("a", 1, 1, func(s *fleet.Spec) { s.Warm = 1 }))
		w.control()
		defer w.stop()
		time.Sleep(time.Minute)
		s := w.status("a")
		if s.Ready != 1 || !strings.Contains(s.Reason, "a warm spare cannot be placed: the worker of node n2 is of an older version") {
			t.Errorf("status %+v", s)
		}
		if n := len(w.workers[0].Starts()) + len(w.workers[1].Starts()); n != 2 {
			t.Errorf("%d starts, want 2: a replica, and a spare that was none", n)
		}
	})
}

// Workers are told for how long a stop waits for calls: as long as a call may take,
// unless the server says otherwise.
func TestDrainTime(t *testing.T) {
	for _, tt := range []struct{ drain, longest, want time.Duration }{
		{fleet.DrainCalls, 3 * time.Minute, 3 * time.Minute},
		{fleet.DrainCalls, 0, fleet.DefaultMaxCallDuration},
		{5 * time.Second, 3 * time.Minute, 5 * time.Second},
		{0, 3 * time.Minute, 0},
	} {
		s := server("a", 1, 1)
		s.Spec.DrainTimeout, s.Spec.MaxCallDuration = tt.drain, tt.longest
		if got := templateFor(&s, &s.Spec.Template); got.DrainTimeout != tt.want || s.Spec.DrainTimeout != tt.drain {
			t.Errorf("drain_timeout %v, max_call_duration %v: workers get %v, want %v", tt.drain, tt.longest, got.DrainTimeout, tt.want)
		}
	}
}

// An update in the middle of another one, which is tried first: what is left of the
// other one makes place for the stable revision, once.
func TestCanarySupersedesRollout(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		w.slowly()
		w.deploy(server("a", 1, 4))
		serving := func() (n [4]int) {
			for _, r := range w.running("a") {
				if r.Phase == fleet.PhaseReady {
					n[r.Revision]++
				}
			}
			return n
		}
		w.desired.set(*rollsOut(next(2, 4), fleet.Rollout{Checked: true}))
		w.until(20*time.Second, "half", func() bool { return serving()[2] == 2 })
		canary := policy(func(p *fleet.Update) { p.Canary = &fleet.Canary{Steps: []float64{5}} })
		w.desired.set(*rollsOut(next(3, 4, canary), fleet.Rollout{Checked: true}))
		w.until(10*time.Second, "tried", func() bool { return serving() == [4]int{1: 4, 3: 1} })
		before := len(w.starts())
		time.Sleep(time.Minute)
		if got := serving(); got != [4]int{1: 4, 3: 1} || len(w.starts()) != before {
			t.Errorf("replicas by revision %v after %d further starts, want 4 of revision 1 and one of 3 all the time", got, len(w.starts())-before)
		}
	})
}

// A first revision that served, and whose server went idle before min_ready, is
// stable: a later one can be rolled back to it. One that failed is not.
func TestFirstRevisionOfAnIdleServer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		how   observetest.Behaviour
		ended bool
	}{
		{"it served", observetest.Behaviour{}, true},
		{"it died soon", observetest.Behaviour{CrashAfter: 500 * time.Millisecond}, false},
		{"it did not start", observetest.Behaviour{FailStart: true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, "n1")
				w.behave(always(tt.how))
				patient := policy(func(p *fleet.Update) { p.MinReady = 5 * time.Second })
				s := server("a", 1, 0, patient)
				s.Spec.Autoscaling, s.Rollout = &fleet.Autoscaling{}, &fleet.Rollout{}
				s.Target = fleet.Target{Replicas: 1, By: fleet.ByAutoscaling}
				w.desired.set(s)
				w.control()
				defer w.stop()
				time.Sleep(4 * time.Second) // the first second settles
				s.Target.Replicas = 0
				w.desired.set(s)
				time.Sleep(10 * time.Second)
				if got := len(w.desired.ended()) == 1; got != tt.ended {
					t.Errorf("the rollout has ended: %v, want %v\n%s", got, tt.ended, w)
				}
			})
		})
	}
}
