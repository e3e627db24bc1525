// Package observetest is a fleet of workers in memory, with a network that has
// faults. Workers obey orders as real ones do: they are fenced by epoch, remember
// every replica id, and report versioned snapshots and changes. Their replicas are
// records that timers move from phase to phase, so that a whole fleet fits into a
// synctest bubble. All methods may be called at once.
package observetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// ErrUnreachable means that a worker is down or cut off.
var ErrUnreachable = errors.New("unreachable")

// Faults is what the network does to messages. Probabilities are in [0, 1].
type Faults struct {
	DropOrder   float64 // the worker never gets it
	DropAnswer  float64 // the worker obeys, and its answer is lost
	Duplicate   float64 // the order arrives a second time, much later
	OrderDelay  time.Duration
	ReportDelay time.Duration
	BreakStream float64 // per report
}

// Fleet is the members and the network between them and a controller. It implements
// observe.Members.
type Fleet struct {
	mu      sync.Mutex
	rnd     *rand.Rand
	faults  Faults
	workers map[fleet.LifeID]*Worker
	listed  map[fleet.LifeID]fleet.Member
	changed chan struct{}
	lives   int
	stops   map[fleet.ReplicaID]bool // ordered, whether or not the order has arrived
}

// New returns a fleet without workers. The seed decides its faults.
func New(seed uint64) *Fleet {
	return &Fleet{
		rnd:     rand.New(rand.NewPCG(seed, 1)),
		workers: make(map[fleet.LifeID]*Worker),
		listed:  make(map[fleet.LifeID]fleet.Member),
		changed: make(chan struct{}, 1),
		stops:   make(map[fleet.ReplicaID]bool),
	}
}

// StopOrdered reports whether a controller has ordered the stop of a replica. The order
// may be under way, or lost.
func (f *Fleet) StopOrdered(id fleet.ReplicaID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stops[id]
}

func (f *Fleet) noteStop(id fleet.ReplicaID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stops[id] = true
}

// SetFaults changes what the network does from now on.
func (f *Fleet) SetFaults(x Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = x
}

func (f *Fleet) chance(p func(Faults) float64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rnd.Float64() < p(f.faults)
}

func (f *Fleet) delay(d func(Faults) time.Duration) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if most := d(f.faults); most > 0 {
		return time.Duration(f.rnd.Int64N(int64(most)))
	}
	return 0
}

// Members implements observe.Members.
func (f *Fleet) Members() []fleet.Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Collect(maps.Values(f.listed))
	slices.SortFunc(out, func(a, b fleet.Member) int { return a.Started.Compare(b.Started) })
	return out
}

// Changed implements observe.Members.
func (f *Fleet) Changed() <-chan struct{} { return f.changed }

// List sets whether gossip lists the worker's life.
func (f *Fleet) List(w *Worker, listed bool) {
	f.mu.Lock()
	if listed {
		f.listed[w.member.Life] = w.member
	} else {
		delete(f.listed, w.member.Life)
	}
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Dial implements observe.Config.Dial.
func (f *Fleet) Dial(m fleet.Member) (observe.Worker, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.workers[m.Life]
	if w == nil {
		return nil, fmt.Errorf("dial %s: %w", m.Node, ErrUnreachable)
	}
	return &conn{fleet: f, worker: w, closed: make(chan struct{})}, nil
}

// StartWorker starts a worker under a node name, in a new life, and lists it.
func (f *Fleet) StartWorker(info fleet.NodeInfo) *Worker {
	f.mu.Lock()
	f.lives++
	info.Life = fleet.LifeID(fmt.Sprintf("life%d", f.lives))
	if len(info.Runtimes) == 0 {
		info.Runtimes = []string{fleet.RuntimePodman}
	}
	w := &Worker{
		info: info,
		member: fleet.Member{
			Node: info.Node, Life: info.Life, Role: fleet.RoleWorker, GRPC: string(info.Node) + ":1", Started: time.Now(),
		},
		version:  1,
		replicas: make(map[fleet.ReplicaID]*entry),
		behave:   func(fleet.ServerName, fleet.Revision) Behaviour { return Behaviour{} },
		wake:     make(map[chan struct{}]struct{}),
		broken:   make(chan struct{}),
	}
	f.workers[info.Life] = w
	f.mu.Unlock()
	f.List(w, true)
	return w
}
