package web

import (
	"net"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/rawio"
)

// Connections are read and written without the scheduler's work for system calls.
func TestConnectionsAreRaw(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := new(Server).Listener(inner)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if c, ok := conn.(*jsonConn); !ok {
		t.Errorf("a connection is a %T", conn)
	} else if _, ok := c.Conn.(*rawio.TCPConn); !ok {
		t.Errorf("a connection is a %T inside", c.Conn)
	}
}
