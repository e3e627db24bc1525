// Package membership decides which controllers a cluster consists of: who
// founds it, who is taken in, who gets a vote, and who is removed because it
// will not come back. Gossip says who lives, raft's configuration says who
// counts; this brings the second after the first, slowly.
//
// It promises never to let the cluster fall below the number of voters that it
// was founded with, nor to remove anybody while that would leave no living
// majority. A controller that comes back before it was removed is a member as
// it was. Every change has a reason in words, which is logged and recorded. It
// changes one thing at a time.
//
// How long somebody has been dead or healthy is counted by the leader alone,
// from the beginning of its tenure at the earliest: after a change of leader
// it takes the whole time again. A living controller that was removed by hand
// is taken in again; to be rid of it, stop it first.
//
// It knows neither raft nor memberlist. Run is the only goroutine.
package membership

import (
	"context"
	"log/slog"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// lookEvery is how often the leader compares.
const lookEvery = time.Second

// Store is raft's side. The changes return when they are committed, or with an
// error.
type Store interface {
	ID() fleet.ControllerID
	State() *desired.State
	Members() ([]fleet.Voter, error)
	AddNonvoter(id fleet.ControllerID) error
	AddVoter(id fleet.ControllerID) error
	Remove(id fleet.ControllerID) error
	// Answered is when a controller last answered this one, the leader; zero:
	// never.
	Answered(id fleet.ControllerID) time.Time
	// PeerProblem says what keeps a controller from storing what this one, the
	// leader, sends to it; "" if nothing does.
	PeerProblem(id fleet.ControllerID) string
}

// Config says what a Keeper works with.
type Config struct {
	Store     Store
	Members   func() []fleet.Member // who lives, as gossip knows
	DeadAfter time.Duration         // when a dead voter is removed for good; 0: DefaultDeadAfter
	Log       *slog.Logger
	// Record is told what happened, for those who follow events. Nil: nobody.
	Record func(kind fleet.EventKind, message string)
}

// Keeper keeps the membership of a cluster while its controller leads.
type Keeper struct {
	cfg   Config
	names map[fleet.ControllerID]fleet.NodeID // of the living, and of those that were
}

// New returns a keeper. Its Run does the work.
func New(cfg Config) *Keeper {
	if cfg.DeadAfter == 0 {
		cfg.DeadAfter = DefaultDeadAfter
	}
	if cfg.Record == nil {
		cfg.Record = func(fleet.EventKind, string) {}
	}
	return &Keeper{cfg: cfg, names: map[fleet.ControllerID]fleet.NodeID{}}
}

// Run keeps the membership until ctx, which is that of a tenure, ends; then it
// returns nil. It can be called again, but not while it runs.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	memory := memory{promoted: map[fleet.ControllerID]time.Time{}, lagging: map[fleet.ControllerID]bool{}}
	complained := ""
	for {
		complaint := ""
		if err := k.look(ctx, &memory); err != nil && ctx.Err() == nil {
			complaint = err.Error()
		}
		if complaint != "" && complaint != complained {
			k.cfg.Log.Warn("the controllers are not what they should be; trying again", "err", complaint)
		}
		complained = complaint
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look compares, and changes what is to be changed now.
func (k *Keeper) look(ctx context.Context, memory *memory) error {
	// Each round does one thing; more than one a controller would be a fight
	// with somebody else's changes, and can wait for the next tick.
	for range len(k.cfg.Members()) + 1 {
		w, err := k.world(memory)
		if err != nil || ctx.Err() != nil {
			return err
		}
		a, ok := plan(w)
		if !ok {
			return w.complaint()
		}
		if err := k.do(w, a); err != nil {
			return err
		}
	}
	return nil
}

// world reads what there is, and tells of those that went or came.
func (k *Keeper) world(memory *memory) (*world, error) {
	voters, err := k.cfg.Store.Members()
	if err != nil {
		return nil, err
	}
	st := k.cfg.Store.State()
	w := &world{
		now: time.Now(), self: k.cfg.Store.ID(), cluster: st.Cluster, expect: st.Expect, deadAfter: k.cfg.DeadAfter,
		alive: living(k.cfg.Store.ID(), k.cfg.Members()), answered: k.cfg.Store.Answered, voters: voters,
	}
	for id, m := range w.alive {
		if m.Node != "" {
			k.names[id] = m.Node
		}
	}
	lost, back := memory.look(w.now, w.alive, voters)
	w.memory = *memory
	k.tellLagging(w)
	for _, id := range lost {
		k.tell(fleet.EventControllerLost, "lost", id, "gossip does not see it any more")
	}
	for _, id := range back {
		k.tell(fleet.EventControllerBack, "back", id, "gossip sees it again")
	}
	return w, nil
}

// tellLagging tells of the living that do not store what they are sent, and of
// those that do so again.
func (k *Keeper) tellLagging(w *world) {
	for _, v := range w.voters {
		_, lives := w.alive[v.ID]
		problem := ""
		if lives && v.ID != w.self {
			problem = k.cfg.Store.PeerProblem(v.ID)
		}
		switch lagged := w.memory.lagging[v.ID]; {
		case problem != "" && !lagged:
			w.memory.lagging[v.ID] = true
			k.tell(fleet.EventControllerLagging, "lags", v.ID, problem)
		case problem == "" && lagged:
			delete(w.memory.lagging, v.ID)
			if lives {
				k.tell(fleet.EventControllerCaughtUp, "has caught up", v.ID, "it stores what it is sent")
			}
		}
	}
}

// do carries out one action.
func (k *Keeper) do(w *world, a action) error {
	switch a.verb {
	case add:
		if err := k.cfg.Store.AddNonvoter(a.id); err != nil {
			return err
		}
		k.tell(fleet.EventControllerAdded, string(a.verb), a.id, a.reason)
	case promote:
		if err := k.cfg.Store.AddVoter(a.id); err != nil {
			return err
		}
		w.memory.promoted[a.id] = time.Now()
		k.tell(fleet.EventControllerPromoted, string(a.verb), a.id, a.reason)
	case remove:
		if err := k.cfg.Store.Remove(a.id); err != nil {
			return err
		}
		delete(w.memory.promoted, a.replaced) // it replaces nobody else
		k.tell(fleet.EventControllerRemoved, string(a.verb), a.id, a.reason)
		delete(k.names, a.id)
	}
	return nil
}

// tell logs and records what happened to a controller, and why.
func (k *Keeper) tell(kind fleet.EventKind, what string, id fleet.ControllerID, reason string) {
	level := slog.LevelInfo
	if kind == fleet.EventControllerLagging {
		level = slog.LevelWarn
	}
	k.cfg.Log.Log(context.Background(), level, "controller "+what, "controller", id, "node", k.names[id], "reason", reason)
	k.cfg.Record(kind, nameOf(id, k.names[id])+" "+what+": "+reason)
}
