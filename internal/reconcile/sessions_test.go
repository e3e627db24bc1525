package reconcile

import (
	"slices"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// perSession makes a server of revision 1 whose sessions have replicas to themselves. It is
// known what it offers.
func perSession(warm int, set ...func(*fleet.Server)) *fleet.Server {
	s := server("a", 1, 0, func(s *fleet.Spec) {
		s.Sessions, s.Warm, s.MaxSessions, s.SessionIdle = fleet.SessionsSession, warm, 5, time.Minute
	})
	s.Target, s.Offers = fleet.Target{By: fleet.BySessions}, true
	for _, f := range set {
		f(&s)
	}
	return &s
}

// offersNothing: it is not known what the revision offers.
func offersNothing(s *fleet.Server) { s.Offers = false }

// toRevision2 makes it roll out revision 2 in place of 1.
func toRevision2(s *fleet.Server) {
	old := s.Spec.Template
	s.Stable, s.StableTemplate, s.StableOffers = 1, &old, true
	s.Revision, s.Rollout = 2, &fleet.Rollout{From: 1, Checked: true}
	s.Spec.Image = "i2"
}

func verified(s *fleet.Server) {
	update := fleet.DefaultUpdate()
	update.Verify = []fleet.VerifyCall{{Tool: "t"}}
	s.Spec.Update, s.Rollout.Checked = &update, false
}

func raw(x *unit)                       { x.raw, x.spare = true, true }
func probe(*unit)                       {}
func claimed(x *unit)                   { x.raw, x.spare, x.claimed = true, true, true }
func workerStops(x *unit)               { x.leaves, x.ending = true, true }
func of(id fleet.SessionID) func(*unit) { return func(x *unit) { x.raw, x.session = true, id } }
func since(d time.Duration) func(*unit) { return func(x *unit) { x.outSince = t0.Add(-d) } }
func olderWorker(n *node)               { n.NoSessions = true }
func waiting(n int) func(*want)         { return func(w *want) { w.waiting = n } }
func hasFailed(until time.Duration) func(*want) {
	return func(w *want) {
		w.back = backoff{failing: true, notBefore: t0.Add(until), delay: until, last: "it broke"}
	}
}

func TestPlanSessions(t *testing.T) {
	soon := t0.Add(time.Second)
	for _, tt := range []struct {
		name     string
		desired  *fleet.Server
		nodes    []node
		units    []*unit
		set      []func(*want)
		want     []string
		unplaced string
		wake     time.Time
	}{
		{name: "a new server: only a probe", desired: perSession(2, offersNothing), want: []string{"start 1 on n1: shows what revision 1 offers"}},
		{name: "the probe starts", desired: perSession(2, offersNothing), units: []*unit{u("p", "n1", probe, in(fleet.PhaseStarting))}},
		{name: "the probe waits after a failure", desired: perSession(2, offersNothing), set: []func(*want){hasFailed(time.Second)}, wake: soon},
		{name: "what it offers is known: spares, no probe", desired: perSession(2), units: []*unit{u("p", "n1", probe)},
			want: []string{"stop p: what revision 1 offers is known", "start raw 1 on n2", "start raw 1 on n3"}},
		{name: "as many spares as wanted", desired: perSession(2), units: []*unit{u("r1", "n1", raw), u("r2", "n2", raw)}},
		{name: "a session has taken one", desired: perSession(2), units: []*unit{u("r1", "n1", of("s1")), u("r2", "n2", raw)}, want: []string{"start raw 1 on n3"}},
		{name: "a session takes one", desired: perSession(1), units: []*unit{u("r1", "n1", claimed)}, want: []string{"start raw 1 on n2"}},
		{name: "one too many", desired: perSession(1), units: []*unit{u("r1", "n1", raw), u("r2", "n2", raw, in(fleet.PhaseStarting))},
			want: []string{"stop r2: one spare more than wanted"}},
		{name: "sessions wait: one for each", desired: perSession(1), set: []func(*want){waiting(3)}, units: []*unit{u("r1", "n1", raw, in(fleet.PhaseStarting))},
			want: []string{"start raw 1 on n2", "start raw 1 on n3"}},
		{name: "no more than max_sessions", desired: perSession(2), set: []func(*want){waiting(9)},
			units: []*unit{u("r1", "n1", of("s1")), u("r2", "n1", of("s2")), u("r3", "n1", of("s3")), u("r4", "n1", of("s4"))},
			want:  []string{"start raw 1 on n2"}},
		{name: "max_sessions are open: no spare", desired: perSession(2, func(s *fleet.Server) { s.Spec.MaxSessions = 1 }),
			units: []*unit{u("r1", "n1", of("s1")), u("r2", "n1", raw)}, want: []string{"stop r2: one spare more than wanted"}},
		{name: "sessions that are over count no more", desired: perSession(1, func(s *fleet.Server) { s.Spec.MaxSessions = 1 }),
			units: []*unit{u("r1", "n1", of("s1"), in(fleet.PhaseDraining))}, want: []string{"start raw 1 on n2"}},
		{name: "a session on a node that cannot be reached", desired: perSession(0), units: []*unit{u("r1", "n1", of("s1"), cutOff)}},
		{name: "sessions there keep their places", desired: perSession(1, func(s *fleet.Server) { s.Spec.MaxSessions = 2 }),
			units: []*unit{u("r1", "n1", of("s1"), cutOff), u("r2", "n1", of("s2"), cutOff)}},
		{name: "and move to others, beyond max_sessions replicas", desired: perSession(0, func(s *fleet.Server) { s.Spec.MaxSessions = 2 }), set: []func(*want){waiting(1)},
			units: []*unit{u("r1", "n1", of("s1"), cutOff), u("r2", "n1", of("s2"), cutOff), u("r3", "n2", of("s1"))}, want: []string{"start raw 1 on n3"}},
		{name: "unhealthy", desired: perSession(0), units: []*unit{u("r1", "n1", of("s1"), sick), u("r2", "n1", raw, sick)},
			want: []string{"stop r1: unhealthy: its session gets a fresh replica", "stop r2: a spare that is of no use: unhealthy and replaced"}},
		{name: "its node is drained: it may finish", desired: perSession(0), units: []*unit{u("r1", "n1", of("s1"), leaves)}, wake: t0.Add(time.Minute)},
		{name: "not for ever", desired: perSession(0), units: []*unit{u("r1", "n1", of("s1"), leaves, since(time.Minute))},
			want: []string{"stop r1: node n1 is draining: the session moves"}},
		{name: "the drain is over", desired: perSession(0), units: []*unit{u("r1", "n1", of("s1"), expired)}, want: []string{"stop r1: the time to drain node n1 is over"}},
		{name: "its worker stops", desired: perSession(1), nodes: []node{onNode("n1", isDraining), onNode("n2")},
			units: []*unit{u("r1", "n1", of("s1"), workerStops), u("r2", "n1", raw, workerStops)},
			want:  []string{"stop r1: node n1 is stopping: the session moves", "stop r2: a spare that is of no use: node n1 is draining", "start raw 1 on n2"}},
		{name: "removed", units: []*unit{u("r1", "n1", of("s1")), u("r2", "n1", raw)},
			want: []string{"stop r1: the server was removed", "stop r2: the server was removed"}},
		{name: "spares fail: one tries", desired: perSession(3), set: []func(*want){hasFailed(-time.Second)}, want: []string{"start raw 1 on n1"}},
		{name: "spares fail: not now", desired: perSession(3), set: []func(*want){hasFailed(time.Second)}, wake: soon},
		{name: "workers of an older version", desired: perSession(1), nodes: []node{onNode("n1", olderWorker), onNode("n2", olderWorker)}, set: []func(*want){waiting(1)},
			unplaced: "no node fits: 2 nodes are of an older version, which gives no replicas to sessions: update its worker"},

		{name: "update: a probe beside all", desired: perSession(1, toRevision2, offersNothing), units: []*unit{u("r1", "n1", raw), u("r2", "n2", of("s1"))},
			want: []string{"start 2 on n3: shows what revision 2 offers"}},
		{name: "update: the old revision is kept up meanwhile", desired: perSession(2, toRevision2, offersNothing),
			units: []*unit{u("p", "n1", rev(2), probe, in(fleet.PhaseStarting)), u("r2", "n2", of("s1"))}, want: []string{"start raw 1 on n3", "start raw 1 on n1"}},
		{name: "update: it is being verified", desired: perSession(1, toRevision2, verified), units: []*unit{u("p", "n1", rev(2), probe), u("r1", "n1", raw), u("r2", "n2", of("s1"))}},
		{name: "update: new spares before old, sessions may finish", desired: perSession(1, toRevision2),
			units: []*unit{u("r1", "n1", raw), u("r2", "n2", of("s1"))}, want: []string{"start raw 2 on n3"}, wake: t0.Add(time.Minute)},
		{name: "update: spares of an old revision go first", desired: perSession(1, toRevision2),
			units: []*unit{u("r1", "n1", raw), u("r2", "n2", of("s1")), u("r3", "n3", raw, rev(2))},
			want:  []string{"stop r1: revision 2 replaces revision 1"}, wake: t0.Add(time.Minute)},
		{name: "update: the sessions' time is over", desired: perSession(0, toRevision2), units: []*unit{u("r2", "n2", of("s1"), since(time.Minute))},
			want: []string{"stop r2: revision 2 replaces revision 1: the session moves"}},
		{name: "update: no more than max_sessions", desired: perSession(2, toRevision2, func(s *fleet.Server) { s.Spec.MaxSessions = 2 }),
			units: []*unit{u("r1", "n1", raw), u("r2", "n2", raw)}, want: []string{"stop r1: revision 2 replaces revision 1; stopped first because of max_sessions"}},
		{name: "update: paused", desired: perSession(1, toRevision2, func(s *fleet.Server) { s.Rollout.Paused = true }),
			units: []*unit{u("r1", "n1", raw), u("r2", "n2", of("s1"), since(time.Hour))}},
		{name: "restart: the old ones of the same revision go", desired: perSession(0, func(s *fleet.Server) { s.Generation = 1 }),
			units: []*unit{u("r1", "n1", of("s1"), since(time.Minute)), u("r2", "n1", raw)},
			want:  []string{"stop r1: restarted by hand: the session moves", "stop r2: restarted by hand"}},
		{name: "from shared replicas: they stay until sessions can begin", desired: perSession(1, toRevision2, func(s *fleet.Server) { s.StableTemplate.Sessions = fleet.SessionsShared }),
			units: []*unit{u("r1", "n1")}, want: []string{"start raw 2 on n2"}},
		{name: "from shared replicas: then they go", desired: perSession(1, toRevision2, func(s *fleet.Server) { s.StableTemplate.Sessions = fleet.SessionsShared }),
			units: []*unit{u("r1", "n1"), u("r2", "n2", rev(2), raw)}, want: []string{"stop r1: revision 2 replaces revision 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nodes := tt.nodes
			if nodes == nil {
				nodes = three
			}
			w := want{name: "a", desired: tt.desired, units: tt.units}
			for _, f := range tt.set {
				f(&w)
			}
			d := plan(t0, []want{w}, newRoom(nodes, tt.units))[0]
			if got := does(d); !slices.Equal(got, tt.want) || d.unplaced != tt.unplaced || !d.wake.Equal(tt.wake) {
				t.Errorf("got  %q, unplaced %q, wake %v\nwant %q, unplaced %q, wake %v", got, d.unplaced, d.wake, tt.want, tt.unplaced, tt.wake)
			}
		})
	}
}

func TestStatusOfSessions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		desired *fleet.Server
		units   []*unit
		set     []func(*want)
		d       decision
		state   fleet.State
		failed  bool // StartFailed
		settled bool
	}{
		{name: "new", desired: perSession(1, offersNothing), units: []*unit{u("p", "n1", probe, in(fleet.PhaseStarting))}, state: fleet.StateDeploying},
		{name: "does not start", desired: perSession(1, offersNothing), set: []func(*want){hasFailed(time.Minute)}, d: decision{need: 1}, state: fleet.StateUnavailable, failed: true, settled: true},
		{name: "sessions and a spare", desired: perSession(1), units: []*unit{u("r1", "n1", of("s1")), u("r2", "n1", raw)}, state: fleet.StateReady, settled: true},
		{name: "a spare starts", desired: perSession(1), units: []*unit{u("r2", "n1", raw, in(fleet.PhaseStarting))}, state: fleet.StateReady, settled: true},
		{name: "a session has lost a replica that is still known", desired: perSession(0), units: []*unit{u("r1", "n1", of("s1"), cutOff), u("r2", "n2", of("s1"))},
			state: fleet.StateReady, settled: true},
		{name: "nothing runs", desired: perSession(0), state: fleet.StateIdle, settled: true},
		{name: "spares fail", desired: perSession(1), set: []func(*want){hasFailed(time.Minute)}, state: fleet.StateDegraded, failed: true, settled: true},
		{name: "update", desired: perSession(1, toRevision2), units: []*unit{u("r1", "n1", of("s1"))}, state: fleet.StateUpdating, settled: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := want{name: "a", desired: tt.desired, units: tt.units}
			for _, f := range tt.set {
				f(&w)
			}
			sessions := 0
			for _, u := range tt.units {
				if u.session != "" && u.reachable {
					sessions++
				}
			}
			got := status(t0, &w, &tt.d, outlook{workers: 3, complete: true})
			if got.Sessions != sessions {
				t.Errorf("%d sessions, want %d", got.Sessions, sessions)
			}
			if got.State != tt.state || got.StartFailed != tt.failed || got.Settled != tt.settled {
				t.Errorf("got %s (%s), failed %t, settled %t; want %s, %t, %t", got.State, got.Reason, got.StartFailed, got.Settled, tt.state, tt.failed, tt.settled)
			}
		})
	}
}
