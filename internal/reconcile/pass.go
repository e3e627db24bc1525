package reconcile

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// pass is the state of the loop. Only the goroutine in Follow or Lead touches
// it.
type pass struct {
	r        *Reconciler
	leads    bool
	log      *slog.Logger
	mem      *memory
	hold     hold
	rollouts rollouts
	snap     *observe.Snapshot
	desired  []fleet.Server
	intents  map[fleet.NodeID]fleet.NodeIntent
	known    []fleet.NodeID // as on disk
	held     string         // the last thing waited for
}

func newPass(r *Reconciler, leads bool) *pass {
	known := r.cfg.Known.KnownNodes()
	log := r.log
	if !leads {
		log = slog.New(slog.DiscardHandler) // the leader tells
	}
	p := &pass{
		r: r, leads: leads, log: log, mem: newMemory(log, r.cfg.Jitter, r.history), known: known,
		rollouts: newRollouts(r.cfg.RolledOut, log),
	}
	p.mem.leads = leads
	if leads {
		p.mem.record = r.cfg.Record
	}
	p.hold = hold{
		began: time.Now(), grace: r.cfg.NodeGrace, settle: r.cfg.Settle, expect: r.cfg.ExpectWorkers, known: known,
		heard: p.mem.heard,
	}
	return p
}

// run makes one pass: observe, plan, begin what was planned, tell the status.
// It returns when time alone calls for the next one.
func (p *pass) run(now time.Time) (wake time.Time) {
	p.snap = p.r.cfg.View.Snapshot()
	p.desired, p.intents = p.r.cfg.Desired.Servers(), p.r.cfg.Desired.Nodes()
	p.mem.watchNodes(p.snap, now)
	wake = p.mem.absorb(p.snap, p.intents, now)
	waiting, look := p.hold.waiting(p.snap, now)
	wake = earlier(look, wake)
	p.tellHold(waiting)
	acts := waiting == ""
	if acts {
		p.mem.past.open, p.mem.complete = false, true
	}

	servers := p.mem.servers(p.desired)
	rm := newRoom(p.mem.rooms(p.snap, p.intents, now), p.mem.all())
	rm.awaited = p.mem.awaited()
	plans := make([]decision, len(servers))
	if p.mem.complete {
		plans = plan(now, servers, rm)
	}
	if acts {
		if p.leads {
			p.begin(servers, plans, now)
		}
		p.mem.settle(servers, plans, p.snap)
		for i := range plans {
			wake = earlier(plans[i].wake, wake)
		}
	}
	if acts && p.leads {
		servers = p.mem.servers(p.desired) // with what was begun
		if !p.remember() {
			wake = earlier(wake, now.Add(time.Second))
		}
	}
	p.publish(now, servers, plans, rm.workers, waiting)
	if acts && p.leads {
		p.rollouts.look(servers)
	}
	return wake
}

func earlier(a, b time.Time) time.Time {
	if sooner(a, b) {
		return a
	}
	return b
}

func (p *pass) tellHold(waiting string) {
	if waiting == p.held {
		return
	}
	if p.held = waiting; waiting == "" {
		p.log.Info("the picture is complete: acting from here on", "nodes", len(p.snap.Nodes), "replicas", len(p.snap.Replicas))
		return
	}
	p.log.Info("not acting yet", "reason", waiting)
}

// begin turns the planned actions into orders.
func (p *pass) begin(servers []want, plans []decision, now time.Time) {
	for i, d := range plans {
		for _, a := range d.actions {
			if a.stop != nil {
				a.stop.stop = &order{reason: a.reason}
				p.log.Info("stop replica", "server", a.stop.server, "revision", a.stop.rev, "replica", a.stop.id,
					"node", a.stop.node, "reason", a.reason)
				continue
			}
			id := p.r.cfg.NewID(servers[i].name, a.rev)
			p.mem.begin(id, servers[i].desired, a, p.snap.Nodes[a.node].Member.Life, now)
			p.log.Info("start replica", "server", servers[i].name, "revision", a.rev, "replica", id,
				"node", a.node, "reason", a.reason)
		}
	}
}

// remember keeps the list of nodes that may run replicas. A node is on disk
// before its first order, and off it once it is gone with all it ran.
func (p *pass) remember() bool {
	may := make(map[fleet.NodeID]bool)
	for _, id := range p.known {
		if n, ok := p.snap.Nodes[id]; ok && !n.Lost {
			may[id] = true
		}
	}
	for _, u := range p.mem.units {
		may[u.node] = true
	}
	next := sortedKeys(may)
	if slices.Equal(next, p.known) {
		return true
	}
	if err := p.r.cfg.Known.SetKnownNodes(next); err != nil {
		p.log.Error("the nodes in use cannot be remembered: no replica starts on a new node", "err", err)
		p.mem.withhold(p.known)
		return false
	}
	p.known = next
	return true
}

// publish tells the servers' status, and logs how their states changed.
func (p *pass) publish(now time.Time, servers []want, plans []decision, workers int, waiting string) {
	list := make([]ServerStatus, len(servers))
	for i := range servers {
		w := &servers[i]
		if w.desired != nil && count(w.units, func(u *unit) bool {
			return u.serving() && u.rev == w.desired.Revision
		}) >= max(1, w.desired.Spec.Replicas) {
			p.mem.deployed[w.name] = true
		}
		list[i] = status(now, w, &plans[i], outlook{workers, p.mem.deployed[w.name], p.mem.complete, waiting})
		list[i].Restarts = p.mem.restarts[w.name]
		list[i].LastEnded = p.snap.Ended[w.name]
	}
	slices.SortFunc(list, func(a, b ServerStatus) int { return cmp.Compare(a.Name, b.Name) })

	r := p.r
	r.mu.Lock()
	before := r.status
	same := sameStatus(before, list)
	if !same {
		r.status = list
	}
	r.mu.Unlock()
	if same {
		return
	}
	p.tellStates(before, list)
	r.board.Post()
}

func (p *pass) tellStates(before, after []ServerStatus) {
	was := make(map[fleet.ServerName]fleet.State)
	for _, s := range before {
		was[s.Name] = s.State
	}
	tell := func(s *ServerStatus, message string) {
		if s.Reason != "" {
			message += ": " + s.Reason
		}
		p.mem.record(Event{Kind: ServerState, Server: s.Name, Revision: s.Revision, Message: message})
	}
	for i := range after {
		s := &after[i]
		from := was[s.Name]
		delete(was, s.Name)
		if from == s.State {
			continue
		}
		p.log.Info("server state", "server", s.Name, "from", from, "to", s.State, "ready", s.Ready, "desired", s.Desired, "reason", s.Reason)
		if from == "" {
			tell(s, fmt.Sprintf("server %s is %s", s.Name, s.State))
		} else {
			tell(s, fmt.Sprintf("server %s is %s, was %s", s.Name, s.State, from))
		}
	}
	for _, name := range sortedKeys(was) {
		p.log.Info("server gone", "server", name, "from", was[name])
		tell(&ServerStatus{Name: name}, fmt.Sprintf("server %s is gone", name))
	}
}
