package rpctest

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/mcpfleet/mcpfleet/internal/rpc"
)

// LateInterests returns the configuration of a client that passes interests to workers
// late, as on a busy machine.
func LateInterests(late time.Duration) rpc.ClientConfig {
	stream := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s, err := open(ctx, desc, cc, method, opts...)
		if err != nil || !strings.HasSuffix(method, "/Listen") {
			return s, err
		}
		return &lateStream{s, late}, nil
	}
	return rpc.ClientConfig{DialOptions: []grpc.DialOption{grpc.WithChainStreamInterceptor(stream)}}
}

// lateStream sends late.
type lateStream struct {
	grpc.ClientStream
	late time.Duration
}

// SendMsg implements grpc.ClientStream.
func (s *lateStream) SendMsg(m any) error {
	time.Sleep(s.late)
	return s.ClientStream.SendMsg(m)
}
