package sessions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// Router sends calls to replicas. Package route implements it.
type Router interface {
	Call(ctx context.Context, c fleet.Call) (fleet.CallResult, error)
	// PerSession reports whether each session of the server has a replica to itself, and
	// returns how long its calls may take.
	PerSession(server fleet.ServerName) (timeout time.Duration, yes bool)
}

// Caller sends calls through a router. A call without a session to a server whose
// sessions have replicas to themselves gets a session of its own.
type Caller struct {
	Router
	Sessions *Service
	Version  string // of mcpfleet, which is the client of such sessions
}

// Call is Router.Call. A session that is made for the call is ended with it, and its
// replica is stopped. If that is lost, and the call may run twice, it is sent again once.
func (c *Caller) Call(ctx context.Context, call fleet.Call) (fleet.CallResult, error) {
	timeout, yes := c.PerSession(call.Server)
	if call.Session != "" || !yes {
		return c.Router.Call(ctx, call)
	}
	if call.Since.IsZero() {
		call.Since = time.Now()
	}
	res, err := c.callAlone(ctx, call, timeout)
	if errors.Is(err, fleet.ErrConflict) { // it was just found to need no sessions
		return c.Router.Call(ctx, call)
	}
	if call.Idempotent && ctx.Err() == nil && errors.Is(err, fleet.ErrReplicaLost) {
		return c.callAlone(ctx, call, timeout)
	}
	return res, err
}

// callAlone is Call for a call that gets a session, once. It is a function of its own
// because it puts the call on the heap.
func (c *Caller) callAlone(ctx context.Context, call fleet.Call, timeout time.Duration) (fleet.CallResult, error) {
	timeout = min(cmp.Or(call.Timeout, timeout), timeout)
	opening, cancel := context.WithDeadlineCause(ctx, call.Since.Add(timeout), fleet.ErrTimeout)
	defer cancel()
	call.Session = fleet.NewSessionID()
	end := func() { c.Sessions.End(call.Session, time.Now().Add(fleet.OnceKept)) }
	given, err := c.Sessions.Open(opening, fleet.SessionRequest{
		Server: call.Server, Session: call.Session, Until: time.Now().Add(fleet.OnceKept), Caller: call.Caller, Once: true,
		Initialize: mcp.InitializeParams(mcp.LatestLegacy, mcp.Implementation{Name: "mcpfleet", Version: c.Version}),
	})
	if err == nil && given.Error != nil {
		err = fmt.Errorf("server %q, replica %s: %w: it refuses initialize: %w", call.Server, given.Replica, fleet.ErrNoReplica, mcp.ParseError(given.Error))
	}
	if err != nil {
		end() // perhaps a replica is being given to it
		return fleet.CallResult{}, err
	}
	res, err := c.Router.Call(ctx, call)
	if errors.Is(err, fleet.ErrSessionLost) {
		err = fmt.Errorf("%w: %w", fleet.ErrReplicaLost, err)
	}
	if res.Stream != nil {
		res.Stream = &ending{res.Stream, end}
		return res, err
	}
	end()
	return res, err
}

// ending is a result whose reading ends a session.
type ending struct {
	io.ReadCloser
	end func()
}

// Close implements io.Closer.
func (e *ending) Close() error {
	defer e.end()
	return e.ReadCloser.Close()
}
