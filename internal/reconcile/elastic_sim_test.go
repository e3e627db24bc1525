package reconcile

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// Users, the autoscaler, the judge of rollouts and operators change their minds at
// random, while replicas, workers and leaders fail, and the network is bad at times. The
// desired state is the real one. elastic_check_test.go has what must hold all the time.
// When all is quiet, exactly what is desired runs, and nothing more is started or
// stopped. A failure prints what has happened: look for "OPERATION" and "FAULT".
func TestElastic(t *testing.T) {
	simulate(t, elastically)
}

// kind is how the replicas of a revision go. Images are named for it.
type kind string

const (
	good    kind = "good"
	slow    kind = "slow"    // to start
	drains  kind = "drains"  // for long
	pulls   kind = "pulls"   // its image for long
	broken  kind = "broken"  // does not start
	dies    kind = "dies"    // after 3 s
	hanging kind = "hanging" // never READY
)

func (k kind) works() bool { return k != broken && k != dies && k != hanging }

func (k kind) behaviour() observetest.Behaviour {
	b := observetest.Behaviour{ReadyAfter: 300 * time.Millisecond, StopAfter: 300 * time.Millisecond}
	switch k {
	case slow:
		b.ReadyAfter = 8 * time.Second
	case drains:
		b.StopAfter = 20 * time.Second
	case pulls:
		b.PullFor = 15 * time.Second
	case broken:
		b.FailStart = true
	case dies:
		b.CrashAfter = 3 * time.Second
	case hanging:
		b.Hang = true
	}
	return b
}

const megabyte = 1 << 20

// elastic is a world whose desired state is changed by real commands.
type elastic struct {
	*world
	rnd      *rand.Rand
	others   []*controller // follow, or believe that they lead
	check    *checker
	nodes    []fleet.NodeID
	alive    map[fleet.NodeID]*observetest.Worker
	made     int   // images
	memory   int64 // of a node
	minReady time.Duration
	network  observetest.Faults // at its best

	mu        sync.Mutex // also held while the desired state of the world is set
	state     *desired.State
	kinds     map[revision]kind
	unchecked map[revision]bool // no calls go to them
}

func newElastic(t *testing.T, seed uint64) *elastic {
	e := &elastic{
		world: newWorld(t, seed), rnd: rand.New(rand.NewPCG(seed, 11)), state: &desired.State{Format: desired.Format},
		kinds: make(map[revision]kind), unchecked: make(map[revision]bool), alive: make(map[fleet.NodeID]*observetest.Worker),
	}
	e.memory = int64(6+10*e.rnd.IntN(3)) * megabyte
	e.minReady = time.Duration([]int{0, 1, 5}[e.rnd.IntN(3)]) * time.Second
	if e.rnd.IntN(2) == 0 {
		e.network = observetest.Faults{OrderDelay: 100 * time.Millisecond, ReportDelay: 100 * time.Millisecond}
	}
	e.net.SetFaults(e.network)
	e.check = newChecker(e)
	e.desired.onEnd = func(end RolloutEnd) {
		if end.Failed == "" {
			e.do(desired.EndRollout{Name: end.Server, Revision: end.Revision, Generation: end.Generation})
		} else {
			e.do(desired.FailRollout{Name: end.Server, Revision: end.Revision, Generation: end.Generation, Reason: end.Failed})
		}
	}
	return e
}

// do applies a command. Commands that are refused change nothing.
func (e *elastic) do(c desired.Command) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.apply(c)
	for name, sv := range e.state.Servers {
		if r := sv.Rollout; r != nil && !r.Checked && len(sv.Spec.UpdatePolicy().Verify) == 0 { // the judge has nothing to check
			e.apply(desired.AdvanceRollout{Name: name, Revision: sv.Revision, Generation: sv.Generation, Checked: true, Step: r.Step, Held: r.Held})
		}
	}
	for name, sv := range e.state.Servers {
		e.kinds[revision{name, sv.Revision}] = kindIn(&sv.Spec.Template)
		s := sv.Fleet(name)
		for _, kept := range sv.Revisions {
			e.unchecked[revision{name, kept.Number}] = kept.Unchecked || kept.Number == s.Revision && s.Unchecked()
		}
	}
	e.desired.set(e.state.List()...)
}

func (e *elastic) apply(c desired.Command) {
	e.state = e.state.Apply(e.state.Applied+1, 1, desired.Entry{Time: time.Now(), Command: c}).State
}

