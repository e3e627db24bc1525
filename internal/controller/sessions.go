package controller

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/events"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/load"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/route"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
	"github.com/mcpfleet/mcpfleet/internal/sessions"
)

// owners is the part that gives replicas to sessions.
type owners struct {
	*sessions.Service
	directory *sessions.Directory
	status    func() []reconcile.ServerStatus // set before anything runs
}

func (c *controller) newSessions(registry *prometheus.Registry, observer *observe.Observer, router *route.Router) *owners {
	o := &owners{directory: sessions.NewDirectory()}
	o.Service = sessions.New(sessions.Config{
		Self: c.self.Life, Desired: c.store, View: observer, Members: c.ring, Directory: o.directory, Log: c.log, Registry: registry,
		Order: func() (fleet.Order, bool) {
			st := c.store.State()
			return st.Order(), st.Cluster != ""
		},
		Leader: c.leader.Member,
		Dial: func(m fleet.Member) (sessions.Controller, error) {
			return rpc.DialController(m.GRPC, c.cfg.Controllers)
		},
		Routed: router.AwaitSession, Hopeless: o.hopeless,
		Record: func(kind fleet.EventKind, server fleet.ServerName, replica fleet.ReplicaID, message string) {
			c.events.Record(events.Event{Kind: kind, Server: server, Replica: replica, Message: message})
		},
	})
	if c.cfg.Sessions != nil {
		c.cfg.Sessions(o.Service)
	}
	return o
}

// hopeless says why waiting for a replica of a server is of no use, "" if it is of use.
func (o *owners) hopeless(name fleet.ServerName) string {
	for _, st := range o.status() {
		if st.Name == name && st.StartFailed {
			return st.Reason
		}
	}
	return ""
}

// sessionCalls is a router whose calls without a session get one where they need it.
type sessionCalls struct {
	*route.Router
	caller *sessions.Caller
}

// Call sends a call; see sessions.Caller.
func (c sessionCalls) Call(ctx context.Context, call fleet.Call) (fleet.CallResult, error) {
	return c.caller.Call(ctx, call)
}

// clientSessions implements mcphttp.Sessions.
type clientSessions struct {
	*sessions.Directory
	service *sessions.Service
}

// Open implements mcphttp.Sessions.
func (s clientSessions) Open(ctx context.Context, r fleet.SessionRequest) (fleet.SessionGiven, error) {
	return s.service.Open(ctx, r)
}

// The methods below return once the other controllers know it: the client's next request
// may go to one of them.

// End implements mcphttp.Sessions.
func (s clientSessions) End(id fleet.SessionID, until time.Time) {
	s.service.End(id, until)
	s.service.Settle(id)
}

// SetLevel implements mcphttp.Sessions.
func (s clientSessions) SetLevel(id fleet.SessionID, until time.Time, level string) {
	s.Directory.SetLevel(id, until, level)
	s.service.Settle(id)
}

// Subscribe implements mcphttp.Sessions.
func (s clientSessions) Subscribe(id fleet.SessionID, until time.Time, of fleet.Subscription) bool {
	defer s.service.Settle(id)
	return s.Directory.Subscribe(id, until, of)
}

// Unsubscribe implements mcphttp.Sessions.
func (s clientSessions) Unsubscribe(id fleet.SessionID, until time.Time, of fleet.Subscription) {
	s.Directory.Unsubscribe(id, until, of)
	s.service.Settle(id)
}

// SetListener implements mcphttp.Sessions.
func (s clientSessions) SetListener(id fleet.SessionID, until time.Time, controller fleet.LifeID, listens bool) {
	s.Directory.SetListener(id, until, controller, listens)
	s.service.Settle(id)
}

// service implements rpc.Controller.
type service struct {
	*load.Reporter
	*sessions.Service
}
