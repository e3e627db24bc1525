// Package observe knows what runs. It watches every worker that gossip lists, and
// builds a Snapshot from their reports: nodes, replicas, catalogues, and how
// replicas ended. None of it is stored. A controller that restarts has the same
// snapshot as soon as the workers have reported.
//
// Gossip is the hint, the stream is the truth. A node whose stream breaks is out of
// rotation at once. Its replicas are believed to run for NodeGrace longer, whatever
// gossip says, so that a blip of the network changes nothing. Only a node that was
// draining is gone as soon as it leaves the ring. A node that gossip calls dead
// stays while its stream delivers. A node that returns in a new life has no replicas
// of the old one. All times in a snapshot are on this process's clock, whatever the
// workers' clocks say.
//
// Any number of controllers may watch the same workers. Package reconcile gives the
// orders, with one exception: if another worker has taken over a node's name, the
// earlier worker is told here to stop its replicas, because nobody can call them.
// Run owns every goroutine. Other methods may be called at any time.
package observe

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// Worker is a connection to one life of a worker. All methods may be called at once.
// Errors that the worker answered wrap one of fleet's errors. Any other error means
// that no answer came.
type Worker interface {
	// StartReplica and StopReplica return the version of the report in which
	// the order first shows. They may be repeated.
	StartReplica(ctx context.Context, order fleet.Order, a fleet.Assignment) (version uint64, err error)
	StopReplica(ctx context.Context, order fleet.Order, id fleet.ReplicaID, reason string) (version uint64, err error)
	// ActivateReplica makes a spare take calls. It returns the version of the report in
	// which the replica is no spare any more. It may be repeated.
	ActivateReplica(ctx context.Context, order fleet.Order, id fleet.ReplicaID) (version uint64, err error)
	// PullImage makes the worker pull an image that it may need soon. It returns when
	// the worker has the order, and may be repeated. A worker that runs no images does
	// nothing. Both fail with fleet.ErrOldWorker on a worker that does not know them.
	PullImage(ctx context.Context, order fleet.Order, image string, policy fleet.PullPolicy) error
	// Fence makes the worker refuse all older orders from now on. It returns the
	// version of a report that shows everything that they did.
	Fence(ctx context.Context, order fleet.Order) (version uint64, err error)
	// Watch calls on, from one goroutine, with a full report and then with
	// changes and heartbeats, until the stream breaks or ctx ends. It does not call
	// on after it has returned.
	Watch(ctx context.Context, order fleet.Order, on func(fleet.Report)) error
	Call(ctx context.Context, req fleet.CallRequest, hooks fleet.CallHooks) (fleet.CallResult, error)
	Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func([]fleet.LogLine) error) error
	Streams
	Sessions
	// Fail ends all calls in flight with err. It may leave that to Close if their
	// replies will still come.
	Fail(err error)
	Close() error
}

// Members lists the members of the gossip ring.
type Members interface {
	Members() []fleet.Member
	// Changed returns a channel that gets a value, or is closed, when Members may
	// have changed. It is called again before each call of Members.
	Changed() <-chan struct{}
}

// Config is what an Observer needs. Zero durations mean the defaults.
type Config struct {
	// Order returns that of the current leader as far as it is known here. A watch
	// carries it to prove that it comes from the worker's own cluster. It returns
	// false while there is no cluster yet, and then no worker is watched.
	Order   func() (fleet.Order, bool)
	Members Members
	Dial    func(fleet.Member) (Worker, error)
	Log     *slog.Logger

	// NodeGrace is how long the replicas of an unreachable node are still believed
	// to run, even if gossip calls it dead.
	NodeGrace time.Duration
	// Silence is how long a stream may carry nothing, not even a heartbeat, before
	// it counts as broken. For a node that gossip calls dead it is half as long.
	Silence time.Duration
}

// The defaults of a Config.
const (
	DefaultNodeGrace = 10 * time.Second
	DefaultSilence   = 5 * time.Second
)

// Observer keeps the snapshot current.
type Observer struct {
	cfg   Config
	log   *slog.Logger
	board notice.Board
	look  chan struct{} // a child asks the Run loop to check the lives again
	// leaving are children that were cancelled and have not ended yet. Only the Run
	// loop uses it. It does not wait for them, because other nodes have news.
	leaving []*child

	mu    sync.Mutex
	nodes map[fleet.NodeID]*nodeState
	ended *endedLog
	// cats has every catalogue that a live stream has carried or an ended replica
	// names.
	cats  map[string]*fleet.Catalogue
	snap  *Snapshot
	stale []*nodeState // those that snap shows as they were
	dirty bool
	seq   uint64
	shape uint64
}

// New returns an Observer whose snapshot is empty.
func New(cfg Config) *Observer {
	if cfg.NodeGrace == 0 {
		cfg.NodeGrace = DefaultNodeGrace
	}
	if cfg.Silence == 0 {
		cfg.Silence = DefaultSilence
	}
	return &Observer{
		cfg:   cfg,
		log:   cfg.Log.With("component", "observe"),
		look:  make(chan struct{}, 1),
		nodes: make(map[fleet.NodeID]*nodeState),
		ended: newEndedLog(),
		cats:  make(map[string]*fleet.Catalogue),
		dirty: true,
		snap: &Snapshot{
			Nodes: make(map[fleet.NodeID]Node), Replicas: make(map[fleet.ReplicaID]*fleet.Replica), sorted: []*fleet.Replica{},
		},
	}
}

// Subscribe returns a channel that gets a value when Snapshot may have changed.
func (o *Observer) Subscribe() (look <-chan struct{}, cancel func()) { return o.board.Subscribe() }

// Run watches the members until ctx ends, then ends all streams and returns nil.
func (o *Observer) Run(ctx context.Context) error {
	defer o.stopAll()
	// NodeGrace passes without any event.
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		changed := o.cfg.Members.Changed()
		o.updateLives(ctx, o.cfg.Members.Members(), time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-o.look:
		case <-tick.C:
		}
	}
}

// lookAgain wakes the Run loop.
func (o *Observer) lookAgain() {
	select {
	case o.look <- struct{}{}:
	default:
	}
}

// changed marks the snapshot as old. The caller holds mu, and posts afterwards.
func (o *Observer) changed() {
	o.dirty = true
	o.shape++
}

// loadChanged does so for a change of load alone, which most changes are.
func (o *Observer) loadChanged() { o.dirty = true }
