package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// tick is how often the checker looks.
const tick = 100 * time.Millisecond

// checker checks what must hold in an elastic world all the time:
//
//   - no node has more replicas than fit
//   - no more replicas and spares run than wanted, plus surge and canary
//   - no stop leaves fewer replicas that take calls than max_unavailable allows
//   - no replica of a revision that works is started and stopped soon after,
//     without an operation or a fault as the cause
//   - the number of starts in ten seconds is bounded
//   - states agree with what runs
//
// While something fails, and for some seconds afterwards, only the first must hold.
type checker struct {
	e        *elastic
	seen     map[fleet.ReplicaID]*seen
	starts   []*seen   // of the last seconds
	operated time.Time // the last operation or fault
	failed   time.Time // the last fault
	failing  bool      // a fault lasts
	ended    int       // rollouts
	emptied  map[fleet.NodeID]time.Time
	limits   map[fleet.ServerName][]limit // of the last seconds
	callers  map[fleet.ServerName]int     // of revisions that work, at the last look
	tooMany  map[fleet.ServerName]int     // looks in a row
	wrong    map[fleet.ServerName]int     // looks in a row
	quiet    bool                         // nothing may start or stop
}

// seen is what the checker knows of a replica.
type seen struct {
	fleet.Replica
	at     time.Time
	kind   kind
	called bool // it took calls at the last look
}

// toldToStop is a replica that was ordered to stop.
type toldToStop struct {
	*seen
	called bool
}

// limit is what must hold.
type limit struct {
	at       time.Time
	least    int // that take calls
	replicas int // at most
	spares   int // at most
}

// elasticTally is what the checker counts at a look.
type elasticTally struct {
	callers, working, replicas, spares map[fleet.ServerName]int
	stops                              []toldToStop
	noRoom                             bool // something was stopped for want of room
}

func newChecker(e *elastic) *checker {
	count := func() map[fleet.ServerName]int { return make(map[fleet.ServerName]int) }
	return &checker{
		e: e, seen: make(map[fleet.ReplicaID]*seen), limits: make(map[fleet.ServerName][]limit), emptied: make(map[fleet.NodeID]time.Time),
		callers: count(), tooMany: count(), wrong: count(),
	}
}

// disturbed records that something has happened that may cause starts and stops.
func (c *checker) disturbed(fault bool) {
	if c.operated = time.Now(); fault {
		c.failed = c.operated
	}
}

// calm reports whether nothing has failed for so long.
func (c *checker) calm(d time.Duration) bool { return time.Since(c.failed) > d }

func (c *checker) fatal(format string, args ...any) {
	c.e.t.Helper()
	c.e.t.Fatalf("%s at %s\n%s", fmt.Sprintf(format, args...), time.Now().Format("15:04:05.000"), c.e)
}

// look checks everything once.
func (c *checker) look() {
	now := time.Now()
	if c.failing {
		c.disturbed(true)
	}
	if n := len(c.e.desired.ended()); n != c.ended {
		c.ended = n
		c.disturbed(false)
	}
	for node, until := range c.emptied {
		if !until.IsZero() && now.After(until) {
			c.emptied[node] = time.Time{}
			c.e.fault("a drain is over", "node", node)
		}
	}
	t := c.count(now)
	if t.noRoom {
		c.disturbed(false)
	}
	for _, s := range c.e.servers() {
		l := c.limit(&s, now)
		c.checkCounts(&s, l, t)
		c.checkStatus(&s)
		for _, x := range t.stops {
			if x.Server == s.Name {
				c.checkStop(x, l, t, now)
			}
		}
	}
	c.checkStarts(now)
	c.callers = t.working
}

// count looks at all replicas.
func (c *checker) count(now time.Time) elasticTally {
	t := elasticTally{
		callers: make(map[fleet.ServerName]int), working: make(map[fleet.ServerName]int),
		replicas: make(map[fleet.ServerName]int), spares: make(map[fleet.ServerName]int),
	}
	before := c.seen
	c.seen = make(map[fleet.ReplicaID]*seen)
	for _, n := range c.e.workers {
		var memory int64
		for _, r := range n.Running() {
			memory += r.Resources.Memory
			s := before[r.ID]
			if s == nil {
				s = c.started(r, now)
			}
			c.seen[r.ID] = s
			calls := r.Phase == fleet.PhaseReady && !r.Spare && !r.Unhealthy && n.Reachable() && c.e.takesCalls(r.Server, r.Revision)
			began := s.Phase < fleet.PhaseDraining && r.Phase == fleet.PhaseDraining
			switch {
			case began && r.Reason == "its stdout ended":
				if s.kind.works() {
					c.disturbed(true)
				}
			case began:
				t.stops = append(t.stops, toldToStop{s, s.called})
				t.noRoom = t.noRoom || strings.Contains(r.Reason, "for want of room")
			case r.Phase == fleet.PhaseDraining:
			case r.Spare:
				t.spares[r.Server]++
			default:
				if _, emptied := c.emptied[r.Node]; !emptied {
					t.replicas[r.Server]++
				}
			}
			if calls {
				t.callers[r.Server]++
			}
			if calls && s.kind.works() {
				t.working[r.Server]++
			}
			s.Replica, s.called = r, calls
		}
		if memory > c.e.memory {
			c.fatal("%d bytes reserved on node %s, which has %d", memory, n.Life(), c.e.memory)
		}
	}
	return t
}

