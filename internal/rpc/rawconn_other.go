//go:build !linux

package rpc

import "net"

// newRawConn returns conn.
func newRawConn(conn net.Conn) net.Conn { return conn }
