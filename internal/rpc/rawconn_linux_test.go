package rpc

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcpfleet/mcpfleet/internal/rawio"
)

// gRPC sets TCP_USER_TIMEOUT itself, but only on connections of package net.
func TestRawConnectionsHaveAUserTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = rawListener{l}
	defer l.Close()
	dialled, err := new(dialer).dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	for name, c := range map[string]net.Conn{"dialled": dialled, "accepted": accepted} {
		raw, ok := c.(rawConn)
		if !ok {
			t.Fatalf("the %s connection is a %T", name, c)
		}
		if got := userTimeout(t, raw.TCPConn); got != keepaliveTimeout {
			t.Errorf("the %s connection has a user timeout of %v, want %v", name, got, keepaliveTimeout)
		}
	}
}

func userTimeout(t *testing.T, c *rawio.TCPConn) time.Duration {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ms int
	var got error
	if err := raw.Control(func(fd uintptr) { ms, got = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) }); err != nil || got != nil {
		t.Fatal(err, got)
	}
	return time.Duration(ms) * time.Millisecond
}
