package rpc

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/mem"

	"github.com/mcpfleet/mcpfleet/internal/rawio"
)

// newRawConn wraps a TCP connection for gRPC.
func newRawConn(conn net.Conn) net.Conn {
	raw, ok := rawio.Conn(conn).(*rawio.TCPConn)
	if !ok {
		return conn
	}
	// gRPC does this for connections of package net.
	if fd, err := raw.SyscallConn(); err == nil {
		_ = fd.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(keepaliveTimeout/time.Millisecond))
		})
	}
	return rawConn{raw}
}

// rawConn gives gRPC its own way to read: it takes a buffer only when there is something to read.
type rawConn struct{ *rawio.TCPConn }

// ReadOnReady implements gRPC's readyreader.Reader.
func (c rawConn) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	var buf *[]byte
	get := func() []byte {
		buf = pool.Get(size)
		return *buf
	}
	put := func() {
		pool.Put(buf)
		buf = nil
	}
	n, err := c.ReadLate(get, put)
	return buf, n, err
}
