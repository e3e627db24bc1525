package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
	"github.com/mcpfleet/mcpfleet/internal/silence"
)

// Controller is served to other controllers by ServeController. All methods may be called
// at once.
type Controller interface {
	// WatchQueues sends how many calls of each server wait at this controller:
	// first all servers that have any, then those whose number has changed, which
	// may be none. It sends at least once a second, until ctx ends or send fails.
	WatchQueues(ctx context.Context, o fleet.Order, send func(map[fleet.ServerName]int) error) error

	// WatchSessions sends what this controller knows of sessions: first all records,
	// then those that have changed, which may be none. It sends at least once a
	// second, until ctx ends or send fails.
	WatchSessions(ctx context.Context, o fleet.Order, send func([]fleet.SessionRecord) error) error

	// TellSessions takes in records of another controller.
	TellSessions(ctx context.Context, o fleet.Order, records []fleet.SessionRecord) error

	// GiveSession gives a replica to a session, and waits for one until ctx ends.
	GiveSession(ctx context.Context, o fleet.Order, r fleet.SessionRequest) (fleet.SessionGiven, error)
}

// ServeController serves c on l, which it closes, until ctx ends. Then it ends all
// watches and returns nil.
func ServeController(ctx context.Context, l net.Listener, c Controller) error {
	g := grpc.NewServer(
		grpc.WaitForHandlers(true), // else they would outlive this function
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
	)
	fleetpb.RegisterControllerServiceServer(g, &controllerServer{controller: c})
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	select {
	case err := <-served:
		g.Stop()
		return fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
	case <-ctx.Done():
		g.Stop()
		// A server that was stopped before it began to serve returns this.
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
		}
		return nil
	}
}

// controllerServer implements the service.
type controllerServer struct {
	fleetpb.UnimplementedControllerServiceServer
	controller Controller
}

// WatchQueues implements the service.
func (s *controllerServer) WatchQueues(r *fleetpb.WatchQueuesRequest, stream grpc.ServerStreamingServer[fleetpb.WatchQueuesResponse]) error {
	return toStatus(s.controller.WatchQueues(stream.Context(), orderFromPB(r.GetOrder()), func(queues map[fleet.ServerName]int) error {
		return stream.Send(queuesToPB(queues))
	}))
}

// ControllerClient talks to one controller. All methods may be called at once.
type ControllerClient struct {
	addr    string
	silence time.Duration
	dialer  dialer
	cc      *grpc.ClientConn
	pb      fleetpb.ControllerServiceClient
}

// DialController returns a client for the controller at addr, host:port. It
// connects when it is first used, and again whenever the connection is lost. It
// uses Silence and DialOptions of cfg.
func DialController(addr string, cfg ClientConfig) (*ControllerClient, error) {
	c := &ControllerClient{addr: addr, silence: cmp.Or(cfg.Silence, defaultSilence)}
	var err error
	c.cc, err = newConn(addr, &c.dialer, cfg.DialOptions...)
	if err != nil {
		return nil, fmt.Errorf("dial controller %s: %w", addr, err)
	}
	c.pb = fleetpb.NewControllerServiceClient(c.cc)
	return c, nil
}

// WatchQueues calls on with what the controller's WatchQueues sends. It ends when
// ctx does, when the stream breaks, or when nothing has come for
// ClientConfig.Silence. The error is never nil.
func (c *ControllerClient) WatchQueues(ctx context.Context, o fleet.Order, on func(map[fleet.ServerName]int)) error {
	return follow(ctx, c, "watch the queues of controller "+c.addr, func(ctx context.Context) (grpc.ServerStreamingClient[fleetpb.WatchQueuesResponse], error) {
		return c.pb.WatchQueues(ctx, &fleetpb.WatchQueuesRequest{Order: orderToPB(o)})
	}, func(p *fleetpb.WatchQueuesResponse) { on(queuesFromPB(p)) })
}

// follow reads a stream of a controller until it breaks, ctx ends, or nothing has come for
// too long. The error is never nil.
func follow[T any](ctx context.Context, c *ControllerClient, doing string,
	open func(context.Context) (grpc.ServerStreamingClient[T], error), on func(*T),
) error {
	var guard silence.Guard
	var guarding sync.WaitGroup
	defer guarding.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	guarding.Go(func() {
		if quiet, lost := guard.Wait(ctx, func() time.Duration { return c.silence }); lost {
			cancel(fmt.Errorf("nothing heard for %v", quiet.Round(time.Millisecond)))
		}
	})
	stream, err := open(ctx)
	if err != nil {
		return fromStatus(ctx, doing, err)
	}
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: the controller has ended it", doing)
		}
		if err != nil {
			return fromStatus(ctx, doing, err)
		}
		guard.Heard()
		on(p)
	}
}

// Close ends everything that runs.
func (c *ControllerClient) Close() error {
	c.dialer.cut()
	return c.cc.Close()
}

func queuesToPB(queues map[fleet.ServerName]int) *fleetpb.WatchQueuesResponse {
	p := &fleetpb.WatchQueuesResponse{Servers: make([]*fleetpb.ServerQueue, 0, len(queues))}
	for name, n := range queues {
		p.Servers = append(p.Servers, &fleetpb.ServerQueue{Server: string(name), Queued: int64(n)})
	}
	return p
}

func queuesFromPB(p *fleetpb.WatchQueuesResponse) map[fleet.ServerName]int {
	queues := make(map[fleet.ServerName]int, len(p.GetServers()))
	for _, s := range p.GetServers() {
		queues[fleet.ServerName(s.GetServer())] = int(s.GetQueued())
	}
	return queues
}
