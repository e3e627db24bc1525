// Package mcphttp serves MCP Streamable HTTP: at /{server}/mcp one server, at /mcp all
// of them merged, and at /g/{name}/mcp a gateway. At /sse instead of /mcp it serves the deprecated
// HTTP+SSE transport, if it is told to.
//
// Clients of both eras use the same endpoints. A modern request carries its version in
// _meta and is answered on its own. A legacy client begins with initialize, and gets a
// session id that any controller can open, because all that is known of the session is
// sealed in it. Neither is bound to the era of the server behind: this package supplies
// what the era of the client demands, and takes away what that of the server does not
// know.
//
// Every error is a JSON-RPC error with the id of the request, whatever the status is.
// Params and results pass through as bytes; what is added or taken away is spliced.
//
// The package leaves to others what endpoints offer (Offers), where requests go (Router),
// what workers keep for clients that are away (Streams), and what is known of sessions
// besides their ids (Sessions). A request runs in the
// goroutine that net/http gave it. A call that becomes a stream of events has a second
// one, which ends before the request does.
package mcphttp

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/lookup"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// Offers has what endpoints offer. All methods may be called at once.
type Offers interface {
	// View returns what an endpoint offers now. Errors are for clients to read, and wrap
	// one of fleet's. One with a method Wakes() fleet.ServerName goes away once that
	// server, which is idle, has been started.
	View(scope fleet.Scope) (View, error)
	// Subscribe reports changes of views; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// View is what an endpoint offers at one moment. It never changes, and all that its
// methods return is shared. Errors are as those of Offers.
type View interface {
	// Info describes the endpoint. One that merges servers has no ServerInfo.
	Info() *fleet.ViewInfo
	// List returns the answer to a list method, such as tools/list, as clients of an era
	// see it. It is nil if there is no such list.
	List(method string, modern bool) *fleet.ViewList
	Tool(name string) (fleet.Destination, error)
	Prompt(name string) (fleet.Destination, error)
	// Resources returns where a resource may be, at least one, the most likely first. Each
	// is to be asked if the one before it has no such resource.
	Resources(uri string) ([]fleet.Destination, error)
	// Ref returns where a completion goes, given the type and the name or URI of its ref.
	Ref(kind, name string) (fleet.Destination, error)
	// At returns a server of the endpoint, if it offers anything.
	At(server fleet.ServerName) (fleet.Destination, bool)
	// Servers returns the servers whose offers are known.
	Servers() []fleet.ServerName
	// URI returns the URI by which clients of the endpoint know a resource of a server.
	URI(server fleet.ServerName, own string) string
	// Only returns the server of an endpoint that has only one. It gets requests whose
	// methods are not known here.
	Only() (fleet.Destination, bool)
}

// Router sends a call to a replica. An error wraps one of fleet's or context.Canceled,
// and may have a method RetryAfter() time.Duration. All methods may be called at once.
type Router interface {
	// Admit returns an error if calls of a server are refused now whatever they are.
	Admit(server fleet.ServerName) error
	Call(ctx context.Context, c fleet.Call) (fleet.CallResult, error)
	// Await waits until the server has a replica that takes calls, like a call that came
	// at since.
	Await(ctx context.Context, server fleet.ServerName, timeout time.Duration, since time.Time) error
}

// Streams are the streams of calls that workers keep, so that clients can come back to
// the answers of their requests. Errors wrap one of fleet's. All methods may be called at
// once.
type Streams interface {
	// ReadStream calls on with the messages of a stream until its reply. Before that it
	// fails with fleet.ErrUnknownStream, fleet.ErrWorkerLost, which may be over in a moment,
	// or fleet.ErrStreamTaken if another reader comes.
	ReadStream(ctx context.Context, worker fleet.LifeID, r fleet.ReadRequest, on func([]fleet.Message) error) error
	// Answer passes on a client's answer to a request. It fails with fleet.ErrNotAsked if
	// nobody waits for it.
	Answer(ctx context.Context, worker fleet.LifeID, a fleet.Answer) error
	// CancelCalls cancels the call of a stream, whichever worker has it. The server is told
	// the reason; "" stands for none.
	CancelCalls(ctx context.Context, stream fleet.StreamID, owner, reason string)
	// SendToSession passes a client's message to the replica of its session. It fails with
	// fleet.ErrUnknownReplica or fleet.ErrNotAsked.
	SendToSession(ctx context.Context, session fleet.SessionID, replica fleet.ReplicaID, message []byte) error
	// LifeOf returns the life of a node's worker.
	LifeOf(node fleet.NodeID) fleet.LifeID
}

// Sessions has what is known of sessions besides their ids, on all controllers, and gives
// them replicas. A change returns once the other controllers have been told, because the
// client's next request may go to any of them. All methods may be called at once.
type Sessions interface {
	Ended(id fleet.SessionID) bool
	End(id fleet.SessionID, until time.Time)
	// OnEnd has a function called, which must not block, with each session that ends at any
	// controller.
	OnEnd(ended func(fleet.SessionID))
	// Level is that of the log messages that a session asked for, "" if it did not.
	Level(id fleet.SessionID) string
	SetLevel(id fleet.SessionID, until time.Time, level string)
	// Subscribe reports false if the session has too many subscriptions.
	Subscribe(id fleet.SessionID, until time.Time, s fleet.Subscription) bool
	Unsubscribe(id fleet.SessionID, until time.Time, s fleet.Subscription)
	Subscriptions(id fleet.SessionID) []fleet.Subscription
	// SetListener says that a controller has the newest stream on which a session's client
	// waits for what belongs to no request, or that it has none any more. Listener returns
	// the controller that has it, "" if none is known.
	SetListener(id fleet.SessionID, until time.Time, controller fleet.LifeID, listens bool)
	Listener(id fleet.SessionID) fleet.LifeID
	// Opened returns the servers at which a session has, or had, a replica to itself.
	Opened(id fleet.SessionID) []fleet.ServerName
	// Changed posts a notice when subscriptions, or Opened, may have changed; see notice.Board.
	Changed() (look <-chan struct{}, cancel func())
	// Touch says that a session is used.
	Touch(id fleet.SessionID, until time.Time)
	// Open gives a session a replica of a server, unless it has one. Its error wraps
	// fleet.ErrSessionLost if the session has ended, or another one of fleet's.
	Open(ctx context.Context, r fleet.SessionRequest) (fleet.SessionGiven, error)
}

// News tells of changed resources. Listen may be called at any time.
type News interface {
	// Listen calls on, which must not block, with news of the resources that set last
	// named, by server. set returns a channel that is closed, after a few seconds at most,
	// when no news of them is missed any more. cancel ends that.
	Listen(on func(fleet.News)) (set func(wants map[fleet.ServerName][]string) (inEffect <-chan struct{}), cancel func())
}

// Sealer makes tokens that nobody else can read or forge. A token of one purpose cannot
// be opened for another. All methods may be called at once.
type Sealer interface {
	Seal(purpose string, text []byte) (token string, err error)
	// SealName is Seal for names: tokens of the same text are equal, as long as the key is
	// the same.
	SealName(purpose string, text []byte) (token string, err error)
	Open(purpose, token string) ([]byte, error)
}

// Config is what a Front needs.
type Config struct {
	Offers   Offers
	Router   Router
	Streams  Streams
	News     News
	Sessions Sessions
	Sealer   Sealer
	// ResumeWindow is how long the answer to a request of a legacy client is kept while the
	// client is away; 0: fleet.DefaultWindow.
	ResumeWindow time.Duration
	// ParkWindow is how long a call waits for what a modern client was asked; 0: 10 min.
	ParkWindow time.Duration
	// LegacySSE offers the deprecated HTTP+SSE transport, too. Self is this life of the
	// controller, and Peer returns where another one can be reached, host:port, or "".
	LegacySSE bool
	Self      fleet.LifeID
	Peer      func(fleet.LifeID) string
	// Version is that of mcpfleet, which names itself where several servers are merged.
	Version string
	// Incomplete returns why this controller may lack what the rest of the fleet knows, or
	// "". Nil: never.
	Incomplete func() string
	// Leaving is closed when the controller is told to stop. Streams that wait for
	// changes end then, so that their clients come back elsewhere. Nil: never.
	Leaving  <-chan struct{}
	Log      *slog.Logger
	Registry prometheus.Registerer // nil: no metrics
}

// Front is the front of native MCP of one controller.
type Front struct {
	cfg     Config
	log     *slog.Logger
	lookup  lookup.Waiter
	metrics *metrics
	streams directory
	calls   running
	owned   owned
	pipes   pipes
	peers   *http.Client
	self    []byte // our own serverInfo, raw JSON
}

// New returns the front of a controller.
func New(cfg Config) *Front {
	cfg.ParkWindow = cmp.Or(cfg.ParkWindow, parkWindow)
	self := append(mcp.AppendString([]byte(`{"name":"mcpfleet","version":`), cfg.Version), '}')
	f := &Front{
		cfg: cfg, self: self, log: cfg.Log.With("component", "mcp"), metrics: newMetrics(cfg.Registry),
		peers:  newRelay(),
		lookup: lookup.Waiter{Changed: cfg.Offers.Subscribe, Await: cfg.Router.Await},
	}
	cfg.Sessions.OnEnd(f.calls.endAll)
	return f
}

// Routes returns all routes of the front.
func (f *Front) Routes() []web.Route {
	var routes []web.Route
	for _, pattern := range [...]string{"/mcp", "/{server}/mcp", "/g/{gateway}/mcp"} {
		for _, route := range [...]web.Route{
			web.Post(pattern, web.Call, f.servePost), web.Get(pattern, web.Call, f.serveGet), web.Delete(pattern, web.Call, f.serveDelete),
		} {
			route.Errors = errorBody
			routes = append(routes, route)
		}
	}
	return append(routes, f.sseRoutes()...)
}

// scopeOf returns the endpoint of a request.
func scopeOf(r *http.Request) fleet.Scope {
	if name := r.PathValue("gateway"); name != "" {
		return fleet.GatewayScope(name)
	}
	return fleet.Scope(r.PathValue("server"))
}
