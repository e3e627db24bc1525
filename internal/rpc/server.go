// Package rpc carries orders, reports and calls between controllers and workers,
// and the lengths of the controllers' queues to the leader. Only this package knows
// gRPC and the generated code.
//
// It promises:
//
//   - Errors are the same sentinels of package fleet on both sides.
//   - A call ends for its caller as soon as the caller's context does.
//   - A lost connection ends every call on it for its caller, as not delivered only if
//     that is certain. Nothing is repeated. A call with a stream runs on at the worker.
//   - A slow reader, a large message or a stuck connection delays no other call.
//
// Calls share a few long-lived streams. Whatever waits to be sent on a stream goes
// in one message, which costs a quarter to a half of a unary call. Results and
// arguments over 256 KiB take streams of their own.
//
// The goroutines of a Server end with Serve, those of a Client with Close. The same
// holds for ServeController and a ControllerClient.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// Worker is served by a Server. All methods may be called at once. Package fleet's
// sentinels, and context.Canceled, in their errors reach the client.
type Worker interface {
	StartReplica(ctx context.Context, o fleet.Order, a fleet.Assignment) (version uint64, err error)
	StopReplica(ctx context.Context, o fleet.Order, id fleet.ReplicaID, reason string) (version uint64, err error)

	// ActivateReplica makes a spare take calls.
	ActivateReplica(ctx context.Context, o fleet.Order, id fleet.ReplicaID) (version uint64, err error)

	// PullImage begins to pull an image, and returns at once.
	PullImage(ctx context.Context, o fleet.Order, image string, policy fleet.PullPolicy) error

	// Fence refuses older orders from now on. A report of the version that it
	// returns shows the effect of all of them. renewed means that it is repeated
	// every second while the node drains.
	Fence(ctx context.Context, o fleet.Order, renewed bool) (version uint64, err error)

	// Watch reports until ctx ends, send fails or the worker has stopped. It
	// sends at least one report a second.
	Watch(ctx context.Context, o fleet.Order, send func(fleet.Report) error) error

	// Call begins a call and does not block. It may call events before it
	// returns, from any goroutine, but not twice at once with the events of one
	// call except progress and notifications. events does not block, and may
	// call the event's Free before it returns. cancel does not block, and may be
	// called after the call's end. Without timeout, a call with a stream runs on.
	Call(req fleet.CallRequest, events func(fleet.CallEvent)) (cancel func(timeout bool))

	// Logs sends the last tail lines (0: all that are kept) and then, if follow is
	// set, new ones until the replica ends.
	Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, send func([]fleet.LogLine) error) error

	Streams
	Sessions
}

// Bounds of both sides.
const (
	maxMessage = 80 << 20  // a line of a server may have 64 MiB
	largeBytes = 256 << 10 // arguments and results beyond this travel alone

	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second

	// Windows are fixed. That bounds how much a slow reader makes its sender
	// keep, and gRPC's own estimation gained nothing.
	streamWindow = 1 << 20
	connWindow   = 8 << 20

	// One read or write of a connection. gRPC's own 32 KiB make four times as
	// many of a large argument or result.
	ioBytes = 128 << 10

	stopTimeout = 3 * time.Second // for streams to end by themselves
	keepResult  = time.Minute
)

// ServerConfig configures a Server.
type ServerConfig struct {
	Worker Worker
	Log    *slog.Logger
	// KeepResult is how long a large result waits for its fetch; 0 is a minute.
	KeepResult time.Duration
	Options    []grpc.ServerOption
}

// Server serves a Worker to controllers.
type Server struct {
	fleetpb.UnimplementedWorkerServiceServer
	worker   Worker
	results  *results
	options  []grpc.ServerOption
	stopping chan struct{} // closed when Serve's context has ended
	calling  sync.RWMutex  // read-locked by each Calls stream, so that Serve can wait for them
	readers  sync.WaitGroup
}

// NewServer returns a Server for one Serve.
func NewServer(cfg ServerConfig) *Server {
	keep := cfg.KeepResult
	if keep == 0 {
		keep = keepResult
	}
	log := cfg.Log.With("component", "rpc")
	return &Server{
		worker: cfg.Worker, results: newResults(keep, log),
		options: cfg.Options, stopping: make(chan struct{}),
	}
}

