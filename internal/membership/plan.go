package membership

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// How long things must have been so before they have consequences.
const (
	// healthyFor is how long a new controller gets the log, without a break,
	// before it has a vote.
	healthyFor = 10 * time.Second
	// silentFor is when one that gossip sees is not healthy all the same: raft
	// hears from it many times a second. A vote for one that raft cannot reach
	// would count in the majority and never be cast: of two, none could write.
	silentFor = 3 * time.Second
	// lostNonvoter is when one that never had a vote is forgotten. It costs
	// nothing, and comes back by itself.
	lostNonvoter = time.Minute
	// lostSurplus is when a dead voter is removed that makes the number of
	// voters even, and so does nothing but raise the majority.
	lostSurplus = time.Minute
	// DefaultDeadAfter is when any other dead voter is removed.
	DefaultDeadAfter = 24 * time.Hour
)

// verb is what can be done to a controller.
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
	replaced fleet.ControllerID // of a removal: who votes instead
}

// memory is what a leader has seen in its tenure.
type memory struct {
	// seen is every controller of the configuration. How long each has been as
	// it is counts from the tenure's first look at the earliest.
	seen map[fleet.ControllerID]sight
	// promoted is when this leader gave votes, until each has replaced a voter.
	promoted map[fleet.ControllerID]time.Time
	// lagging are those that were told of as such.
	lagging map[fleet.ControllerID]bool
}

// sight is one controller, as it has been since some time.
type sight struct {
	alive bool
	life  fleet.LifeID // when alive
	since time.Time
}

// world is what there is to decide on.
type world struct {
	now       time.Time
	self      fleet.ControllerID
	cluster   fleet.ClusterID
	expect    int
	deadAfter time.Duration
	alive     map[fleet.ControllerID]fleet.Member // self too
	answered  func(fleet.ControllerID) time.Time  // when raft last heard from it; zero: never
	voters    []fleet.Voter                       // the configuration
	memory    memory
}

// living tells who is alive. An id under two names or in two lives is the
// newer one.
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

// look brings the memory up to date and returns who was lost and who came back
// since the look before.
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

// plan returns the next change of the configuration, if there is anything to
// change. One at a time, since each changes what a majority is. A dead voter
// that was replaced goes first: until then the majority is larger than it need
// be.
func plan(w *world) (action, bool) {
	for _, decide := range []func(*world) (action, bool){removeReplaced, promoteHealthy, addLiving, removeDead} {
		if a, ok := decide(w); ok {
			return a, true
		}
	}
	return action{}, false
}

// removeReplaced removes a voter that died before another got a vote, each by
// one of its own; those that died first go first.
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

// waited tells of one without a vote that gossip has seen for long enough.
func (w *world) waited(v fleet.Voter) bool {
	s := w.memory.seen[v.ID]
	return !v.Voting && s.alive && w.now.Sub(s.since) >= healthyFor
}

func (w *world) silent(id fleet.ControllerID) bool { return w.now.Sub(w.answered(id)) >= silentFor }

// complaint says what keeps the configuration from being as it should be,
// though there is nothing to change.
func (w *world) complaint() error {
	for _, v := range w.voters {
		if w.waited(v) && w.silent(v.ID) {
			return fmt.Errorf("%s gets no vote: gossip sees it, and raft hears nothing from it; can it be reached at %s?", w.name(v.ID), w.alive[v.ID].Raft)
		}
	}
	return nil
}

// addLiving adds those that belong to this cluster, or to none yet.
func addLiving(w *world) (action, bool) {
	for _, id := range slices.Sorted(maps.Keys(w.alive)) {
		m := w.alive[id]
		if id == w.self || w.member(id) || m.Cluster != "" && m.Cluster != w.cluster {
			continue
		}
		reason := "it is new"
		if m.Cluster != "" {
			reason = "it is of this cluster"
		}
		return action{verb: add, id: id, reason: fmt.Sprintf("%s; it has a vote once it was healthy for %s", reason, healthyFor)}, true
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

// canSpare tells whether the cluster is what it shall be without a voter that
// is dead: not smaller than expected, and with a living majority.
func (w *world) canSpare(id fleet.ControllerID) bool {
	left := w.count(func(v fleet.Voter) bool { return v.ID != id })
	return left >= max(w.expect, 1) && w.livingVoters() > left/2
}

// deadVoters returns them, those that died first first.
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

// count counts the voters of which something is true.
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

// forHow tells how long a controller has been as it is.
func (w *world) forHow(id fleet.ControllerID) time.Duration {
	return w.now.Sub(w.memory.seen[id].since).Round(time.Second)
}

// name is how people know a controller.
func (w *world) name(id fleet.ControllerID) string { return nameOf(id, w.alive[id].Node) }

func nameOf(id fleet.ControllerID, node fleet.NodeID) string {
	if node == "" {
		return "controller " + string(id)
	}
	return fmt.Sprintf("controller %s (%s)", node, id)
}
