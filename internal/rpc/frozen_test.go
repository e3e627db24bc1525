package rpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// freezable is a connection that can stop in both directions, as one does
// whose peer has been paused.
type freezable struct {
	net.Conn
	frozen chan struct{} // closed: stopped
	closed chan struct{}
	once   sync.Once
}

func (c *freezable) wait() error {
	select {
	case <-c.frozen:
		<-c.closed
		return net.ErrClosed
	default:
		return nil
	}
}

func (c *freezable) Write(b []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *freezable) Read(b []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	if ferr := c.wait(); ferr != nil {
		return 0, ferr
	}
	return n, err
}

func (c *freezable) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// While a connection is frozen, with large messages in it, no caller waits
// past its deadline, the worker's replicas do not wait at all, and everything
// is released and given back in the end.
func TestFrozenConnection(t *testing.T) {
	const answers, answerBytes = 300, 100 << 10
	var freed atomic.Int64
	sc := newScript()
	frozen := make(chan struct{})
	s := start(t, sc.worker(), func(_ *ServerConfig, cc *ClientConfig) {
		cc.Streams = 1
		cc.DialOptions = append(cc.DialOptions, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			return &freezable{Conn: conn, frozen: frozen, closed: make(chan struct{})}, nil
		}))
	})
	var before []<-chan answer
	var running []*scripted
	for range answers {
		before = append(before, begin(t.Context(), s, fleet.CallRequest{}, fleet.CallHooks{}))
		running = append(running, get(t, sc.calls))
	}
	close(frozen)

	begun := time.Now()
	for _, c := range running {
		c.events(fleet.CallEvent{Kind: fleet.CallReply, Result: payload(answerBytes), Free: func() { freed.Add(1) }})
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the worker's side waited %v", took)
	}
	if n := freed.Load(); n > answers/2 {
		t.Errorf("%d of %d answers were given back while nothing could be sent", n, answers)
	}

	var wg sync.WaitGroup
	var releases atomic.Int64
	const late = 200
	for i := range late {
		wg.Go(func() {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, fleet.ErrTimeout)
			defer cancel()
			n := 500
			if i%2 == 0 {
				n = 200 << 10
			}
			params := payload(n)
			begun := time.Now()
			_, err := s.Call(ctx, fleet.CallRequest{Params: params}, fleet.CallHooks{Released: func(int) { releases.Add(1) }})
			clear(params) // ours again: the race detector watches
			if !errors.Is(err, fleet.ErrTimeout) {
				t.Errorf("Call gave %v", err)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("Call returned after %v", took)
			}
		})
	}
	wg.Wait()

	s.Fail(errors.New("silent"))
	for _, c := range before {
		if a := get(t, c); !errors.Is(a.err, fleet.ErrReplicaLost) {
			t.Errorf("a call from before gave %v", a.err)
		}
	}
	eventually(t, func() string {
		if releases.Load() < late {
			return "not all calls were released"
		}
		return s.leftovers()
	})
	s.Close()
	eventually(t, func() string {
		if freed.Load() < answers {
			return "not all answers were given back"
		}
		return ""
	})
	if n := releases.Load(); n != late {
		t.Errorf("%d releases of %d calls", n, late)
	}
}
