package gossip

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport is memberlist's transport with connections that end when the ring
// does. Without it memberlist would wait for the timeout of a member whose machine
// is gone.
type transport struct {
	*memberlist.NetTransport
	dial func(address string, timeout time.Duration) (net.Conn, error)
}

// bindTries is how many ports are tried to find one that is free for TCP and UDP.
const bindTries = 10

// newTransport binds the address of mc, and sets the port in mc if it is 0. Its
// connections end when ctx does.
func newTransport(ctx context.Context, mc *memberlist.Config, l *log.Logger) (*transport, error) {
	tries := 1
	if mc.BindPort == 0 {
		tries = bindTries
	}
	var nt *memberlist.NetTransport
	var err error
	for range tries {
		nt, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{mc.BindAddr}, BindPort: mc.BindPort, Logger: l})
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	if mc.BindPort == 0 {
		mc.BindPort, mc.AdvertisePort = nt.GetAutoBindPort(), nt.GetAutoBindPort()
	}
	return &transport{nt, func(address string, timeout time.Duration) (net.Conn, error) {
		c, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return conn{c, context.AfterFunc(ctx, func() { c.Close() })}, nil
	}}, nil
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.dial(address, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.dial(a.Addr, timeout)
}

// conn is a connection that is closed when a context ends.
type conn struct {
	net.Conn
	forget func() bool
}

func (c conn) Close() error {
	c.forget()
	return c.Conn.Close()
}