// Serve serves on l, which it closes, until ctx ends. Then it sends the answers
// that are ready and waits until large results are fetched. Together with running
// watches and logs they have a few seconds. After that it cuts everything.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	g := grpc.NewServer(append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.WaitForHandlers(true), // else they would outlive Serve
		grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(connWindow),
		grpc.ReadBufferSize(ioBytes), grpc.WriteBufferSize(ioBytes),
		experimental.BufferPool(&buffers),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
	}, s.options...)...)
	fleetpb.RegisterWorkerServiceServer(g, s)

	served := make(chan error, 1)
	go func() { served <- g.Serve(rawListener{l}) }()
	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
	case <-ctx.Done():
		close(s.stopping)
		cut := time.AfterFunc(stopTimeout, g.Stop)
		s.calling.Lock() // wait: no fetch can begin once GracefulStop has
		s.calling.Unlock()
		g.GracefulStop()
		cut.Stop()
		// A server that was stopped before it began to serve returns this.
		if err = <-served; errors.Is(err, grpc.ErrServerStopped) {
			err = nil
		}
	}
	g.Stop()
	s.readers.Wait()
	s.results.close()
	return err
}

// StartReplica implements the service.
func (s *Server) StartReplica(ctx context.Context, r *fleetpb.StartReplicaRequest) (*fleetpb.StartReplicaResponse, error) {
	o, a := assignmentFromPB(r)
	v, err := s.worker.StartReplica(ctx, o, a)
	if err != nil {
		return nil, toStatus(err)
	}
	return &fleetpb.StartReplicaResponse{Version: v}, nil
}

// StopReplica implements the service.
func (s *Server) StopReplica(ctx context.Context, r *fleetpb.StopReplicaRequest) (*fleetpb.StopReplicaResponse, error) {
	v, err := s.worker.StopReplica(ctx, orderFromPB(r.GetOrder()), fleet.ReplicaID(r.GetReplicaId()), r.GetReason())
	if err != nil {
		return nil, toStatus(err)
	}
	return &fleetpb.StopReplicaResponse{Version: v}, nil
}

// ActivateReplica implements the service.
func (s *Server) ActivateReplica(ctx context.Context, r *fleetpb.ActivateReplicaRequest) (*fleetpb.ActivateReplicaResponse, error) {
	v, err := s.worker.ActivateReplica(ctx, orderFromPB(r.GetOrder()), fleet.ReplicaID(r.GetReplicaId()))
	if err != nil {
		return nil, toStatus(err)
	}
	return &fleetpb.ActivateReplicaResponse{Version: v}, nil
}

// PullImage implements the service.
func (s *Server) PullImage(ctx context.Context, r *fleetpb.PullImageRequest) (*fleetpb.PullImageResponse, error) {
	err := s.worker.PullImage(ctx, orderFromPB(r.GetOrder()), r.GetImage(), fleet.PullPolicy(r.GetPullPolicy()))
	if err != nil {
		return nil, toStatus(err)
	}
	return &fleetpb.PullImageResponse{}, nil
}

// Fence implements the service.
func (s *Server) Fence(ctx context.Context, r *fleetpb.FenceRequest) (*fleetpb.FenceResponse, error) {
	v, err := s.worker.Fence(ctx, orderFromPB(r.GetOrder()), r.GetRenewed())
	if err != nil {
		return nil, toStatus(err)
	}
	return &fleetpb.FenceResponse{Version: v}, nil
}

// Watch implements the service.
func (s *Server) Watch(r *fleetpb.WatchRequest, stream grpc.ServerStreamingServer[fleetpb.WatchResponse]) error {
	return toStatus(s.worker.Watch(stream.Context(), orderFromPB(r.GetOrder()), func(r fleet.Report) error {
		return stream.Send(reportToPB(r))
	}))
}

// Logs implements the service.
func (s *Server) Logs(r *fleetpb.LogsRequest, stream grpc.ServerStreamingServer[fleetpb.LogsResponse]) error {
	return toStatus(s.worker.Logs(stream.Context(), fleet.ReplicaID(r.GetReplicaId()), int(r.GetTail()), r.GetFollow(),
		func(lines []fleet.LogLine) error { return stream.Send(linesToPB(lines)) }))
}
