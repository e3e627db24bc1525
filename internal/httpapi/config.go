package httpapi

import (
	"context"
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Catalogue is what servers offer. Server "" is the root, where the names of
// all servers' tools are merged. Errors are for callers to read, and wrap one
// of fleet's. All methods may be called at once.
type Catalogue interface {
	// Tools returns the JSON answer of GET /tools; it is not changed.
	Tools(server fleet.ServerName) ([]byte, error)
	Resolve(server fleet.ServerName, tool string) (fleet.Tool, error)
	// Default finds the tool of a call that names none.
	Default(server fleet.ServerName) (fleet.Tool, error)
}

// Router sends a call to a replica. An error wraps one of fleet's or
// context.Canceled, and may have a method RetryAfter() time.Duration.
type Router interface {
	Call(ctx context.Context, c fleet.Call) (fleet.CallResult, error)
}

// Fleet is how the fleet is doing, as this controller knows it. What it returns
// belongs to the caller. All methods may be called at once.
type Fleet interface {
	// Servers are the servers of a state with how they are doing, by name, and
	// those that are no longer desired but still run, as DELETING with an empty
	// ETag. A server that was written a moment ago is there too, as DEPLOYING
	// or UPDATING: what is known of how it does must not be taken for news of
	// what was just written.
	Servers(st *desired.State) []api.Server
	Replicas() []api.Replica // those that have not ended
	// Nodes are the living controllers and workers, and the nodes that were
	// cordoned and are gone, with what is intended for them.
	Nodes() []api.Node
	Ready() api.Ready
}

// Desired is desired state. All methods may be called at once.
type Desired interface {
	// State is what this controller knows. Never nil, never changed.
	State() *desired.State
	// Read is linearizable: no older than any answer given before it began.
	// Only the leader can: else the error wraps fleet.ErrNotLeader.
	Read(ctx context.Context) (*desired.State, error)
	// Propose returns once a majority has the command on disk. The error wraps
	// fleet.ErrNotLeader: nothing was written, fleet.ErrOutcomeUnknown: perhaps,
	// or tells why the command was refused, as Result.Err does.
	Propose(ctx context.Context, c desired.Command) (desired.Result, error)
	// Leader says who leads now: this controller, or the one whose HTTP API is
	// at host:port. ok is false when nobody does, as far as is known.
	Leader() (self bool, http string, ok bool)
	// Problem says what keeps this controller from storing desired state, as a
	// disk that is full; "" if nothing does.
	Problem() string
	// Stale says why State may lack what was written lately, "" if it does not.
	Stale() string
	// Subscribe tells that State, or Leader, may have changed; see
	// notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// Events are what happened lately. All methods may be called at once.
type Events interface {
	// Since returns what came after an id, oldest first, "" being before all;
	// gap: something may be missing.
	Since(id string) (list []api.Event, gap bool)
	Last() string // "" before the first
	// Subscribe tells of new events; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// Controllers are the members of the cluster. A name may be an id, too. All
// methods may be called at once. Errors wrap fleet.ErrUnknownController, or
// fleet.ErrNotLeader when nothing was done, as only the leader can.
type Controllers interface {
	List(ctx context.Context) (api.Controllers, error) // anywhere, as known here
	Remove(ctx context.Context, name string) error
	Transfer(ctx context.Context, name string) error
}

// Logs reads what replicas write to stderr: the last tail lines (0: all that
// are kept) and, with follow, those to come until ctx or the replica ends. It
// calls on from one goroutine, not after it has returned. The error wraps
// fleet.ErrUnknownReplica if there is no such replica.
type Logs interface {
	Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func(fleet.LogLine)) error
}

// Config is what an API is made of.
type Config struct {
	Self fleet.NodeID // this controller's name

	Catalogue   Catalogue
	Router      Router
	Fleet       Fleet
	Logs        Logs
	Desired     Desired
	Events      Events
	Controllers Controllers
	// Preview is what the leader would do were this state desired. Its error
	// wraps fleet.ErrNotLeader where nobody can tell.
	Preview func(ctx context.Context, st *desired.State) ([]api.PlannedAction, error)
	// Wake has a leader start what rests of a server. It does not block.
	Wake func(server fleet.ServerName)
	// Backup writes a state in the form of backups, secrets included.
	Backup func(w io.Writer, st *desired.State) error
	// Stopping is closed when the controller takes no more requests: who waits for
	// changes, events or a leader is then answered at once. Nil: never.
	Stopping <-chan struct{}
	// Leader sends requests to the HTTP API of the leader. Nil: plain HTTP.
	Leader   http.RoundTripper
	Gatherer prometheus.Gatherer // of GET /metrics; nil: there is none
}
