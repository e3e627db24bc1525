package membership

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// How long a condition must last before it has consequences.
const (
	// healthyFor is how long a new controller must be seen without a break before it
	// gets a vote.
	healthyFor = 10 * time.Second
	// silentFor is when a controller counts as unhealthy though gossip sees it. Raft
	// hears from a healthy one many times a second. One that raft cannot reach would
	// never use its vote, and a cluster of two could no longer write.
	silentFor = 3 * time.Second
	// lostNonvoter is when a controller that never had a vote is removed. It comes
	// back by itself.
	lostNonvoter = time.Minute
	// lostSurplus is when a dead voter is removed that makes the number of voters
	// even: it only raises the majority.
	lostSurplus = time.Minute
	// DefaultDeadAfter is when any other dead voter is removed.
	DefaultDeadAfter = 24 * time.Hour
)

// verb says what is done to a controller.
type verb string

const (
	add     verb = "added"
	promote verb = "promoted"
	remove  verb = "removed"
)

// action is one change of the configuration.
type action struct {
	verb     verb
	id       fleet.ControllerID
	reason   string             // in words
	replaced fleet.ControllerID // of a removal: the controller that votes instead
}

// memory is what a leader remembers of its tenure.
type memory struct {
	// seen has every controller of the configuration. Times in it are not before the
	// first look of the tenure.
	seen map[fleet.ControllerID]sight
	// promoted has the times of promotions by this leader. One is removed once it has
	// replaced a dead voter.
	promoted map[fleet.ControllerID]time.Time
	// lagging has the controllers that were reported as lagging.
	lagging map[fleet.ControllerID]bool
}

// sight is the condition of a controller since a time.
type sight struct {
	alive bool
	life  fleet.LifeID // when alive
	since time.Time
}

// world is what plan decides on.
type world struct {
	now       time.Time
	self      fleet.ControllerID
	cluster   fleet.ClusterID
	expect    int
	deadAfter time.Duration
	alive     map[fleet.ControllerID]fleet.Member // with self
	answered  func(fleet.ControllerID) time.Time  // when raft last heard from it; zero: never
	voters    []fleet.Voter                       // the configuration
	memory    memory
}

// living returns the living controllers. Of two members with one id it returns the
// newer.
func living(self fleet.ControllerID, members []fleet.Member) map[fleet.ControllerID]fleet.Member {
	out := map[fleet.ControllerID]fleet.Member{self: {Controller: self}}
	for _, m := range members {
		if m.Role != fleet.RoleController || m.Controller == "" {
			continue
		}
		if old, twice := out[m.Controller]; !twice || m.Started.After(old.Started) {
			out[m.Controller] = m
		}
	}
	return out
}

// look updates the memory. It returns the controllers that were lost, and those that
// came back, since the look before.
func (m *memory) look(now time.Time, alive map[fleet.ControllerID]fleet.Member, voters []fleet.Voter) (lost, back []fleet.ControllerID) {
	next := make(map[fleet.ControllerID]sight, len(voters))
	for _, v := range voters {
		member, lives := alive[v.ID]
		before, known := m.seen[v.ID]
		s := sight{alive: lives, life: member.Life, since: now}
		if known && before.alive == s.alive && before.life == s.life {
			s.since = before.since
		}
		next[v.ID] = s
		switch {
		case !lives && (!known || before.alive):
			lost = append(lost, v.ID)
		case lives && known && !before.alive:
			back = append(back, v.ID)
		}
	}
	m.seen = next
	maps.DeleteFunc(m.promoted, func(id fleet.ControllerID, _ time.Time) bool { return !next[id].alive })
	return lost, back
}

// plan returns the next change of the configuration, if there is any. It returns one
// at a time, since each changes the majority. A dead voter that was replaced goes
// first: until then the majority is larger than necessary.
func plan(w *world) (action, bool) {
	for _, decide := range []func(*world) (action, bool){removeReplaced, promoteHealthy, addLiving, removeDead} {
		if a, ok := decide(w); ok {
			return a, true
		}
	}
	return action{}, false
}

// removeReplaced removes a voter that died before another one was promoted. Each
// promotion replaces one voter. Those that died first go first.
func removeReplaced(w *world) (action, bool) {
	for _, id := range w.deadVoters() {
		died := w.memory.seen[id].since
		for _, by := range slices.Sorted(maps.Keys(w.memory.promoted)) {
			if w.votes(by) && w.memory.promoted[by].After(died) && w.canSpare(id) {
				return action{remove, id, fmt.Sprintf("dead for %s, and %s votes in its place", w.forHow(id), w.name(by)), by}, true
			}
		}
	}
	return action{}, false
}

func promoteHealthy(w *world) (action, bool) {
	for _, v := range w.voters {
		if w.waited(v) && !w.silent(v.ID) && !w.memory.lagging[v.ID] {
			return action{verb: promote, id: v.ID, reason: fmt.Sprintf("healthy for %s", w.forHow(v.ID))}, true
		}
	}
	return action{}, false
}

