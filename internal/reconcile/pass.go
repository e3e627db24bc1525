package reconcile

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// pass is what the loop owns. Only the goroutine in Follow or Lead uses it.
type pass struct {
	r        *Reconciler
	leads    bool
	log      *slog.Logger
	record   func(Event)
	state    *state
	startup  startup
	rollouts rollouts
	snap     *observe.Snapshot
	desired  []fleet.Server
	intents  map[fleet.NodeID]fleet.NodeIntent
	known    []fleet.NodeID // as on disk
	// waitingFor is what startup waits for, "" once the pass acts.
	waitingFor string
}

func newPass(r *Reconciler, leads bool) *pass {
	known := r.cfg.Known.KnownNodes()
	log, record := r.log, r.cfg.Record
	if !leads { // the leader logs and records
		log, record = slog.New(slog.DiscardHandler), func(Event) {}
	}
	p := &pass{
		r: r, leads: leads, log: log, record: record, known: known,
		state: newState(log, r.cfg.Jitter, record, leads, r.history), rollouts: newRollouts(r.cfg.EndRollout, log),
	}
	p.startup = startup{
		began: time.Now(), grace: r.cfg.NodeGrace, settle: r.cfg.Settle, expect: r.cfg.ExpectWorkers, known: known,
		hasReported: p.state.fences.hasReported,
	}
	return p
}

// run makes one pass: observe, plan, begin what was planned, publish the status.
// It returns when time alone requires the next one.
func (p *pass) run(now time.Time) (wake time.Time) {
	p.snap = p.r.cfg.View.Snapshot()
	p.desired, p.intents = p.r.cfg.Desired.Servers(), p.r.cfg.Desired.Nodes()
	p.state.nodes.observe(p.snap.Nodes, now, p.record)
	wake = p.state.observe(p.snap, p.intents, now)
	waiting, look := p.startup.waitsFor(p.snap, now)
	wake = earlier(look, wake)
	p.logWaiting(waiting)
	acts, complete := waiting == "", p.state.complete
	if acts {
		p.state.attempts.recalling, p.state.complete = false, true
	}

	if acts {
		wake = earlier(wake, p.state.judgeNodes(p.snap.Ended, now, p.recordNode))
	}
	p.state.arrivals.observe(now, &p.state.views, p.state.suspects, complete)
	p.state.observeMoves(now)
	p.state.observeSessions(p.r.cfg.Sessions)
	servers := p.state.servers(p.desired)
	rm := p.state.room(now)
	plans := make([]decision, len(servers))
	if p.state.complete {
		plans = plan(now, servers, rm)
	}
	if acts && p.leads {
		wake = earlier(wake, p.state.rebalance(now, servers, plans, rm, p.r.cfg.RebalanceAfter))
	}
	if acts {
		if p.leads {
			p.begin(servers, plans, now)
		}
		p.state.forget(servers, plans, p.snap)
		for i := range plans {
			wake = earlier(plans[i].wake, wake)
		}
	}
	if acts && p.leads {
		servers = p.state.servers(p.desired) // with what was begun
		if !p.remember() {
			wake = earlier(wake, now.Add(time.Second))
		}
	}
	p.publish(now, servers, plans, rm.workers, waiting)
	if acts && p.leads {
		wake = earlier(wake, p.rollouts.observe(servers, plans, now))
	}
	return wake
}

func earlier(a, b time.Time) time.Time {
	if sooner(a, b) {
		return a
	}
	return b
}

func (p *pass) logWaiting(waiting string) {
	if waiting == p.waitingFor {
		return
	}
	if p.waitingFor = waiting; waiting == "" {
		p.log.Info("acting from now on", "nodes", len(p.snap.Nodes), "replicas", len(p.snap.Replicas))
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
				p.log.Info("stopping replica", "server", a.stop.server, "revision", a.stop.rev, "replica", a.stop.id,
					"node", a.stop.node, "reason", a.reason)
				continue
			}
			if a.activate != nil {
				p.state.replicas.activate(a.activate, a.reason)
				p.log.Info("activating spare", "server", servers[i].name, "revision", a.rev, "replica", a.activate.id,
					"node", a.activate.node, "reason", a.reason)
				continue
			}
			id := p.r.cfg.NewID(servers[i].name, a.rev)
			p.state.replicas.start(id, servers[i].desired, a, p.snap.Nodes[a.node].Member.Life, now)
			if a.moves != nil {
				a.moves.moving = &moving{to: id, reason: a.reason}
			}
			p.log.Info("starting replica", "server", servers[i].name, "revision", a.rev, "replica", id,
				"node", a.node, "reason", a.reason)
		}
	}
}