// kindIn returns the kind that an image is named for.
func kindIn(t *fleet.Template) kind { return kind(t.Image[strings.Index(t.Image, "-")+1:]) }

func (e *elastic) kindOf(name fleet.ServerName, rev fleet.Revision) kind {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.kinds[revision{name, rev}]
}

func (e *elastic) takesCalls(name fleet.ServerName, rev fleet.Revision) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.unchecked[revision{name, rev}]
}

func (e *elastic) behave(name fleet.ServerName, rev fleet.Revision) observetest.Behaviour {
	return e.kindOf(name, rev).behaviour()
}

func (e *elastic) server(name fleet.ServerName) *desired.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state.Servers[name]
}

func (e *elastic) servers() []fleet.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state.List()
}

// join starts a worker in a new life.
func (e *elastic) join(id fleet.NodeID) {
	if _, known := e.alive[id]; !known {
		e.nodes = append(e.nodes, id)
	}
	zone := ""
	if e.rnd.IntN(2) == 0 {
		zone = "z"
	}
	e.alive[id] = e.world.join(fleet.NodeInfo{Node: id, Zone: zone, Capacity: fleet.Resources{Memory: e.memory}}, e.behave)
}

func (e *elastic) amount() fleet.Amount {
	return []fleet.Amount{{}, {Count: 1}, {Count: 2}, {Percent: 25}, {Percent: 50}, {Percent: 100}}[e.rnd.IntN(6)]
}

// deploy writes a spec with a template of that kind, or with the present one if the
// kind is "".
func (e *elastic) deploy(name fleet.ServerName, k kind) {
	u := fleet.DefaultUpdate()
	u.MaxSurge, u.MaxUnavailable = e.amount(), e.amount()
	if e.rnd.IntN(2) == 0 {
		u.MaxUnavailable = fleet.Amount{}
	}
	if u.MaxSurge.IsZero() && u.MaxUnavailable.IsZero() {
		u.MaxSurge = fleet.Amount{Percent: 25}
	}
	u.MinReady = e.minReady
	u.ProgressDeadline = time.Duration([]int{12, 20, 60}[e.rnd.IntN(3)]) * time.Second
	if k == dies && e.minReady < 5*time.Second {
		k = broken // it would be the stable one some day
	}
	switch e.rnd.IntN(4) {
	case 0:
		u.Canary = &fleet.Canary{Steps: []float64{5, 30, 60}, Gate: fleet.GateManual}
	case 1:
		u.Verify = []fleet.VerifyCall{{Tool: "t"}}
	}
	sv := e.server(name)
	spec := fleet.Spec{Update: &u, Warm: max(0, e.rnd.IntN(5)-2), Replicas: e.rnd.IntN(7)}
	if e.rnd.IntN(4) == 0 {
		spec.MaxReplicasPerNode = 2
	}
	if name == "b" {
		spec.Replicas = 0
		spec.Autoscaling = &fleet.Autoscaling{MaxReplicas: 8}
	}
	if k == "" && sv != nil {
		spec.Template = sv.Spec.Template
		spec.Replicas = sv.Spec.Replicas
	} else {
		e.made++
		spec.Template = fleet.Template{Image: fmt.Sprintf("%d-%s", e.made, k), Resources: fleet.Resources{Memory: int64(1+e.rnd.IntN(2)) * megabyte}}
	}
	e.operation("deploy", "server", name, "kind", k, "replicas", spec.Replicas, "warm", spec.Warm,
		"surge", u.MaxSurge, "unavailable", u.MaxUnavailable, "min_ready", u.MinReady, "deadline", u.ProgressDeadline,
		"canary", u.Canary != nil, "verify", u.Verify != nil)
	e.do(desired.PutServer{Name: name, Spec: spec})
}

func (e *elastic) scale(name fleet.ServerName, n int) {
	e.operation("scale", "server", name, "replicas", n)
	if sv := e.server(name); sv.Spec.Autoscaling != nil {
		e.do(desired.SetTarget{Name: name, Replicas: n, Written: sv.Written, Reason: "load"})
	} else {
		e.do(desired.Scale{Name: name, Replicas: n})
	}
}

