package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
)

// transport is the callers' side of HTTP, over kept-alive connections to one host. It costs
// little, because callers share the cores with what they measure: http.Transport has two
// goroutines for each connection, and wakes both for each call. Here the caller writes its
// request and reads the answer itself.
type transport struct {
	mu   sync.Mutex
	free []*callerConn
}

type callerConn struct {
	net.Conn
	r      *bufio.Reader
	w      *bufio.Writer
	reused bool
}

// RoundTrip implements http.RoundTripper. Of ctx it takes only the deadline.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	for {
		c, err := t.conn(req.URL.Host)
		if err != nil {
			return nil, err
		}
		resp, err := c.roundTrip(req)
		if err == nil {
			resp.Body = &callerBody{ReadCloser: resp.Body, transport: t, conn: c}
			return resp, nil
		}
		c.Close()
		if !c.reused {
			return nil, err
		}
		if req.GetBody != nil { // the server has closed a connection that was idle for long
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

func (c *callerConn) roundTrip(req *http.Request) (*http.Response, error) {
	if deadline, ok := req.Context().Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if err := req.Write(c.w); err != nil {
		return nil, err
	}
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.r, req)
}

// conn returns a connection that nobody uses.
func (t *transport) conn(host string) (*callerConn, error) {
	t.mu.Lock()
	if n := len(t.free); n > 0 {
		c := t.free[n-1]
		t.free = t.free[:n-1]
		t.mu.Unlock()
		return c, nil
	}
	t.mu.Unlock()
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	return &callerConn{Conn: conn, r: bufio.NewReaderSize(conn, 16<<10), w: bufio.NewWriterSize(conn, 16<<10)}, nil
}

// close closes the connections that nobody uses.
func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.free {
		c.Close()
	}
	t.free = nil
}

// callerBody gives the connection back when the body has been read to its end.
type callerBody struct {
	io.ReadCloser
	transport *transport
	conn      *callerConn
	read      bool // to its end
}

func (b *callerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	//nolint:errorlint // only a bare EOF is the end
	b.read = b.read || err == io.EOF
	return n, err
}

func (b *callerBody) Close() error {
	if !b.read {
		return b.conn.Close()
	}
	b.conn.reused = true
	b.transport.mu.Lock()
	defer b.transport.mu.Unlock()
	b.transport.free = append(b.transport.free, b.conn)
	return nil
}