// remember writes the list of nodes that may run replicas. A node is on disk
// before its first order, until it is lost and nothing of it is left. remember
// reports whether the list on disk is current.
func (p *pass) remember() bool {
	may := make(map[fleet.NodeID]bool)
	for _, id := range p.known {
		if n, ok := p.snap.Nodes[id]; ok && !n.Lost {
			may[id] = true
		}
	}
	for _, id := range p.state.nodesInUse() {
		may[id] = true
	}
	next := sortedKeys(may)
	if slices.Equal(next, p.known) {
		return true
	}
	if err := p.r.cfg.Known.SetKnownNodes(next); err != nil {
		p.log.Error("list of nodes in use not written: no replica starts on a new node", "err", err)
		p.state.replicas.removeUnsent(p.known)
		return false
	}
	p.known = next
	return true
}

// publish sets the servers' status, and logs and records changes of state.
func (p *pass) publish(now time.Time, servers []want, plans []decision, workers int, waiting string) {
	list := make([]ServerStatus, len(servers))
	for i := range servers {
		w := &servers[i]
		serving := count(w.units, func(u *unit) bool { return w.desired != nil && u.serving() && u.rev == w.desired.Revision })
		switch {
		case w.desired == nil:
		case w.desired.Spec.PerSession():
			p.state.deployed[w.name] = w.desired.Offers
		case w.desired.Target.Idle():
			p.state.deployed[w.name] = false // the next call deploys it again
		case serving >= max(1, w.desired.Target.Replicas):
			p.state.deployed[w.name] = true
		}
		list[i] = status(now, w, &plans[i], outlook{workers, p.state.deployed[w.name], p.state.settled[w.name], p.state.complete, waiting})
		p.state.settled[w.name] = list[i].Settled
		list[i].Restarts = p.state.restarts[w.name]
		list[i].LastEnded = p.snap.Ended[w.name]
	}
	slices.SortFunc(list, func(a, b ServerStatus) int { return cmp.Compare(a.Name, b.Name) })

	cordons := p.state.suspects.reasons()
	r := p.r
	r.mu.Lock()
	before := r.status
	same := sameStatus(before, list) && maps.Equal(r.cordons, cordons)
	if !same {
		r.status, r.cordons = list, cordons
	}
	r.mu.Unlock()
	if same {
		return
	}
	p.recordStates(before, list)
	r.board.Post()
}

// recordNode logs and records what the leader does to a node by itself.
func (p *pass) recordNode(e Event) {
	p.log.Warn(e.Message, "node", e.Node)
	p.record(e)
}

func (p *pass) recordStates(before, after []ServerStatus) {
	was := make(map[fleet.ServerName]fleet.State)
	for _, s := range before {
		was[s.Name] = s.State
	}
	record := func(s *ServerStatus, message string) {
		if s.Reason != "" {
			message += ": " + s.Reason
		}
		p.record(Event{Kind: fleet.EventServerState, Server: s.Name, Revision: s.Revision, Message: message})
	}
	for i := range after {
		s := &after[i]
		from := was[s.Name]
		delete(was, s.Name)
		if from == s.State {
			continue
		}
		p.log.Info("server state changed", "server", s.Name, "from", from, "to", s.State, "ready", s.Ready, "desired", s.Target.Replicas, "reason", s.Reason)
		if from == "" {
			record(s, fmt.Sprintf("server %s is %s", s.Name, s.State))
		} else {
			record(s, fmt.Sprintf("server %s is %s, was %s", s.Name, s.State, from))
		}
	}
	for _, name := range sortedKeys(was) {
		p.log.Info("server gone", "server", name, "from", was[name])
		record(&ServerStatus{Name: name}, fmt.Sprintf("server %s is gone", name))
	}
}
