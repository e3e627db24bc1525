package rpc

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// BenchmarkCall is a call to a worker that echoes; BenchmarkUnary is what the
// same costs as a plain unary RPC. Compare the two of one run only.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		for _, callers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("size=%d/C=%d", size, callers), func(b *testing.B) {
				s := start(b, &fakeWorker{})
				req := fleet.CallRequest{Replica: "everything-1-0123abcd", Method: "tools/call", Params: payload(size),
					Trace: fleet.Trace{RequestID: "0123456789abcdef"}}
				concurrently(b, callers, func() error {
					res, err := s.Call(b.Context(), req, fleet.CallHooks{})
					if err != nil {
						return err
					}
					n := int64(len(res.Result))
					if res.Stream != nil {
						if n, err = discard(res.Stream); err != nil {
							return err
						}
					}
					if n != int64(size) {
						return fmt.Errorf("%d bytes came back, want %d", n, size)
					}
					return nil
				})
			})
		}
	}
}

func BenchmarkUnary(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		for _, callers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("size=%d/C=%d", size, callers), func(b *testing.B) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				g := grpc.NewServer()
				g.RegisterService(&unaryEcho, nil)
				var wg sync.WaitGroup
				wg.Go(func() { g.Serve(l) })
				cc, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					b.Fatal(err)
				}
				req := &fleetpb.Call{Id: 7, ReplicaId: "everything-1-0123abcd", Method: "tools/call", Params: payload(size),
					RequestId: "0123456789abcdef"}
				concurrently(b, callers, func() error {
					var res fleetpb.Call
					if err := cc.Invoke(b.Context(), "/echo/Echo", req, &res); err != nil {
						return err
					}
					if len(res.Params) != size {
						return fmt.Errorf("%d bytes came back, want %d", len(res.Params), size)
					}
					return nil
				})
				cc.Close()
				g.Stop()
				wg.Wait()
			})
		}
	}
}

var unaryEcho = grpc.ServiceDesc{ServiceName: "echo", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
	MethodName: "Echo",
	Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var req fleetpb.Call
		if err := dec(&req); err != nil {
			return nil, err
		}
		return &req, nil
	},
}}}

func payload(n int) []byte {
	return append(append([]byte(`"`), bytes.Repeat([]byte("x"), n-2)...), '"')
}

func concurrently(b *testing.B, callers int, once func() error) {
	b.ReportAllocs()
	if err := once(); err != nil { // connects
		b.Fatal(err)
	}
	b.ResetTimer()
	before := cpu(b)
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := once(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// cpu is what this process has used: it says more than the time does on a
// machine that has other things to do.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