// waited reports whether a controller without a vote has been seen for long enough.
func (w *world) waited(v fleet.Voter) bool {
	s := w.memory.seen[v.ID]
	return !v.Voting && s.alive && w.now.Sub(s.since) >= healthyFor
}

// silent reports whether raft no longer hears from a controller.
func (w *world) silent(id fleet.ControllerID) bool { return w.now.Sub(w.answered(id)) >= silentFor }

// complaint returns what is wrong with the configuration though nothing can be
// changed now.
func (w *world) complaint() error {
	for _, v := range w.voters {
		if w.waited(v) && w.silent(v.ID) {
			return fmt.Errorf("%s gets no vote: gossip sees it, but raft hears nothing from it at %s", w.name(v.ID), w.alive[v.ID].Raft)
		}
	}
	return nil
}

// addLiving adds a controller that belongs to this cluster, or to none yet. One that has
// state and does not know its cluster yet has most likely founded another.
func addLiving(w *world) (action, bool) {
	for _, id := range slices.Sorted(maps.Keys(w.alive)) {
		m := w.alive[id]
		foreign := m.Cluster != "" && m.Cluster != w.cluster || m.Cluster == "" && m.Expect == Founding
		if id == w.self || w.member(id) || foreign {
			continue
		}
		reason := "it is new"
		if m.Cluster != "" {
			reason = "it is of this cluster"
		}
		return action{verb: add, id: id, reason: fmt.Sprintf("%s; it gets a vote once it has been healthy for %s", reason, healthyFor)}, true
	}
	return action{}, false
}

func removeDead(w *world) (action, bool) {
	voting := w.count(func(fleet.Voter) bool { return true })
	for _, id := range w.deadVoters() {
		if !w.canSpare(id) {
			continue
		}
		switch dead := w.now.Sub(w.memory.seen[id].since); {
		case dead >= w.deadAfter:
			return action{verb: remove, id: id, reason: fmt.Sprintf("dead for %s, and %d voters are left", w.forHow(id), voting-1)}, true
		case dead >= lostSurplus && voting%2 == 0 && w.livingVoters() >= w.expect:
			return action{verb: remove, id: id, reason: fmt.Sprintf("dead for %s, and as one of %d voters it only makes the majority larger", w.forHow(id), voting)}, true
		}
	}
	for _, v := range w.voters {
		if s := w.memory.seen[v.ID]; !v.Voting && !s.alive && w.now.Sub(s.since) >= lostNonvoter {
			return action{verb: remove, id: v.ID, reason: fmt.Sprintf("gone for %s before it had a vote", w.forHow(v.ID))}, true
		}
	}
	return action{}, false
}

// canSpare reports whether the cluster is still as large as expected without a dead
// voter, and has a living majority.
func (w *world) canSpare(id fleet.ControllerID) bool {
	left := w.count(func(v fleet.Voter) bool { return v.ID != id })
	return left >= max(w.expect, 1) && w.livingVoters() > left/2
}

// deadVoters returns the dead voters in the order in which they died.
func (w *world) deadVoters() []fleet.ControllerID {
	var out []fleet.ControllerID
	for _, v := range w.voters {
		if v.Voting && v.ID != w.self && !w.memory.seen[v.ID].alive {
			out = append(out, v.ID)
		}
	}
	slices.SortFunc(out, func(a, b fleet.ControllerID) int {
		return cmp.Or(w.memory.seen[a].since.Compare(w.memory.seen[b].since), cmp.Compare(a, b))
	})
	return out
}

func (w *world) livingVoters() int {
	return w.count(func(v fleet.Voter) bool { return w.memory.seen[v.ID].alive })
}

// count returns how many voters satisfy a condition.
func (w *world) count(is func(fleet.Voter) bool) int {
	n := 0
	for _, v := range w.voters {
		if v.Voting && is(v) {
			n++
		}
	}
	return n
}

func (w *world) member(id fleet.ControllerID) bool {
	return slices.ContainsFunc(w.voters, func(v fleet.Voter) bool { return v.ID == id })
}

func (w *world) votes(id fleet.ControllerID) bool {
	return slices.Contains(w.voters, fleet.Voter{ID: id, Voting: true})
}

// forHow returns how long a controller has been in its condition.
func (w *world) forHow(id fleet.ControllerID) time.Duration {
	return w.now.Sub(w.memory.seen[id].since).Round(time.Second)
}

// name returns a controller's name for people.
func (w *world) name(id fleet.ControllerID) string { return nameOf(id, w.alive[id].Node) }

func nameOf(id fleet.ControllerID, node fleet.NodeID) string {
	if node == "" {
		return "controller " + string(id)
	}
	return fmt.Sprintf("controller %s (%s)", node, id)
}
