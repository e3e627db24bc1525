package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// ClientConfig tunes a Client; the zero value is right for production.
type ClientConfig struct {
	// Life is the worker's; see fleet.CallHooks.Sent.
	Life fleet.LifeID
	// Streams is how many Calls streams are kept; 0 is four:
	// more gained nothing, and with one a large message would delay all calls.
	Streams int
	// Silence is how long WatchQueues may hear nothing; 0 is five seconds. Watch has no
	// such bound.
	Silence time.Duration
	// DialOptions are added to ours. Tests disturb the connection with them.
	DialOptions []grpc.DialOption
}

const (
	defaultStreams = 4
	callsPerLane   = 64 // from so many calls at once on, another lane is used
	defaultSilence = 5 * time.Second
	// Short, so that a worker that has just started serves its first call at once.
	minReconnect   = 50 * time.Millisecond
	maxReconnect   = time.Second
	connectTimeout = 3 * time.Second

	settleTick = 5 * time.Millisecond
)

// errClosed ends whatever runs when a Client is closed.
var errClosed = errors.New("client is closed")

// Client talks to one worker. All methods may be called at once.
type Client struct {
	addr      string
	life      fleet.LifeID
	settleFor time.Duration // how long Close waits for the last answers
	cc        *grpc.ClientConn
	pb        fleetpb.WorkerServiceClient
	lanes     []lane
	turn      atomic.Uint32
	lastID    atomic.Uint64
	waiting   sync.Pool // of *pending
	running   sync.WaitGroup
	dialer    dialer
	calls     atomic.Int64 // that have not returned
	stopped   atomic.Bool  // the worker has ended a watch in order

	mu      sync.Mutex
	open    map[ender]struct{} // streams and fetches
	spare   []*callStream      // for calls with large arguments, not in use
	closing bool               // no more streams
	closed  bool               // no more fetches either
}

// lane holds one long-lived Calls stream.
type lane struct {
	cur atomic.Pointer[callStream]
	mu  sync.Mutex // held while cur is replaced
}

// ender is ended by Fail.
type ender interface{ end(cause error) }

// Dial returns a Client for the worker at addr, host:port. It connects when it
// is first used, and again whenever the connection is lost.
func Dial(addr string, cfg ClientConfig) (*Client, error) {
	if cfg.Streams == 0 {
		cfg.Streams = defaultStreams
	}
	c := &Client{
		addr: addr, life: cfg.Life, settleFor: stopTimeout,
		lanes: make([]lane, cfg.Streams), waiting: sync.Pool{New: func() any { return newPending() }},
		open: make(map[ender]struct{}),
	}
	var err error
	c.cc, err = newConn(addr, &c.dialer, append([]grpc.DialOption{
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(newCodec()), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage),
			grpc.MaxRetryRPCBufferSize(0)), // there are no retries, so keep nothing for one
		grpc.WithIdleTimeout(0),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithReadBufferSize(ioBytes), grpc.WithWriteBufferSize(ioBytes),
		experimental.WithBufferPool(&buffers),
	}, cfg.DialOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("dial worker %s: %w", addr, err)
	}
	c.pb = fleetpb.NewWorkerServiceClient(c.cc)
	return c, nil
}

// newConn returns a connection to addr, with what all connections between programs
// have in common and further options. It connects when it is first used.
func newConn(addr string, d *dialer, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, append([]grpc.DialOption{
		grpc.WithContextDialer(d.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minReconnect, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxReconnect},
			MinConnectTimeout: connectTimeout,
		}),
	}, more...)...)
}

// dialer connects, and keeps the last connection so that it can be cut.
type dialer struct{ last atomic.Pointer[net.Conn] }

func (d *dialer) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	d.last.Store(&conn)
	return newRawConn(conn), nil
}

// cut closes the connection. gRPC would first try to say goodbye, for five seconds
// if the connection is stuck. Close must not wait so long, since its caller may be
// about to dial again.
func (d *dialer) cut() {
	if conn := d.last.Load(); conn != nil {
		_ = (*conn).Close()
	}
}

// StartReplica gives the order and returns the version of the worker's report
// in which the replica first appears.
func (c *Client) StartReplica(ctx context.Context, o fleet.Order, a fleet.Assignment) (uint64, error) {
	r, err := c.pb.StartReplica(ctx, assignmentToPB(o, a))
	if err != nil {
		return 0, fromStatus(ctx, fmt.Sprintf("start replica %s on worker %s", a.ID, c.addr), err)
	}
	return r.GetVersion(), nil
}

// StopReplica gives the order and returns the version of the worker's report
// in which it shows.
func (c *Client) StopReplica(ctx context.Context, o fleet.Order, id fleet.ReplicaID, reason string) (uint64, error) {
	r, err := c.pb.StopReplica(ctx, &fleetpb.StopReplicaRequest{Order: orderToPB(o), ReplicaId: string(id), Reason: text(reason)})
	if err != nil {
		return 0, fromStatus(ctx, fmt.Sprintf("stop replica %s on worker %s", id, c.addr), err)
	}
	return r.GetVersion(), nil
}

