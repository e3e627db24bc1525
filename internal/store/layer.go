package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	dialTimeout  = 2 * time.Second // a dead host must not delay an election
	helloTimeout = 5 * time.Second
	maxHello     = 512
)

// hello is the first line on a connection. An address may belong to another
// controller or cluster by now, and raft would count its answers as those of the
// controller that was meant.
type hello struct {
	To      fleet.ControllerID `json:"to"`
	Cluster fleet.ClusterID    `json:"cluster,omitempty"` // "": it belongs to none yet
	// Incarnation is 0 while the controller has no state of a cluster.
	Incarnation fleet.Incarnation `json:"incarnation,omitempty"`
}

// layer makes raft's connections, and keeps track of them to close them all.
type layer struct {
	net.Listener
	dir         *Dir
	incarnation func() fleet.Incarnation // of the local state, even before its log is replayed; 0: there is no state yet
	outlived    func(error)              // the cluster was restored or recovered without this controller
	ready       chan struct{}            // closed once raft is started
	dial        func(ctx context.Context, addr string) (net.Conn, error)

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]struct{}
}

func (l *layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, ok := strings.Cut(string(address), "@")
	if !ok || addr == "" {
		return nil, fmt.Errorf("address of controller %s is not known", id)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout) // raft has no context
	defer cancel()
	c, err := l.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(hello{To: fleet.ControllerID(id), Cluster: l.dir.Cluster(), Incarnation: l.incarnation()})
	if err == nil {
		_, err = c.Write(append(line, '\n'))
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return l.keep(&conn{Conn: c, layer: l})
}

func (l *layer) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.keep(&conn{Conn: c, layer: l, greet: true})
}

func (l *layer) keep(c *conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(net.ErrClosed, c.Conn.Close())
	}
	l.open[c] = struct{}{}
	return c, nil
}

func (l *layer) shut() {
	l.mu.Lock()
	l.closed = true
	open := l.open
	l.open = nil
	l.mu.Unlock()
	for c := range open {
		c.Close()
	}
}

// conn is one connection. An accepted one reads the hello first, on the goroutine
// of the connection, so that a silent peer delays nobody else.
type conn struct {
	net.Conn
	layer *layer
	greet bool   // the hello is still to be read; used by the reader only
	heard *hello // of the other side; nil: this side made the connection
}

func (c *conn) Read(b []byte) (int, error) {
	if c.greet {
		if err := c.readHello(); err != nil {
			return 0, err
		}
		c.greet = false
	}
	n, err := c.Conn.Read(b)
	if errors.Is(err, net.ErrClosed) {
		err = io.EOF // shut closed it; raft would log any other error
	}
	if err == nil && c.heard != nil {
		// A controller that had no state when the connection was made may have
		// received one since, perhaps from others.
		if err := c.layer.checkIncarnation(*c.heard); err != nil {
			return 0, err
		}
	}
	return n, err
}

func (c *conn) readHello() error {
	if err := c.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	defer func() { _ = c.SetReadDeadline(time.Time{}) }() // the next read reports the error
	var line []byte
	for one := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, one[0]) {
		if len(line) == maxHello {
			return errors.New("not a controller: first line too long")
		}
		if _, err := io.ReadFull(c.Conn, one); err != nil {
			return io.EOF // a port scan, or the peer gave up: raft logs nothing
		}
	}
	var h hello
	if err := json.Unmarshal(line, &h); err != nil {
		return fmt.Errorf("not a controller: %w", err)
	}
	if own := c.layer.dir.ID(); h.To != own {
		return fmt.Errorf("connection is meant for controller %s, this is %s", h.To, own)
	}
	if own := c.layer.dir.Cluster(); own != "" && h.Cluster != "" && own != h.Cluster {
		return fmt.Errorf("controller of cluster %s called one of %s: %w", h.Cluster, own, fleet.ErrForeignCluster)
	}
	select {
	case <-c.layer.ready:
	case <-time.After(helloTimeout):
		return errors.New("raft is not started yet")
	}
	c.heard = &h
	return c.layer.checkIncarnation(h)
}

// checkIncarnation separates controllers with state from before and after the
// cluster was restored or recovered. Their logs may have different entries under
// the same indexes and terms, which raft would take for the same. A majority of
// those that were left behind could even depose the new leader.
func (l *layer) checkIncarnation(h hello) error {
	own, theirs := l.incarnation(), h.Incarnation
	switch {
	case own > 1 && theirs < own:
		return fmt.Errorf("controller of incarnation %d of the cluster called one of %d: the cluster was restored or recovered without it", theirs, own)
	case own > 0 && theirs > own:
		err := fmt.Errorf("a controller of incarnation %d of the cluster called, this one is of %d: %s", theirs, own, rejoinHint)
		l.outlived(err)
		return err
	}
	return nil
}

// rejoinHint says what to do with a controller without which the cluster was
// restored or recovered.
const rejoinHint = "the cluster was restored or recovered without this controller: " +
	"move its data directory away and start it again, it joins the cluster empty"

func (c *conn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.open, c)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}
