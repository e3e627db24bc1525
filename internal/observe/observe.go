// Package observe knows what runs. It keeps a watch on every worker that
// gossip names, and rebuilds the picture from their reports: nodes, replicas,
// catalogues, and how replicas ended. Nothing of it is stored: a controller
// that starts again has the same picture as soon as the workers have reported.
//
// It promises that a node whose stream breaks is out of rotation at once; that
// its replicas are believed for NodeGrace longer, whatever gossip says, so that
// a blip of the network changes nothing, unless it had said that it drains and
// then left the ring; and that a node which returns in a new life has no
// replicas of the old one. Gossip is the hint, the stream is the truth: a node
// that gossip calls dead stays while its stream delivers. All times in the
// picture are on this process's clock, whatever the workers' clocks say.
//
// Any number of controllers may watch the same workers. Nothing is ordered
// here, which is the business of package reconcile, but that a worker whose
// node name another has taken over ends what nobody can call. Run owns every
// goroutine; other methods may be called at any time.
package observe

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// Worker is the way to one worker in one of its lives. All methods may be
// called at once. An error that a worker answered wraps one of fleet's;
// anything else means that no answer came.
type Worker interface {
	// StartReplica and StopReplica return the version of the report in which
	// the order first shows. They may be repeated.
	StartReplica(ctx context.Context, order fleet.Order, a fleet.Assignment) (version uint64, err error)
	StopReplica(ctx context.Context, order fleet.Order, id fleet.ReplicaID, reason string) (version uint64, err error)
	// Fence makes the worker refuse all older orders from now on, and returns
	// the version of a report in which all that they did shows.
	Fence(ctx context.Context, order fleet.Order) (version uint64, err error)
	// Watch calls on, from one goroutine, with a full report and then with
	// changes and heartbeats, until the stream breaks or ctx ends. After it has
	// returned, on is not called any more.
	Watch(ctx context.Context, order fleet.Order, on func(fleet.Report)) error
	Call(ctx context.Context, req fleet.CallRequest, hooks fleet.CallHooks) (fleet.CallResult, error)
	Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func([]fleet.LogLine) error) error
	// Fail ends all calls in flight with err: their replies will not come. It
	// may leave that to Close, if it knows that they will.
	Fail(err error)
	Close() error
}

// Members is where members come from.
type Members interface {
	Members() []fleet.Member
	// Changed gets a value, or is closed, when Members may have changed. It is
	// asked for anew before each look.
	Changed() <-chan struct{}
}

// Config is what an Observer needs. Zero durations mean the defaults.
type Config struct {
	// Order is that of the present leader as far as it is known here; a watch
	// carries it to show that it comes from the worker's own cluster. While
	// there is no cluster yet, no worker is watched.
	Order   func() (fleet.Order, bool)
	Members Members
	Dial    func(fleet.Member) (Worker, error)
	Log     *slog.Logger

	// NodeGrace is how long the replicas of a node that cannot be reached are
	// still believed to run, even if gossip calls it dead.
	NodeGrace time.Duration
	// Silence is how long a stream may carry nothing, not even a heartbeat,
	// before it counts as broken; a node that gossip calls dead gets half.
	Silence time.Duration
}

// The defaults of a Config.
const (
	DefaultNodeGrace = 10 * time.Second
	DefaultSilence   = 5 * time.Second
)

// Observer keeps the picture.
type Observer struct {
	cfg   Config
	log   *slog.Logger
	board notice.Board
	look  chan struct{} // a child asks the Run loop to judge the lives again
	// leaving are children that were told to end, and take their time. Only the
	// Run loop touches it, and waits for none: other nodes have news meanwhile.
	leaving []*child

	mu    sync.Mutex
	nodes map[fleet.NodeID]*nodeState
	ended *endedLog
	// cats has every catalogue that a living stream carried or an ended
	// replica names.
	cats  map[string]*fleet.Catalogue
	snap  *Snapshot
	dirty bool
	seq   uint64
	shape uint64
}

// New returns an Observer that sees nothing yet.
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
	}
}

// Subscribe tells when Snapshot may have changed.
func (o *Observer) Subscribe() (look <-chan struct{}, cancel func()) { return o.board.Subscribe() }

// Run follows the members until ctx ends, then ends all streams and returns
// nil.
func (o *Observer) Run(ctx context.Context) error {
	defer o.stopAll()
	// Grace and heartbeats are judged by the clock, not by an event.
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		changed := o.cfg.Members.Changed()
		o.judge(ctx, o.cfg.Members.Members(), time.Now())
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

// changed marks the snapshot as old. Callers hold mu, and post after it.
func (o *Observer) changed() {
	o.dirty = true
	o.shape++
}

// loaded does it for a change of load alone, which is most of them.
func (o *Observer) loaded() { o.dirty = true }