// ActivateReplica makes a spare take calls, and returns the version of the worker's
// report in which it is no spare any more. It fails with fleet.ErrOldWorker if the
// worker does not know the order.
func (c *Client) ActivateReplica(ctx context.Context, o fleet.Order, id fleet.ReplicaID) (uint64, error) {
	r, err := c.pb.ActivateReplica(ctx, &fleetpb.ActivateReplicaRequest{Order: orderToPB(o), ReplicaId: string(id)})
	if err != nil {
		return 0, unknownToOld(ctx, fmt.Sprintf("activate replica %s on worker %s", id, c.addr), err)
	}
	return r.GetVersion(), nil
}

// PullImage makes the worker pull an image, and returns when it has the order. It
// fails with fleet.ErrOldWorker if the worker does not know the order.
func (c *Client) PullImage(ctx context.Context, o fleet.Order, image string, policy fleet.PullPolicy) error {
	_, err := c.pb.PullImage(ctx, &fleetpb.PullImageRequest{Order: orderToPB(o), Image: text(image), PullPolicy: string(policy)})
	if err != nil {
		return unknownToOld(ctx, fmt.Sprintf("pull image %s on worker %s", image, c.addr), err)
	}
	return nil
}

// unknownToOld is fromStatus for an order that workers of an older version do not
// know.
func unknownToOld(ctx context.Context, doing string, err error) error {
	if ctx.Err() == nil && status.Code(err) == codes.Unimplemented {
		return fmt.Errorf("%s: %w", doing, fleet.ErrOldWorker)
	}
	return fromStatus(ctx, doing, err)
}

// Fence makes the worker refuse all orders older than o from now on. It returns the
// version of the report that shows the effect of those. A worker of an older
// version without Fence fails it, because it may still obey an older order. While
// the node drains the caller repeats Fence every second, so that the worker knows
// that a leader lives (see package agent).
func (c *Client) Fence(ctx context.Context, o fleet.Order) (version uint64, err error) {
	r, err := c.pb.Fence(ctx, &fleetpb.FenceRequest{Order: orderToPB(o), Renewed: true})
	if err != nil {
		return 0, fromStatus(ctx, "fence worker "+c.addr, err)
	}
	return r.GetVersion(), nil
}

// Watch calls on with each report, including heartbeats. It ends when ctx does, or
// when the stream breaks. The connection to an unreachable worker may not break, so
// the caller ends ctx when it has heard nothing for too long. The error is never nil.
func (c *Client) Watch(ctx context.Context, o fleet.Order, on func(fleet.Report)) error {
	doing := "watch worker " + c.addr
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.pb.Watch(ctx, &fleetpb.WatchRequest{Order: orderToPB(o)})
	if err != nil {
		return fromStatus(ctx, doing, err)
	}
	var node fleet.NodeID
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			c.stopped.Store(true)
			return fmt.Errorf("%s: the worker has stopped", doing)
		}
		if err != nil {
			return fromStatus(ctx, doing, err)
		}
		if n := p.GetNode().GetNode(); n != "" {
			node = fleet.NodeID(n)
		}
		on(reportFromPB(p, node))
	}
}

// Logs calls on with lines until there are no more. With follow, that is when the
// replica has ended.
func (c *Client) Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func([]fleet.LogLine) error) error {
	doing := fmt.Sprintf("logs of replica %s on worker %s", id, c.addr)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.pb.Logs(ctx, &fleetpb.LogsRequest{ReplicaId: string(id), Tail: int32(tail), Follow: follow})
	if err != nil {
		return fromStatus(ctx, doing, err)
	}
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fromStatus(ctx, doing, err)
		}
		if err := on(linesFromPB(p)); err != nil {
			return err
		}
	}
}

// Fail ends every call in flight, and every large result that is being read, with
// ErrReplicaLost and the cause. It is for a worker that is known to be gone, since
// the connection would take seconds to notice. The Client stays usable. Fail does
// nothing once the worker has ended a Watch: a worker that stops in order answers
// or refuses every call, and Close waits for that.
func (c *Client) Fail(cause error) {
	if !c.stopped.Load() {
		c.end(cause)
	}
}

func (c *Client) end(cause error) {
	for _, e := range c.opened() {
		e.end(cause)
	}
}

func (c *Client) opened() []ender {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.open))
}

// Close ends everything that runs and waits for it. If the worker has stopped in
// order, it first takes the last answers, which may take a few seconds. It may be
// called again.
func (c *Client) Close() error {
	c.mu.Lock()
	again := c.closing
	c.closing = true
	c.mu.Unlock()
	if again {
		c.running.Wait()
		return nil
	}
	if c.stopped.Load() {
		c.settle()
	}
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end(errClosed)
	c.dialer.cut()
	err := c.cc.Close()
	c.running.Wait()
	return err
}

// settle refuses new calls, and waits until running ones have returned and no
// result is being read.
func (c *Client) settle() {
	for _, e := range c.opened() {
		if s, ok := e.(*callStream); ok {
			s.broken.Store(true)
		}
	}
	tick := time.NewTicker(settleTick)
	defer tick.Stop()
	for begun := time.Now(); c.busy() && time.Since(begun) < c.settleFor; {
		<-tick.C
	}
}

func (c *Client) busy() bool {
	return c.calls.Load() > 0 || slices.ContainsFunc(c.opened(), func(e ender) bool {
		_, ok := e.(*resultReader)
		return ok
	})
}

// register adds a stream or fetch that Fail ends. It reports false after Close.
func (c *Client) register(e ender) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.open[e] = struct{}{}
	return true
}

func (c *Client) forget(e ender) {
	c.mu.Lock()
	delete(c.open, e)
	c.mu.Unlock()
}
