// Package membership decides which controllers form a cluster: which ones found it,
// are taken in, get a vote, and are removed because they will not come back. Gossip
// knows which controllers live, and raft's configuration which ones vote. Keeper
// slowly makes the second follow the first.
//
// The cluster never falls below the number of voters that it was founded with, and
// nobody is removed if that would leave no living majority. A controller that comes
// back before it was removed is a member as before. Each change has a reason in
// words, which is logged and recorded. Changes are made one at a time.
//
// The leader alone counts how long a controller has been dead or healthy, from the
// start of its tenure at the earliest. After a change of leader it takes the whole
// time again. A living controller that was removed by hand is taken in again: stop
// it first.
//
// Founder makes a controller part of a cluster. Roster lists the controllers and
// changes them by hand. The package knows neither raft nor memberlist, and starts no
// goroutine: each Run runs in its caller's.
package membership

import (
	"context"
	"log/slog"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// lookEvery is how often Keeper compares.
const lookEvery = time.Second

// Store is raft's configuration. A change returns when it is committed, or with an
// error. Package store implements it.
type Store interface {
	ID() fleet.ControllerID
	State() *desired.State
	Members() ([]fleet.Voter, error)
	AddNonvoter(id fleet.ControllerID) error
	AddVoter(id fleet.ControllerID) error
	Remove(id fleet.ControllerID) error
	// Answered returns when a controller last answered this one, the leader. It
	// returns the zero time for never.
	Answered(id fleet.ControllerID) time.Time
	// PeerProblem says what keeps a controller from storing what this one, the
	// leader, sends. It returns "" if nothing does.
	PeerProblem(id fleet.ControllerID) string
}

// Config says what a Keeper works with.
type Config struct {
	Store     Store
	Members   func() []fleet.Member // the living members, as gossip knows them
	DeadAfter time.Duration         // when a dead voter is removed for good; 0: DefaultDeadAfter
	Log       *slog.Logger
	// Record records an event. Nil: it is only logged.
	Record func(kind fleet.EventKind, message string)
}

// Keeper keeps the membership of a cluster while its controller leads.
type Keeper struct {
	cfg   Config
	names map[fleet.ControllerID]fleet.NodeID // of controllers that live or have lived
}

// New returns a Keeper. Its Run does the work.
func New(cfg Config) *Keeper {
	if cfg.DeadAfter == 0 {
		cfg.DeadAfter = DefaultDeadAfter
	}
	if cfg.Record == nil {
		cfg.Record = func(fleet.EventKind, string) {}
	}
	return &Keeper{cfg: cfg, names: map[fleet.ControllerID]fleet.NodeID{}}
}

// Run keeps the membership until ctx, which is that of a tenure, ends. Then it
// returns nil. It may be called again, but not while it runs.
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
			k.cfg.Log.Warn("membership not as it should be, trying again", "err", complaint)
		}
		complained = complaint
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look compares, and makes the changes that are due.
func (k *Keeper) look(ctx context.Context, memory *memory) error {
	// Each round makes one change. More rounds than controllers would be a fight with
	// somebody else's changes.
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

// world reads what plan needs, and reports the controllers that were lost or came
// back.
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
	k.reportLagging(w)
	for _, id := range lost {
		k.report(fleet.EventControllerLost, "lost", id, "gossip no longer sees it")
	}
	for _, id := range back {
		k.report(fleet.EventControllerBack, "back", id, "gossip sees it again")
	}
	return w, nil
}

// reportLagging reports living controllers that no longer store what they are sent,
// and those that do again.
func (k *Keeper) reportLagging(w *world) {
	for _, v := range w.voters {
		_, lives := w.alive[v.ID]
		problem := ""
		if lives && v.ID != w.self {
			problem = k.cfg.Store.PeerProblem(v.ID)
		}
		switch lagged := w.memory.lagging[v.ID]; {
		case problem != "" && !lagged:
			w.memory.lagging[v.ID] = true
			k.report(fleet.EventControllerLagging, "lags", v.ID, problem)
		case problem == "" && lagged:
			delete(w.memory.lagging, v.ID)
			if lives {
				k.report(fleet.EventControllerCaughtUp, "has caught up", v.ID, "it stores what it is sent")
			}
		}
	}
}

// do makes one change.
func (k *Keeper) do(w *world, a action) error {
	switch a.verb {
	case add:
		if err := k.cfg.Store.AddNonvoter(a.id); err != nil {
			return err
		}
		k.report(fleet.EventControllerAdded, string(a.verb), a.id, a.reason)
	case promote:
		if err := k.cfg.Store.AddVoter(a.id); err != nil {
			return err
		}
		w.memory.promoted[a.id] = time.Now()
		k.report(fleet.EventControllerPromoted, string(a.verb), a.id, a.reason)
	case remove:
		if err := k.cfg.Store.Remove(a.id); err != nil {
			return err
		}
		delete(w.memory.promoted, a.replaced) // each promotion replaces one voter
		k.report(fleet.EventControllerRemoved, string(a.verb), a.id, a.reason)
		delete(k.names, a.id)
	}
	return nil
}

// report logs and records what happened to a controller, and why.
func (k *Keeper) report(kind fleet.EventKind, what string, id fleet.ControllerID, reason string) {
	level := slog.LevelInfo
	if kind == fleet.EventControllerLagging {
		level = slog.LevelWarn
	}
	k.cfg.Log.Log(context.Background(), level, "controller "+what, "controller", id, "node", k.names[id], "reason", reason)
	k.cfg.Record(kind, nameOf(id, k.names[id])+" "+what+": "+reason)
}
