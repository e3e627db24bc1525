package sessions

import (
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// leaderLink keeps the connection to the controller that leads.
type leaderLink struct {
	dial func(fleet.Member) (Controller, error)

	mu     sync.Mutex
	to     fleet.Member
	c      Controller // nil: none
	closed bool
}

// connect returns a connection to the leader. One to an earlier leader is closed: what is
// asked there is asked again here.
func (l *leaderLink) connect(leader fleet.Member) (Controller, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c != nil && l.to.Life == leader.Life && l.to.GRPC == leader.GRPC {
		return l.c, nil
	}
	if l.closed {
		return nil, fleet.ErrNoLeader
	}
	c, err := l.dial(leader)
	if err != nil {
		return nil, err
	}
	if l.c != nil {
		_ = l.c.Close()
	}
	l.to, l.c = leader, c
	return c, nil
}

// close closes the connection for good.
func (l *leaderLink) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed = true; l.c != nil {
		_ = l.c.Close()
		l.c = nil
	}
}
