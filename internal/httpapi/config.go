package httpapi

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/leader"
)

// Catalogue has what servers offer at each endpoint. Errors are for callers to read, and wrap one
// of fleet's. All methods may be called at once.
type Catalogue interface {
	// Tools returns the JSON answer of GET /tools. Nobody changes it.
	Tools(scope fleet.Scope) ([]byte, error)
	Resolve(scope fleet.Scope, tool string) (fleet.Tool, error)
	// Default returns the tool of a call that names no tool.
	Default(scope fleet.Scope) (fleet.Tool, error)
	// Subscribe reports changes of the above; see notice.Board. An error that has a
	// method Wakes() fleet.ServerName goes away once that server, which is idle, has
	// been started.
	Subscribe() (look <-chan struct{}, cancel func())
}

// Router sends a call to a replica. An error wraps one of fleet's or
// context.Canceled, and may have a method RetryAfter() time.Duration.
type Router interface {
	// Admit returns an error if calls of a server are refused now whatever they
	// are. The name is empty if the request does not say which server it is for.
	Admit(server fleet.ServerName) error
	Call(ctx context.Context, c fleet.Call) (fleet.CallResult, error)
	// Await waits until the server has a replica that takes calls, like a call that
	// came at since. Waiting calls have an idle server started.
	Await(ctx context.Context, server fleet.ServerName, timeout time.Duration, since time.Time) error
}

// Fleet is the status of the fleet as this controller knows it. Callers own what
// it returns. All methods may be called at once.
type Fleet interface {
	// Servers returns the servers of a state with their status, by name. It adds
	// those that are no longer desired but still run, as DELETING with an empty
	// ETag. A server that was written a moment ago is DEPLOYING or UPDATING: its
	// last known status must not be taken for that of what was just written.
	Servers(st *desired.State) []api.Server
	Replicas() []api.Replica // those that have not ended
	// Nodes returns the living controllers and workers with what operators intend
	// for them, and the nodes that were cordoned and are gone.
	Nodes() []api.Node
	Ready() api.Ready
}

// Desired is desired state. All methods may be called at once.
type Desired interface {
	// State returns the state that this controller knows. It is never nil and
	// never changed.
	State() *desired.State
	// Read is linearizable: the state is no older than any answer given before.
	// The error wraps fleet.ErrNotLeader on any controller but the leader.
	Read(ctx context.Context) (*desired.State, error)
	// Propose returns once a majority has the command on disk, or at once if the
	// command changes nothing. It reads the state first, as Read does. The error
	// wraps fleet.ErrNotLeader (nothing was written), or fleet.ErrOutcomeUnknown
	// (it may have been), or is the refusal that Result.Err has.
	Propose(ctx context.Context, c desired.Command) (desired.Result, error)
	// Problem says what keeps this controller from storing desired state, such as
	// a full disk. It returns "" if nothing does.
	Problem() string
	// Subscribe reports changes of State and of the leader; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// Leader knows which controller leads. All methods may be called at once.
type Leader interface {
	// Find returns the leader. The error wraps fleet.ErrNoLeader if no leader is
	// known, or its address is not known yet.
	Find() (leader.Leader, error)
	// Wait returns nil once the leader satisfies a condition, or the cause of
	// ctx's end.
	Wait(ctx context.Context, condition func(leader.Leader) bool) error
}

// Events are the latest events. All methods may be called at once.
type Events interface {
	// Since returns the events after an id, oldest first. The id "" is before all
	// of them. gap reports whether events may be missing.
	Since(id string) (list []api.Event, gap bool)
	Last() string // "" before the first
	// Subscribe reports new events; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// Controllers are the members of the cluster, named by name or id. All methods
// may be called at once. Errors wrap fleet.ErrUnknownController, or
// fleet.ErrNotLeader if nothing was done because this is not the leader.
type Controllers interface {
	List(ctx context.Context) (api.Controllers, error) // on any controller, as known there
	Remove(ctx context.Context, name string) error
	Transfer(ctx context.Context, name string) error
}

// Logs reads the stderr of replicas, those that have ended too: the last tail
// lines (0: all that are kept) and, with follow, further ones until ctx or the
// replica ends. It calls on from one goroutine, and not after it has returned. The
// first call is without lines, as soon as the replica is found. The error wraps
// fleet.ErrUnknownReplica if there is no such replica.
type Logs interface {
	Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func([]fleet.LogLine) error) error
}

// Config is what an API needs.
type Config struct {
	Self fleet.NodeID // this controller's name

	Catalogue   Catalogue
	Router      Router
	Fleet       Fleet
	Logs        Logs
	Desired     Desired
	Leader      Leader
	Events      Events
	Controllers Controllers
	// Stale says why Desired.State may lack recent writes. It returns "" if it has
	// all.
	Stale func() string
	// Preview returns what the leader would do if this state were desired. The
	// error wraps fleet.ErrNotLeader on any controller but the leader.
	Preview func(ctx context.Context, st *desired.State) ([]api.PlannedAction, error)
	// Wake makes the leader start the idle replicas of a server. It does not block.
	Wake func(server fleet.ServerName)
	// Backup writes a state in the form of backups, secrets included.
	Backup func(w io.Writer, st *desired.State) error
	// Stopping is closed when the controller takes no more requests. Requests that
	// wait for changes, events or a leader are then answered at once, and logs that
	// are followed end. Nil: never.
	Stopping <-chan struct{}
	// Transport sends requests to the HTTP API of the leader. Nil: plain HTTP.
	Transport http.RoundTripper
	// LeaderWait is how long a request waits for a leader; 0: DefaultLeaderWait.
	LeaderWait time.Duration
	Gatherer   prometheus.Gatherer // of GET /metrics; nil: no such route
}
