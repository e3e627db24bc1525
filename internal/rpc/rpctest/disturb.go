// Package rpctest disturbs the connections of an rpc.Client. It is for tests
// only.
package rpctest

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/mcpfleet/mcpfleet/internal/rpc"
)

// Disturbance loses, repeats and delays control RPCs between a controller and
// its workers: orders before or after the worker has obeyed, and the streams
// of reports. Calls of tools are left alone.
type Disturbance struct {
	mu  sync.Mutex
	rnd *rand.Rand
	off bool
}

// Disturb returns a Disturbance whose choices follow from the seed.
func Disturb(seed uint64) *Disturbance {
	return &Disturbance{rnd: rand.New(rand.NewPCG(seed, seed))}
}

// Stop leaves everything alone from now on.
func (d *Disturbance) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// Client returns the configuration of a client that is disturbed.
func (d *Disturbance) Client() rpc.ClientConfig {
	return rpc.ClientConfig{DialOptions: []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(d.unary), grpc.WithChainStreamInterceptor(d.stream),
	}}
}

func (d *Disturbance) roll() (dice float64, delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return 1, 0
	}
	return d.rnd.Float64(), time.Duration(d.rnd.IntN(80)) * time.Millisecond
}

var errDisturbed = status.Error(codes.Unavailable, "lost by the test")

func (d *Disturbance) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	again := func(delay time.Duration) { // not waited for: it overtakes, or is overtaken
		spare := newLike(reply) // made now: the sender may be reading into reply by then
		time.AfterFunc(delay, func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = invoke(ctx, method, req, spare, cc, opts...)
		})
	}
	switch dice, delay := d.roll(); {
	case dice < 0.20: // lost on its way
		return errDisturbed
	case dice < 0.35: // late, while the sender believes it lost
		again(delay)
		return errDisturbed
	case dice < 0.50: // obeyed, and the answer lost
		_ = invoke(ctx, method, req, reply, cc, opts...)
		return errDisturbed
	case dice < 0.70: // twice
		again(delay)
		return invoke(ctx, method, req, reply, cc, opts...)
	default:
		return invoke(ctx, method, req, reply, cc, opts...)
	}
}

// newLike makes an empty message of the reply's type, for an answer that
// nobody waits for.
func newLike(reply any) any { return reply.(proto.Message).ProtoReflect().New().Interface() }

func (d *Disturbance) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil || !strings.HasSuffix(method, "/Watch") {
		return s, err
	}
	return &disturbedStream{s, d}, nil
}

// disturbedStream breaks off now and then: what was on its way is lost.
type disturbedStream struct {
	grpc.ClientStream
	d *Disturbance
}

// RecvMsg implements grpc.ClientStream.
func (s *disturbedStream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	if dice, _ := s.d.roll(); dice < 0.10 {
		return errDisturbed
	}
	return nil
}
