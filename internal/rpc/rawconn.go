package rpc

import "net"

// rawListener returns connections that newRawConn has wrapped.
type rawListener struct{ net.Listener }

// Accept implements net.Listener.
func (l rawListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newRawConn(conn), nil
}
