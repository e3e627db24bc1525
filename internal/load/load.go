// Package load counts the calls of each server in the whole fleet, for the leader:
// those that run, as the workers report them, and those that wait, at every
// controller.
//
// Nothing is polled. Reporter pushes the lengths of a controller's queues to the
// leader as they change, and workers push their calls to package observe. Watcher
// adds both up, at once when something has changed after a pause, else forty times a
// second at most, and hands out what has changed. A controller or a node that should
// report and does not is named as missing. Its last known calls are counted until it
// leaves the ring, or is given up.
//
// The queue is also the wish to wake an idle server: calls that wait for a server
// without replicas are a load like any other. A new leader connects to all
// controllers, and each begins with its whole queue, so no wish is lost.
//
// The package decides nothing: package autoscale does. Run owns every goroutine.
// Other methods may be called at any time.
package load

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// Queues are the calls that wait at one controller. Package route implements it.
type Queues interface {
	// Queues returns how many calls of each server wait. Servers without any are
	// left out.
	Queues() map[fleet.ServerName]int
	// Subscribe posts a notice when Queues may have changed; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// Controller is a connection to one life of another controller. Package rpc
// implements it.
type Controller interface {
	// WatchQueues calls on, from one goroutine, with all queues that are not empty,
	// then with those that have changed, which may be none, until the stream breaks
	// or ctx ends. It does not call on after it has returned.
	WatchQueues(ctx context.Context, order fleet.Order, on func(map[fleet.ServerName]int)) error
	Close() error
}

// Members lists the members of the gossip ring. Package gossip implements it.
type Members interface {
	Members() []fleet.Member
	// Subscribe posts a notice when Members may have changed; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// View is what runs. Package observe implements it.
type View interface {
	Snapshot() *observe.Snapshot
	// Subscribe posts a notice when Snapshot may have changed; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// Config is what a Watcher needs.
type Config struct {
	Self    fleet.LifeID // of this controller
	Own     Queues       // at this controller
	Members Members
	Dial    func(fleet.Member) (Controller, error)
	View    View
	Log     *slog.Logger
}

const (
	// pace is the least time between two counts. restPerCount makes it longer where
	// there are so many replicas that counting takes long: the rest is so many times
	// as long as the count took.
	pace         = 25 * time.Millisecond
	restPerCount = 10
)

// textNotCounted is what is missing while Run does not run.
const textNotCounted = "the calls have not been counted yet"

// Watcher counts the calls of all servers. Only the leader runs it.
type Watcher struct {
	cfg  Config
	log  *slog.Logger
	look chan struct{} // a peer has news

	mu      sync.Mutex
	loads   map[fleet.ServerName]fleet.ServerLoad // of servers with calls, or that had any; nil while Run does not run
	missing string
	subs    map[*subscription]bool
}

// New returns a Watcher that knows no calls yet.
func New(cfg Config) *Watcher {
	return &Watcher{
		cfg: cfg, log: cfg.Log.With("component", "load"), look: make(chan struct{}, 1),
		missing: textNotCounted, subs: make(map[*subscription]bool),
	}
}

// Run counts until ctx, the leader's tenure, ends, and returns nil then. The order
// proves to the other controllers that this one is of their cluster.
func (w *Watcher) Run(ctx context.Context, order fleet.Order) error {
	ctx, cancel := context.WithCancel(ctx)
	peers := &peers{order: order, self: w.cfg.Self, dial: w.cfg.Dial, changed: w.lookAgain, log: w.log, byLife: make(map[fleet.LifeID]*peer)}
	defer peers.running.Wait()
	defer cancel()
	defer w.publish(nil, textNotCounted)
	members, end := w.cfg.Members.Subscribe()
	defer end()
	own, end := w.cfg.Own.Subscribe()
	defer end()
	view, end := w.cfg.View.Subscribe()
	defer end()
	rest := time.NewTimer(0)
	defer rest.Stop()
	var running replicaCalls
	for {
		began := time.Now()
		peers.update(ctx, w.cfg.Members.Members())
		w.count(&running, peers)
		rest.Reset(max(pace, restPerCount*time.Since(began)))
		select {
		case <-ctx.Done():
			return nil
		case <-rest.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-members:
		case <-own:
		case <-view:
		case <-w.look:
		}
	}
}

// lookAgain wakes the Run loop.
func (w *Watcher) lookAgain() {
	select {
	case w.look <- struct{}{}:
	default:
	}
}

// count adds up all loads and publishes them.
func (w *Watcher) count(r *replicaCalls, p *peers) {
	snap := w.cfg.View.Snapshot()
	r.update(snap)
	loads := make(map[fleet.ServerName]fleet.ServerLoad, len(r.begun))
	r.addTo(loads)
	add := func(queues map[fleet.ServerName]int) { addQueues(loads, queues) }
	add(w.cfg.Own.Queues())
	w.publish(loads, missing(append(p.addTo(add), unheard(snap)...)))
}