// advance lets a rollout go one step on, as the judge does.
func (e *elastic) advance(name fleet.ServerName) {
	sv := e.server(name)
	if sv.Rollout == nil {
		return
	}
	c := desired.AdvanceRollout{Name: name, Revision: sv.Revision, Generation: sv.Generation, Checked: true, Step: sv.Rollout.Step}
	if s := sv.Fleet(name); !s.Unchecked() {
		c.Step++
	}
	e.operation("advance", "server", name, "step", c.Step)
	e.do(c)
}

func (e *elastic) operation(what string, args ...any) {
	e.log.Info("OPERATION "+what, args...)
	e.check.disturbed(false)
}

func (e *elastic) fault(what string, args ...any) {
	e.log.Info("FAULT "+what, args...)
	e.check.disturbed(true)
}

// elastically runs the simulation.
func elastically(t *testing.T, seed uint64) {
	e := newElastic(t, seed)
	for i := range 4 {
		e.join(fleet.NodeID(fmt.Sprint("n", i)))
	}
	e.deploy("a", good)
	e.deploy("b", good)
	e.scale("b", 3)
	for range 2 {
		c := e.newController()
		e.follow(c)
		e.others = append(e.others, c)
	}
	e.control()
	t.Cleanup(func() {
		for _, c := range append(e.others, e.controller) {
			c.stop()
		}
	})
	for range 15 {
		most := 4000
		if e.rnd.IntN(3) == 0 {
			most = 40_000
		}
		e.pause(time.Duration(e.rnd.IntN(most)) * time.Millisecond)
		if e.rnd.IntN(4) == 0 {
			e.fail()
		} else {
			e.operate(fleet.ServerName([]string{"a", "b"}[e.rnd.IntN(2)]))
		}
	}
	e.settle()
}

// pause lets time pass, and checks meanwhile.
func (e *elastic) pause(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(tick) {
		e.check.look()
	}
}

// operate does one thing that users or the leader do.
func (e *elastic) operate(name fleet.ServerName) {
	sv := e.server(name)
	node := e.nodes[e.rnd.IntN(len(e.nodes))]
	kinds := []kind{good, good, good, slow, drains, pulls, broken, dies, hanging}
	switch e.rnd.IntN(17) {
	case 16:
		if e.rnd.IntN(3) == 0 {
			e.operation("delete", "server", name)
			e.do(desired.DeleteServer{Name: name})
			delete(e.check.limits, name)
			e.pause(time.Duration(e.rnd.IntN(2000)) * time.Millisecond)
			e.deploy(name, good)
		}
	case 0, 1, 2:
		e.deploy(name, kinds[e.rnd.IntN(len(kinds))])
	case 3:
		e.deploy(name, "")
	case 4:
		e.operation("undo", "server", name)
		e.do(desired.Rollback{Name: name})
	case 5:
		if sv.Rollout != nil {
			e.operation("worse", "server", name)
			e.do(desired.FailRollout{Name: name, Revision: sv.Revision, Generation: sv.Generation, Reason: "worse", Unfit: true})
		}
	case 6, 7:
		e.scale(name, max(0, e.rnd.IntN(10)-2))
	case 8:
		verb := []desired.RolloutVerb{desired.PauseRollout, desired.ResumeRollout}[e.rnd.IntN(2)]
		e.operation(string(verb), "server", name)
		e.do(desired.SetRollout{Name: name, Verb: verb})
	case 9, 10, 11:
		e.advance(name)
	case 12:
		if sv.Rollout != nil {
			e.operation("hold", "server", name)
			e.do(desired.AdvanceRollout{
				Name: name, Revision: sv.Revision, Generation: sv.Generation, Checked: sv.Rollout.Checked, Step: sv.Rollout.Step, Held: "held",
			})
		}
	case 13:
		e.operation("restart", "server", name)
		e.do(desired.Restart{Name: name})
	case 14:
		for id := range e.desired.Nodes() { // one at a time
			e.desired.intend(id, fleet.NodeIntent{})
		}
		i := fleet.NodeIntent{Cordoned: true}
		if e.rnd.IntN(2) == 0 {
			i.DrainUntil = time.Now().Add(time.Minute)
		}
		e.operation("cordon", "node", node, "drain", !i.DrainUntil.IsZero())
		e.desired.intend(node, i)
		clear(e.check.emptied)
		if !i.DrainUntil.IsZero() {
			e.check.emptied[node] = i.DrainUntil
		}
	case 15:
		if len(e.nodes) < 6 && e.rnd.IntN(2) == 0 {
			id := fleet.NodeID(fmt.Sprint("n", len(e.nodes)))
			e.operation("join", "node", id)
			e.join(id)
			return
		}
		e.operation("uncordon", "node", node)
		e.desired.intend(node, fleet.NodeIntent{})
		delete(e.check.emptied, node)
	}
}

