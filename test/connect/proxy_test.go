//go:build linux

package connect

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy passes connections on to a controller until it is cut.
type proxy struct {
	net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
	lost  bool
	all   sync.WaitGroup
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: to}
	p.all.Go(p.run)
	t.Cleanup(func() {
		p.cut()
		p.all.Wait()
	})
	return p
}

func (p *proxy) run() {
	for {
		from, err := p.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", p.to)
		if err != nil {
			from.Close()
			continue
		}
		if !p.keep(from, to) {
			continue
		}
		for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
			p.all.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				pair[0].Close()
			})
		}
	}
}

// keep notes connections, or closes them after the cut.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost {
		reset(conns)
		return false
	}
	p.conns = append(p.conns, conns...)
	return true
}

// cut breaks all connections and accepts no more, like a controller that is
// killed.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = true
	p.Close()
	reset(p.conns)
	p.conns = nil
}

func reset(conns []net.Conn) {
	for _, c := range conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
