//go:build !linux

package rpc

import "net"

type rawListener struct{ net.Listener }

func newRawConn(conn net.Conn) net.Conn { return conn }
