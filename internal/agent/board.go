package agent

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Bounds on what is kept of ended replicas.
const (
	// maxEndedLogs bounds the stderr of all ended replicas together; beyond it
	// the oldest keep only what their report quotes.
	maxEndedLogs = 8 << 20
	// hardEnded times KeepEnded is the most ended replicas remembered, however
	// fresh: a controller gone mad must not fill our memory.
	hardEnded = 20
	// keepPerServer of each server are remembered longest: a new leader learns
	// from them how long a server that keeps failing has to wait.
	keepPerServer = 10
)

// board is what the agent reports: every replica with the version of its last
// change. Supervisors write it, watches read it. Nothing blocks on it: a
// change marks each watcher "look again", and it rereads what is newer than
// what it had, so that a slow one costs one pass, not a queue.
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
	unfit    string // why starts are refused; "": they are not
	watchers map[*watcher]struct{}
	left     time.Time // when the last watcher went
}

type entry struct {
	report    fleet.Replica
	first     uint64 // version of the report in which it first appeared
	version   uint64 // and of its last change
	catalogue *fleet.Catalogue
	stderr    *stderrRing // nil for one that never was
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
	b.version++
	e.version = b.version
	for w := range b.watchers {
		notify(w.look)
	}
	return b.version
}

// add puts up a new replica as PENDING. A known one is left as it is.
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
		Phase: fleet.PhasePending, CreatedAt: time.Now(), Resources: as.Template.Resources,
	}}
	b.entries[as.ID] = e
	e.first = b.changed(e)
	return e.first, true, nil
}

// bury remembers an unknown replica as ended.
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

// move takes a replica to a phase, and lets edit change its report, unless it
// is further on already. edit runs under the board's lock, so that what it
// does is of one piece with the move.
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

// edit changes the report of a replica in the given phase; in any other it
// does nothing. edit tells whether it changed something.
func (b *board) edit(id fleet.ReplicaID, in fleet.Phase, edit func(*fleet.Replica) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil && e.report.Phase == in && edit(&e.report) {
		b.changed(e)
	}
}

// offer sets what a replica offers. It reports whether that is news.
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

func (b *board) load(id fleet.ReplicaID, l fleet.Load) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil && e.report.Load != l && !e.report.Phase.Ended() {
		e.report.Load = l
		b.changed(e)
	}
}

// now is the version of a report made now.
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

// stderrOf returns the replica's lines; nil for one that never ran.
func (b *board) stderrOf(id fleet.ReplicaID) (ring *stderrRing, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	if e == nil {
		return nil, false
	}
	return e.stderr, true
}

// drain makes the board refuse new replicas and tell so.
func (b *board) drain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return
	}
	b.draining = true
	b.version++
	for w := range b.watchers {
		notify(w.look)
	}
}

// refuseStarts returns why the node takes no new replicas, or "" if it takes them.
func (b *board) refuseStarts(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unfit == why {
		return
	}
	b.unfit = why
	b.version++
	for w := range b.watchers {
		notify(w.look)
	}
}

// forget drops ended replicas that are old enough.
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
		b.version++
		for w := range b.watchers {
			notify(w.look)
		}
	}
	b.trimLogs()
}

// dropOld forgets what is old, not among the last of all, and not among the
// last of its server. Beyond the hard bound it forgets the oldest whatever its
// age, at first of those that are not among the last of their server.
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

// watcher is one reader of the board. Only its own goroutine touches what is
// not a channel, under the board's lock.
type watcher struct {
	look       chan struct{}
	version    uint64
	forgets    uint64
	known      map[fleet.ReplicaID]bool
	catalogues map[string]bool // sent before
}

func (b *board) watch() *watcher {
	w := &watcher{look: make(chan struct{}, 1), catalogues: map[string]bool{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers[w] = struct{}{}
	return w
}

func (b *board) unwatch(w *watcher) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.watchers, w)
	b.left = time.Now()
}

// unwatchedFor tells whether nobody has watched for so long.
func (b *board) unwatchedFor(d time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.watchers) == 0 && time.Since(b.left) >= d
}

// since reports all that changed since the watcher's last report; all there
// is, the first time.
func (b *board) since(w *watcher) fleet.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := fleet.Report{Version: b.version, Now: time.Now(), Draining: b.draining, Unfit: b.unfit}
	if w.known == nil {
		w.known = map[fleet.ReplicaID]bool{}
		w.forgets = b.forgets
		node := b.node
		r.Full, r.Node = true, &node
	} else if w.version == b.version {
		return r
	}
	for _, id := range slices.Sorted(maps.Keys(b.entries)) {
		e := b.entries[id]
		if e.version <= w.version {
			continue
		}
		w.known[id] = true
		r.Replicas = append(r.Replicas, e.report)
		if c := e.catalogue; c != nil && !w.catalogues[c.Hash] {
			w.catalogues[c.Hash] = true
			r.Catalogues = append(r.Catalogues, *c)
		}
	}
	if w.forgets != b.forgets {
		w.forgets = b.forgets
		for id := range w.known {
			if b.entries[id] == nil {
				delete(w.known, id)
				r.Forgotten = append(r.Forgotten, id)
			}
		}
		slices.Sort(r.Forgotten)
	}
	w.version = b.version
	return r
}
