package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// network connects controllers.
type network interface {
	listen() (net.Listener, error)
	dial(ctx context.Context, addr string) (net.Conn, error)
}

type loopback struct{}

func (loopback) listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

func (loopback) dial(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// pipes is a network for a synctest bubble.
type pipes struct {
	mu    sync.Mutex
	open  map[string]*pipeEnd
	dials map[string]int // by address, including those that failed
}

// pipeEnd is a listener, and its own address.
type pipeEnd struct {
	net    *pipes
	name   string
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{open: map[string]*pipeEnd{}, dials: map[string]int{}} }

func (p *pipes) listen() (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &pipeEnd{net: p, name: fmt.Sprintf("pipe:%d", len(p.open)+1), conns: make(chan net.Conn), closed: make(chan struct{})}
	p.open[e.name] = e
	return e, nil
}

func (p *pipes) dial(ctx context.Context, addr string) (net.Conn, error) {
	p.mu.Lock()
	e := p.open[addr]
	p.dials[addr]++
	p.mu.Unlock()
	near, far := net.Pipe()
	select {
	case <-e.closed:
		return nil, errors.New("connection refused")
	case e.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pipes) dialed(addr string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials[addr]
}

func (e *pipeEnd) Accept() (net.Conn, error) {
	select {
	case c := <-e.conns:
		return c, nil
	case <-e.closed:
		return nil, net.ErrClosed
	}
}

func (e *pipeEnd) Close() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}

func (e *pipeEnd) Addr() net.Addr  { return e }
func (e *pipeEnd) Network() string { return "pipe" }
func (e *pipeEnd) String() string  { return e.name }

// wires is a network whose connections can be cut.
type wires struct {
	under network

	mu    sync.Mutex
	addrs map[fleet.ControllerID]string
	cut   map[[2]fleet.ControllerID]bool
	conns map[*wire]struct{}
}

type wire struct {
	net.Conn
	ends [2]fleet.ControllerID
	net  *wires
}

func (w *wire) Close() error {
	w.net.mu.Lock()
	delete(w.net.conns, w)
	w.net.mu.Unlock()
	return w.Conn.Close()
}

func newWires() *wires {
	return &wires{under: loopback{}, addrs: map[fleet.ControllerID]string{}, cut: map[[2]fleet.ControllerID]bool{}, conns: map[*wire]struct{}{}}
}

func (n *wires) resolve(id fleet.ControllerID) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr, ok := n.addrs[id]
	return addr, ok
}

func (n *wires) dialer(from fleet.ControllerID) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := n.under.dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		for to, at := range n.addrs {
			if at == addr && n.cut[[2]fleet.ControllerID{from, to}] {
				c.Close()
				return nil, errors.New("cut")
			} else if at == addr {
				w := &wire{c, [2]fleet.ControllerID{from, to}, n}
				n.conns[w] = struct{}{}
				return w, nil
			}
		}
		return c, nil
	}
}

// separate cuts all connections between the two sides, in both directions.
func (n *wires) separate(one, other []fleet.ControllerID) {
	n.mu.Lock()
	for _, a := range one {
		for _, b := range other {
			n.cut[[2]fleet.ControllerID{a, b}] = true
			n.cut[[2]fleet.ControllerID{b, a}] = true
		}
	}
	var dead []*wire
	for w := range n.conns {
		if n.cut[w.ends] {
			dead = append(dead, w)
		}
	}
	n.mu.Unlock()
	for _, w := range dead {
		w.Close()
	}
}

func (n *wires) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}
