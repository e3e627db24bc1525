package observetest

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Behaviour is how a replica of a server revision goes. With the zero value it is
// READY at once and does not end.
type Behaviour struct {
	PullFor    time.Duration // before ReadyAfter
	ReadyAfter time.Duration
	FailStart  bool          // ends instead of becoming READY
	CrashAfter time.Duration // ends that long after it is READY; 0: never
	ExitAfter  time.Duration // the same, with code 0
	Hang       bool          // never becomes READY
	StopAfter  time.Duration // drains for that long
	CleanUp    time.Duration // how long it takes to remove one that failed; 0: 30 ms
}

// Worker is one life of one worker.
type Worker struct {
	info   fleet.NodeInfo
	member fleet.Member

	mu         sync.Mutex
	behave     func(fleet.ServerName, fleet.Revision) Behaviour
	highest    fleet.Order // obeyed so far
	clock      time.Duration
	refused    int  // orders
	openDeaths int  // how many replicas will end when a session gets them
	fences     int  // obeyed
	old        bool // knows neither fences nor spares nor pulls
	version    uint64
	replicas   map[fleet.ReplicaID]*entry // every id ever known
	wake       map[chan struct{}]struct{}
	broken     chan struct{} // closed when the present connections break
	cut, dead  bool
	draining   bool
	unfit      string // why it refuses starts
	deaf       bool   // it answers stops with an error
	muteUntil  time.Time
	starts     []time.Time
	pulls      []Pull
}

// Pull is an order to pull an image.
type Pull struct {
	Image  string
	Policy fleet.PullPolicy
}

type entry struct {
	r         fleet.Replica
	changed   uint64
	forgotten bool
}

// Life returns the worker's life.
func (w *Worker) Life() fleet.LifeID { return w.member.Life }

// Behave sets how replicas go that are started or stopped from now on.
func (w *Worker) Behave(as func(fleet.ServerName, fleet.Revision) Behaviour) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behave = as
}

// Running returns the replicas that really run.
func (w *Worker) Running() []fleet.Replica {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []fleet.Replica
	for _, e := range w.replicas {
		if !w.dead && !e.r.Phase.Ended() {
			out = append(out, e.r)
		}
	}
	slices.SortFunc(out, func(a, b fleet.Replica) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Starts returns when replicas were really started.
func (w *Worker) Starts() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.starts)
}

// Pulls returns the orders to pull images, in the order of their arrival.
func (w *Worker) Pulls() []Pull {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pulls)
}

// Reachable reports whether messages reach the worker.
func (w *Worker) Reachable() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.dead && !w.cut
}

// Kill ends the worker and its replicas without notice.
func (w *Worker) Kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
	w.breakStreams()
}

// Cut cuts the worker off, or reconnects it. Its replicas run on.
func (w *Worker) Cut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	w.breakStreams()
}

// Break breaks the streams once.
func (w *Worker) Break() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breakStreams()
}

// Mute keeps the worker from reporting anything, heartbeats too, for a while.
func (w *Worker) Mute(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.muteUntil = time.Now().Add(d)
}

// Drain makes the worker announce that it is stopping.
func (w *Worker) Drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.draining = true
	w.changed(nil)
}

// SetUnfit makes the worker refuse starts and report why. "" ends that.
func (w *Worker) SetUnfit(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unfit = why
	w.changed(nil)
}

// RefuseStops makes the worker answer stops with an unknown error.
func (w *Worker) RefuseStops(refuse bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = refuse
}

// Obey makes the worker obey an order and no earlier one, as if its leader had fenced
// it.
func (w *Worker) Obey(o fleet.Order) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.highest = o
}

// Age makes it a worker of an older version, which knows neither fences nor
// spares nor pulls.
func (w *Worker) Age() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.old = true
}

// Refused returns how many orders the worker has refused.
func (w *Worker) Refused() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refused
}

// Fences returns how many fences the worker has obeyed.
func (w *Worker) Fences() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fences
}

// Skew puts the worker's clock that far ahead.
func (w *Worker) Skew(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = d
}

func (w *Worker) now() time.Time { return time.Now().Add(w.clock) }

// End ends a replica as a crash would.
func (w *Worker) End(id fleet.ReplicaID) { w.crash(id, 137) }

// dying is how long it takes to remove a replica that has crashed, unless its
// behaviour says otherwise.
const dying = 30 * time.Millisecond

// crash ends a replica as a real worker does. It is out of rotation at once, and
// reported as ended when nothing of it is left.
func (w *Worker) crash(id fleet.ReplicaID, code int) {
	w.mu.Lock()
	e := w.replicas[id]
	if e == nil || w.dead || !e.r.Phase.CanBecome(fleet.PhaseDraining) {
		w.mu.Unlock()
		return
	}
	e.r.Phase, e.r.Reason, e.r.Failing = fleet.PhaseDraining, "its stdout ended", !w.old
	took := cmp.Or(w.behave(e.r.Server, e.r.Revision).CleanUp, dying)
	w.changed(e)
	w.mu.Unlock()
	time.AfterFunc(took, func() { w.end(id, fleet.PhaseFailed, fleet.Exit{Code: code}) })
}

// Set changes a replica's report.
func (w *Worker) Set(id fleet.ReplicaID, set func(*fleet.Replica)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.replicas[id]; e != nil && !e.r.Phase.Ended() {
		set(&e.r)
		w.changed(e)
	}
}

// Run adds a running replica, as if another controller had started it.
func (w *Worker) Run(r fleet.Replica) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.Node = w.info.Node
	e := &entry{r: r}
	w.replicas[r.ID] = e
	w.changed(e)
}

func (w *Worker) breakStreams() {
	close(w.broken)
	w.broken = make(chan struct{})
}

// changed gives the change the next version and wakes the watches.
func (w *Worker) changed(e *entry) {
	w.version++
	if e != nil {
		e.changed = w.version
	}
	for ch := range w.wake {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