// fail lets something fail.
func (e *elastic) fail() {
	e.check.failing = true
	defer func() { e.check.failing = false }()
	id := e.nodes[e.rnd.IntN(len(e.nodes))]
	n := e.alive[id]
	switch e.rnd.IntN(8) {
	case 0:
		e.fault("worker crashes", "node", id)
		n.Kill()
		if e.rnd.IntN(2) == 0 {
			e.pause(time.Duration(e.rnd.IntN(3000)) * time.Millisecond)
			e.net.List(n, false)
			e.pause(time.Duration(e.rnd.IntN(15000)) * time.Millisecond)
			e.fault("worker returns", "node", id)
			e.join(id)
		} else {
			e.join(id)
			e.net.List(n, false)
		}
	case 1:
		e.fault("worker stops", "node", id)
		n.Drain()
		e.pause(time.Duration(3000+e.rnd.IntN(5000)) * time.Millisecond)
		e.fault("worker has stopped", "node", id)
		n.Kill()
		e.net.List(n, false)
		e.pause(time.Duration(e.rnd.IntN(5000)) * time.Millisecond)
		e.fault("worker returns", "node", id)
		e.join(id)
	case 2:
		e.fault("worker is cut off", "node", id)
		n.Cut(true)
		e.pause(time.Duration(e.rnd.IntN(15000)) * time.Millisecond)
		e.fault("worker is back", "node", id)
		n.Cut(false)
	case 3:
		e.fault("bad network")
		e.net.SetFaults(bad)
		e.pause(time.Duration(e.rnd.IntN(20000)) * time.Millisecond)
		e.net.SetFaults(e.network)
		e.fault("good network")
	case 4:
		e.fault("leader changes")
		old := e.controller
		e.lead(e.others[0])
		e.others = append(e.others[1:], old)
		e.pause(time.Duration(e.rnd.IntN(3000)) * time.Millisecond)
		for _, c := range e.others {
			e.follow(c)
		}
	case 5:
		run := e.running("a")
		if len(run) > 0 {
			r := run[e.rnd.IntN(len(run))]
			e.fault("replica is unhealthy", "replica", r.ID)
			for _, n := range e.workers {
				n.Set(r.ID, func(r *fleet.Replica) { r.Unhealthy = true })
			}
		}
	default:
		e.fault("replica crashes")
		e.crash(e.rnd, fleet.ServerName([]string{"a", "b"}[e.rnd.IntN(2)]))
	}
}

// settle ends all that keeps the fleet from becoming quiet, and checks that it does.
func (e *elastic) settle() {
	for id := range e.desired.Nodes() {
		e.desired.intend(id, fleet.NodeIntent{})
	}
	clear(e.check.emptied)
	e.operation("all is well")
	for _, name := range []fleet.ServerName{"a", "b"} {
		e.do(desired.SetRollout{Name: name, Verb: desired.ResumeRollout})
		sv := e.server(name)
		if !kindIn(&sv.Spec.Template).works() && (sv.Stable == 0 || sv.Stable == sv.Revision) {
			e.deploy(name, good)
		}
		e.scale(name, min(4, e.server(name).Replicas)) // there must be room
	}
	quiet := func() bool {
		for _, sv := range e.servers() {
			waits := sv.Target.Stopped() || sv.Target.Idle() && sv.Rolling() && sv.Rollout.From == 0 // for a person, or a call
			if sv.Rolling() && !waits {
				return false
			}
		}
		return e.check.exact()
	}
	for i := 0; !quiet(); i++ {
		if i > 60 {
			e.t.Fatalf("not quiet after 5 minutes\n%s", e)
		}
		e.pause(5 * time.Second)
		for _, name := range []fleet.ServerName{"a", "b"} {
			e.advance(name)
		}
	}
	time.Sleep(12 * time.Minute) // nodes are taken back, and replicas move to them
	e.check.look()
	e.check.quiet = true
	for range 180 {
		e.check.look()
		time.Sleep(time.Second)
	}
	if !e.check.exact() {
		e.t.Fatalf("a quiet fleet is not what is desired\n%s", e)
	}
}
