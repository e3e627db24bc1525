package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Bounds of what is kept about ended replicas.
const (
	// maxEndedLogs bounds the stderr of all ended replicas together. Beyond it the
	// oldest keep only the lines in their report.
	maxEndedLogs = 8 << 20
	// hardEnded times KeepEnded is how many ended replicas are remembered at most,
	// however recent. A faulty controller must not fill the memory.
	hardEnded = 20
	// keepPerServer ended replicas of each server are remembered longest. A new
	// leader computes from them the back-off of a server that keeps failing.
	keepPerServer = 10
)

// board has the agent's report: every replica with the version of its last change.
// Supervisors write it and watches read it, and neither blocks. A change notifies each
// watcher, which then reads the entries that are newer than its last report. So a slow
// watcher needs no queue.
type board struct {
	node fleet.NodeInfo
	keep int
	age  time.Duration

	mu       sync.Mutex
	version  uint64
	entries  map[fleet.ReplicaID]*entry
	ended    []*entry // oldest end first
	forgets  uint64   // how many entries were ever forgotten
	draining bool
	unfit    string // why starts are refused; "" if they are not
	watchers map[*watcher]struct{}
	left     time.Time // when the last watcher went
}

type entry struct {
	report    fleet.Replica
	first     uint64    // version of the report in which it first appeared
	version   uint64    // and of its last change
	counted   time.Time // when its counts were last reported
	ended     uint64    // their sum
	catalogue *fleet.Catalogue
	stderr    *stderrRing // nil for a replica that never was
}

func newBoard(node fleet.NodeInfo, keep int, age time.Duration) *board {
	return &board{
		node: node, keep: keep, age: age,
		version:  1, // so that even an empty report has one
		entries:  map[fleet.ReplicaID]*entry{},
		watchers: map[*watcher]struct{}{},
	}
}

// changed gives e a new version. It needs the lock.
func (b *board) changed(e *entry) uint64 {
	e.version = b.renew()
	return e.version
}

// renew gives the board a new version and tells the watchers. It needs the lock.
func (b *board) renew() uint64 {
	b.version++
	for w := range b.watchers {
		notify(w.look)
	}
	return b.version
}

// add adds a new replica as PENDING. A known one is left as it is.
func (b *board) add(as fleet.Assignment, stderr *stderrRing) (version uint64, isNew bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[as.ID]; e != nil {
		return e.first, false, nil
	}
	if b.draining {
		return 0, false, fleet.ErrDraining
	}
	e := &entry{stderr: stderr, report: fleet.Replica{
		ID: as.ID, Server: as.Server, Revision: as.Revision, Generation: as.Generation, Node: b.node.Node,
		Phase: fleet.PhasePending, CreatedAt: time.Now(), Resources: as.Template.Resources, Spare: as.Spare, Raw: as.Raw,
	}}
	b.entries[as.ID] = e
	e.first = b.changed(e)
	return e.first, true, nil
}

// bury records an unknown replica as ended.
func (b *board) bury(id fleet.ReplicaID, reason string) (version uint64, isNew bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil {
		return e.version, false
	}
	now := time.Now()
	e := &entry{report: fleet.Replica{
		ID: id, Node: b.node.Node, Phase: fleet.PhaseStopped,
		Reason: "stopped before it was started: " + reason, CreatedAt: now, EndedAt: now,
	}}
	b.entries[id] = e
	e.first = b.changed(e)
	b.ended = append(b.ended, e)
	b.prune()
	return e.first, true
}

// move moves a replica to a phase and lets edit change its report, unless the replica
// is in a later phase. edit runs under the board's lock, so that both happen at once.
func (b *board) move(id fleet.ReplicaID, to fleet.Phase, edit func(*fleet.Replica)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	if e == nil || !e.report.Phase.CanBecome(to) {
		return false
	}
	e.report.Phase = to
	if edit != nil {
		edit(&e.report)
	}
	b.changed(e)
	if to.Ended() {
		b.ended = append(b.ended, e)
		b.prune()
	}
	return true
}

// edit changes the report of a replica if it is in the given phase. The function
// reports whether it changed anything.
func (b *board) edit(id fleet.ReplicaID, in fleet.Phase, edit func(*fleet.Replica) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil && e.report.Phase == in && edit(&e.report) {
		b.changed(e)
	}
}

