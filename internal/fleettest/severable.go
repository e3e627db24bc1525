package fleettest

import (
	"errors"
	"net"
	"sync"
)

// severable is a listener whose connections can all be cut at once, for good.
type severable struct {
	net.Listener

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

// Accept implements net.Listener.
func (s *severable) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		conn.Close()
		return nil, net.ErrClosed
	}
	s.conns = append(s.conns, conn)
	return conn, nil
}

// sever closes the listener and every connection it accepted, unannounced: a
// peer sees a reset.
func (s *severable) sever() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	err := s.Listener.Close()
	for _, c := range s.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			err = errors.Join(err, tcp.SetLinger(0))
		}
		err = errors.Join(err, c.Close())
	}
	_ = err // some are closed already
}