// started begins to follow a replica.
func (c *checker) started(r fleet.Replica, now time.Time) *seen {
	if c.quiet {
		c.fatal("replica %s of a quiet fleet was started", r.ID)
	}
	s := &seen{Replica: r, at: now, kind: c.e.kindOf(r.Server, r.Revision)}
	s.Phase = min(s.Phase, fleet.PhaseStarting)
	c.starts = append(c.starts, s)
	return s
}

// limit returns what must hold of a server. What held before may take some time to
// change.
func (c *checker) limit(s *fleet.Server, now time.Time) limit {
	u, n := s.Spec.UpdatePolicy(), s.Target.Replicas
	surge, unavailable := u.MaxSurge.Up(n), u.MaxUnavailable.Down(n)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	l := limit{at: now, least: n - unavailable, replicas: n + max(1, surge), spares: s.Spec.Warm}
	if s.StableTemplate != nil {
		tried, _ := trial(s)
		l.replicas += tried
		l.spares += 2 // those of the stable revision stay
	}
	list := slices.DeleteFunc(append(c.limits[s.Name], l), func(x limit) bool { return now.Sub(x.at) > 15*time.Second })
	c.limits[s.Name] = list
	for _, x := range list {
		l.least, l.replicas, l.spares = min(l.least, x.least), max(l.replicas, x.replicas), max(l.spares, x.spares)
	}
	return l
}

func (c *checker) checkCounts(s *fleet.Server, l limit, t elasticTally) {
	replicas, spares, working := t.replicas[s.Name], t.spares[s.Name], t.working[s.Name]
	c.tooMany[s.Name]++ // orders may be under way for a moment
	if replicas <= l.replicas && spares <= l.spares || !c.calm(20*time.Second) {
		c.tooMany[s.Name] = 0
	}
	if c.tooMany[s.Name] > int(time.Second/tick) {
		c.fatal("%d replicas and %d spares of %s run, want %d and %d at most", replicas, spares, s.Name, l.replicas, l.spares)
	}
	if before := c.callers[s.Name]; before >= l.least && working < l.least && c.calm(10*time.Second) && !t.noRoom {
		c.fatal("%d replicas of %s take calls, there were %d, want %d", working, s.Name, before, l.least)
	}
}

// checkStatus checks that the state of a server is not wrong for more than a second.
func (c *checker) checkStatus(s *fleet.Server) {
	st, ready := c.e.status(s.Name), 0
	for _, x := range c.seen {
		if x.Server == s.Name && x.Phase == fleet.PhaseReady && !x.Spare && x.Revision == s.Revision {
			ready++
		}
	}
	c.wrong[s.Name]++
	right := true
	switch st.State {
	case fleet.StateReady:
		right = ready >= s.Target.Replicas
	case fleet.StateIdle:
		right = s.Target.Idle()
	case fleet.StateStopped:
		right = s.Target.Stopped()
	}
	if right || !c.calm(15*time.Second) {
		c.wrong[s.Name] = 0
	}
	if c.wrong[s.Name] > int(time.Second/tick) {
		c.fatal("server %s is %s with %d of %d ready", s.Name, st.State, ready, s.Target.Replicas)
	}
}

// checkStop checks the stop of a replica that was ordered since the last look.
func (c *checker) checkStop(s toldToStop, l limit, t elasticTally, now time.Time) {
	if c.quiet {
		c.fatal("replica %s of a quiet fleet was stopped: %s", s.ID, s.Reason)
	}
	if s.kind.works() && now.Sub(s.at) < 10*time.Second && c.operated.Before(s.at.Add(-2*time.Second)) {
		c.fatal("replica %s was stopped %v after its start, and nothing has happened: %s", s.ID, now.Sub(s.at), s.Reason)
	}
	if n := t.callers[s.Server]; s.called && n < l.least && c.calm(10*time.Second) && !t.noRoom {
		c.fatal("%d replicas of %s take calls after %s was stopped, want %d: %s", n, s.Server, s.ID, l.least, s.Reason)
	}
}

// checkStarts checks the number of starts in ten seconds in which nothing happened.
func (c *checker) checkStarts(now time.Time) {
	c.starts = slices.DeleteFunc(c.starts, func(s *seen) bool { return now.Sub(s.at) > 10*time.Second })
	if c.operated.After(now.Add(-12 * time.Second)) {
		return
	}
	for _, s := range c.e.servers() {
		works, fails := 0, 0
		for _, x := range c.starts {
			switch {
			case x.Server != s.Name:
			case x.kind.works():
				works++
			default:
				fails++
			}
		}
		n := s.Target.Replicas + s.Spec.Warm
		if works > 2*max(1, n)+2 || fails > n+12 {
			c.fatal("%d starts of %s within 10 s, and %d of revisions that do not work", works, s.Name, fails)
		}
	}
}

// exact reports whether exactly what is desired runs.
func (c *checker) exact() bool {
	for _, s := range c.e.servers() {
		ready, spares, warm := 0, 0, s.Spec.Warm
		for _, r := range c.e.running(s.Name) {
			switch {
			case r.Phase != fleet.PhaseReady || r.Revision != s.Revision || r.Generation < s.Generation || r.Unhealthy:
				return false
			case r.Spare:
				spares++
			default:
				ready++
			}
		}
		if s.Target.Stopped() {
			warm = 0
		}
		st := c.e.status(s.Name)
		if ready != s.Target.Replicas || spares != warm || st.Ready != ready || st.Spares != spares {
			return false
		}
		if s.Target.Replicas > 0 && st.State != fleet.StateReady {
			return false
		}
	}
	return true
}