// activate makes a spare an ordinary replica, and lets opened open it to calls if it is
// READY. opened runs under the board's lock. A replica that is no spare, or is
// stopping, is left as it is. activate reports false for an unknown one.
func (b *board) activate(id fleet.ReplicaID, opened func()) (version uint64, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	if e == nil {
		return 0, false
	}
	if e.report.Spare && e.report.Phase < fleet.PhaseDraining {
		e.report.Spare = false
		if e.report.Phase == fleet.PhaseReady {
			opened()
		}
		b.changed(e)
	}
	return e.version, true
}

// offer sets the catalogue of a replica, and reports whether it changed.
func (b *board) offer(id fleet.ReplicaID, c *fleet.Catalogue) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	if e == nil || e.report.Catalogue == c.Hash {
		return false
	}
	for _, other := range b.entries { // many replicas share one
		if other.catalogue != nil && other.catalogue.Hash == c.Hash {
			c = other.catalogue
			break
		}
	}
	e.catalogue, e.report.Catalogue = c, c.Hash
	b.changed(e)
	return true
}

// catalogue returns what the replica has offered, nil for nothing.
func (b *board) catalogue(id fleet.ReplicaID) *fleet.Catalogue {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil {
		return e.catalogue
	}
	return nil
}

// load reports a load and the counts if they have changed. It returns false if they are
// to be reported later, because the number of running calls is the same and the last
// report was a moment ago.
func (b *board) load(id fleet.ReplicaID, l fleet.Load, c *counts, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	if e == nil || e.report.Phase.Ended() {
		return true
	}
	ended := c.total()
	switch {
	case e.report.Load == l && e.ended == ended:
		return true
	case e.report.Load.Ongoing == l.Ongoing && now.Sub(e.counted) < countDelay:
		return false
	}
	e.report.Load, e.report.Calls, e.ended, e.counted = l, c.now(), ended, now
	b.changed(e)
	return true
}

// usage reports what a replica uses, if that has changed noticeably.
func (b *board) usage(id fleet.ReplicaID, u fleet.Usage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil && !e.report.Phase.Ended() && noticeable(e.report.Usage, u) {
		e.report.Usage = u
		b.changed(e)
	}
}

// now returns the version of a report made now.
func (b *board) now() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.version
}

func (b *board) versionOf(id fleet.ReplicaID) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil {
		return e.version
	}
	return b.version
}

// stderrOf returns the replica's lines, or nil for a replica that never ran.
func (b *board) stderrOf(id fleet.ReplicaID) (ring *stderrRing, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	if e == nil {
		return nil, false
	}
	return e.stderr, true
}

// drain makes the board refuse new replicas, and report that.
func (b *board) drain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return
	}
	b.draining = true
	b.renew()
}

// refuseStarts sets why the node takes no new replicas, "" if it takes them.
func (b *board) refuseStarts(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unfit == why {
		return
	}
	b.unfit = why
	b.renew()
}

// forget drops old ended replicas.
func (b *board) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.prune()
}

// prune needs the lock.
func (b *board) prune() {
	had := len(b.ended)
	if had > b.keep {
		b.dropOld()
	}
	if dropped := had - len(b.ended); dropped > 0 {
		b.forgets += uint64(dropped)
		b.renew()
	}
	b.trimLogs()
}

// dropOld forgets ended replicas that are old, and neither among the last of all nor
// among the last of their server. Beyond the hard bound it forgets the oldest whatever
// their age, first those that are not among the last of their server.
func (b *board) dropOld() {
	later := map[fleet.ServerName]int{} // ends of the server after this one
	for _, e := range b.ended {
		later[e.report.Server]++
	}
	over, late := len(b.ended)-hardEnded*b.keep, len(b.ended)-b.keep
	drop := make([]bool, len(b.ended))
	for i, e := range b.ended {
		server := e.report.Server
		later[server]--
		if server != "" && later[server] < keepPerServer {
			continue
		}
		if over > 0 || i < late && time.Since(e.report.EndedAt) >= b.age {
			drop[i] = true
			over--
		}
	}
	kept := b.ended[:0]
	for i, e := range b.ended {
		if !drop[i] && over > 0 {
			drop[i] = true
			over--
		}
		if drop[i] {
			delete(b.entries, e.report.ID)
		} else {
			kept = append(kept, e)
		}
	}
	clear(b.ended[len(kept):])
	b.ended = kept
}

func (b *board) trimLogs() {
	size := 0
	for _, e := range slices.Backward(b.ended) {
		n := e.stderr.size()
		if size+n > maxEndedLogs {
			e.stderr.trim(len(e.report.Log))
			n = e.stderr.size()
		}
		size += n
	}
}
