// Package api has the Go types of the HTTP API: the JSON types that controllers
// answer with, the error codes, and a client for other programs, such as the
// mcpfleet command.
//
// Package httpapi answers with these types and the client decodes into them, so
// they are what is on the wire. Times are RFC 3339 with fractions of a second, and
// null if there is no time. Lists and maps are never null. The package starts no
// goroutine.
package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Servers is the answer of GET /api/v1/servers.
type Servers struct {
	Servers       []Server         `json:"servers"`        // by name
	DefaultServer fleet.ServerName `json:"default_server"` // as written, or the only one, or ""
	// Gateways are in the keys of the fleet file, with all defaults.
	Gateways map[fleet.GatewayName]json.RawMessage `json:"gateways,omitempty"`
	ETag     string                                `json:"etag"`  // of all that users wrote, without quotes
	Index    uint64                                `json:"index"` // for ?index= of the next read
}

// Server is a deployed server and its status.
type Server struct {
	Name    fleet.ServerName `json:"name"`
	State   fleet.State      `json:"state"`
	Reason  string           `json:"reason"`  // the state in words; after a failure with its last stderr
	Desired int              `json:"desired"` // replicas wanted now
	// DesiredBy says who asked for that number: one of the DesiredBy constants.
	DesiredBy string `json:"desired_by"`
	Ready     int    `json:"ready"`
	Spares    int    `json:"spares"` // warm ones that are ready, beside Ready
	// Sessions is set for a server whose sessions have replicas to themselves. Desired is
	// their number.
	Sessions *Sessions `json:"sessions,omitempty"`
	Restarts int       `json:"restarts"`
	// Ongoing are the calls at replicas. Queued are those that wait: at all controllers
	// as the leader knows them, of a stale read those at the controller that answers.
	Ongoing  int            `json:"ongoing"`
	Queued   int            `json:"queued"`
	Revision fleet.Revision `json:"revision"`
	// Generation counts the restarts by hand.
	Generation uint64 `json:"generation"`
	// Stable is the last revision that was fully rolled out. 0: there is none yet.
	Stable  fleet.Revision `json:"stable"`
	Rollout *Rollout       `json:"rollout"` // null if no rollout is under way
	// Failed is the revision that was rolled back last, until the next update. It is
	// null if there is none.
	Failed *FailedRevision `json:"failed"`
	// Autoscaling is null if the number of replicas is fixed.
	Autoscaling *Autoscaling `json:"autoscaling"`
	// Era and Protocol are the era and the version of MCP that the present revision was
	// last found to speak. They are empty while that is not known.
	Era      fleet.Era       `json:"era"`
	Protocol string          `json:"protocol"`
	Spec     json.RawMessage `json:"spec"` // as written, an object, every env value masked
	// LastEnded are the last ended replicas, newest first, at most ten.
	LastEnded []Ended `json:"last_ended"`
	ETag      string  `json:"etag"`  // of what users wrote, without quotes; "" once it is deleted
	Index     uint64  `json:"index"` // of the last change of its desired state; for ?index=
}

// Sessions are the sessions of a server.
type Sessions struct {
	Open    int `json:"open"`    // that have a replica
	Waiting int `json:"waiting"` // for one
	Max     int `json:"max"`
}

// The values of Server.DesiredBy: who asked for the number of replicas.
const (
	DesiredBySpec        = "spec"
	DesiredByScale       = "scale" // a user, since the spec was written
	DesiredByAutoscaling = "autoscaling"
	DesiredBySessions    = "sessions"
)

// Autoscaling is the bounds of a server that scales by itself.
type Autoscaling struct {
	MinReplicas int    `json:"min_replicas"`
	MaxReplicas int    `json:"max_replicas"`
	Floor       *Floor `json:"floor"` // null if nobody has asked for one, or it has expired
}

// Floor is a least number of replicas that a user has asked for.
type Floor struct {
	MinReplicas int       `json:"min_replicas"`
	Until       time.Time `json:"until"`
}

// Rollout is the replacement of one revision, or generation, by the next.
type Rollout struct {
	From      fleet.Revision `json:"from"` // 0: this is the first one
	To        fleet.Revision `json:"to"`
	StartedAt time.Time      `json:"started_at"`
	// Deadline is when the rollout is rolled back at the earliest for want of progress.
	Deadline time.Time `json:"deadline"`
	Paused   bool      `json:"paused"` // by a user
	// Held says why the rollout waits until somebody resumes it. It is "" if it does
	// not.
	Held    string `json:"held"`
	Checked bool   `json:"checked"` // the new revision has passed its checks
	// Warning says how the tools have changed so that callers may break. It is "" if
	// they have not, or were not compared yet.
	Warning string `json:"warning"`
	// Step is how many of the Steps of the canary have been passed. Share is the percent
	// of the calls that the new revision gets; null if that depends on its replicas alone.
	Step  int      `json:"step"`
	Steps int      `json:"steps"`
	Share *float64 `json:"share"`
}

// FailedRevision is a revision that was rolled back because it did not serve.
type FailedRevision struct {
	Revision fleet.Revision `json:"revision"`
	Reason   string         `json:"reason"`
	At       time.Time      `json:"at"`
}

// Ended is a replica that ended, with its reason and its last stderr lines.
type Ended struct {
	ID        fleet.ReplicaID `json:"id"`
	Revision  fleet.Revision  `json:"revision"`
	Node      fleet.NodeID    `json:"node"`
	Phase     string          `json:"phase"` // STOPPED or FAILED
	Reason    string          `json:"reason"`
	Exit      *Exit           `json:"exit"` // null if no process ran
	StartedAt *time.Time      `json:"started_at"`
	ReadyAt   *time.Time      `json:"ready_at"`
	EndedAt   *time.Time      `json:"ended_at"`
	Log       []string        `json:"log"`
}

// Exit says how a process ended.
type Exit struct {
	Code      int    `json:"code"`   // -1 when a signal ended it
	Signal    string `json:"signal"` // "SIGKILL", or ""
	OOM       bool   `json:"oom"`    // probably killed because memory ran out
	Requested bool   `json:"requested"`
}

// Replicas is the answer of GET /api/v1/replicas.
type Replicas struct {
	Replicas []Replica `json:"replicas"`
}

// Replica is one running copy of a server, as its worker last reported it.
type Replica struct {
	ID          fleet.ReplicaID  `json:"id"`
	Server      fleet.ServerName `json:"server"`
	Revision    fleet.Revision   `json:"revision"`
	Node        fleet.NodeID     `json:"node"`
	Phase       string           `json:"phase"`
	Reason      string           `json:"reason"`
	Unhealthy   bool             `json:"unhealthy"`
	PID         *int             `json:"pid"`          // null without a process
	ContainerID *string          `json:"container_id"` // null without a container
	Ongoing     int              `json:"ongoing"`
	TotalCalls  uint64           `json:"total_calls"`
	StartedAt   *time.Time       `json:"started_at"`
	ReadyAt     *time.Time       `json:"ready_at"`
	Spare       bool             `json:"spare"` // started ahead of need; it gets no calls
	// Session names the session that has the replica to itself. It is no session id of a
	// client. "": the replica is shared, or a spare.
	Session   string    `json:"session,omitempty"`
	ColdStart ColdStart `json:"cold_start"`
	Calls     Calls     `json:"calls"`
	Usage     *Usage    `json:"usage"` // null while it is not known
}

// ColdStart is how long each phase of a replica's start took, in seconds. A phase that
// has not ended, or that there was not, is 0.
type ColdStart struct {
	Place     float64 `json:"place"` // the wait for its turn at the node
	Pull      float64 `json:"pull"`
	Create    float64 `json:"create"`
	Start     float64 `json:"start"`
	Handshake float64 `json:"handshake"`
	List      float64 `json:"list"`
}

// Calls counts the calls of a replica that have ended, by their outcome at its worker.
type Calls struct {
	OK       uint64 `json:"ok"`
	IsError  uint64 `json:"is_error"`  // results with isError
	Error    uint64 `json:"error"`     // JSON-RPC errors and invalid replies
	TimedOut uint64 `json:"timed_out"` // no answer within the deadline
	Lost     uint64 `json:"lost"`      // inside the replica when it ended
	// Latency counts the answered calls by their time, in the buckets of
	// fleet.LatencyBounds and one more for longer ones. It is empty before the first.
	Latency []uint64 `json:"latency"`
}

// Usage is what a replica uses at present.
type Usage struct {
	CPUs   float64 `json:"cpus"`   // cores
	Memory int64   `json:"memory"` // bytes
}

// Nodes is the answer of GET /api/v1/nodes.
type Nodes struct {
	Nodes []Node `json:"nodes"`
}

// Node is one controller or worker.
type Node struct {
	Name     fleet.NodeID      `json:"name"`
	Role     fleet.Role        `json:"role"`
	PID      int               `json:"pid"`
	Zone     string            `json:"zone"`
	Labels   map[string]string `json:"labels"`
	GRPC     string            `json:"grpc"` // host:port
	HTTP     string            `json:"http"` // host:port, "" for a worker
	Gossip   string            `json:"gossip"`
	Life     fleet.LifeID      `json:"life"`
	State    string            `json:"state"`    // one of the Node constants
	Reason   string            `json:"reason"`   // of the state, in words; may be empty
	Leader   bool              `json:"leader"`   // the controller that leads
	Cordoned bool              `json:"cordoned"` // an operator lets no new replicas start there
	// DrainUntil is when the remaining replicas of a drained node are stopped. It
	// is null if the node is not drained.
	DrainUntil *time.Time `json:"drain_until"`
	// Runtimes are those that a worker offers: podman, process or both. They are
	// empty for a controller.
	Runtimes  []string  `json:"runtimes"`
	Runtime   string    `json:"runtime"` // the runtimes with commas between them
	Version   string    `json:"version"`
	Replicas  int       `json:"replicas"`
	Capacity  Resources `json:"capacity"`
	Allocated Resources `json:"allocated"`
}

// The states of a node.
const (
	NodeReady       = "READY"
	NodeJoining     = "JOINING"     // has not reported yet
	NodeDegraded    = "DEGRADED"    // a worker that starts no replicas, or a controller whose disk fails or that lags; see its reason
	NodeDraining    = "DRAINING"    // is stopping, or was drained by an operator; gets no new replicas
	NodeUnreachable = "UNREACHABLE" // its replicas get no calls; it will soon be lost
	NodeLost        = "LOST"        // its replicas are replaced elsewhere
)

// Resources is an amount of what a node has.
type Resources struct {
	CPUs   float64 `json:"cpus"`
	Memory int64   `json:"memory"` // bytes
	PIDs   int64   `json:"pids"`
	// Custom are countable resources by name, such as gpu.
	Custom map[string]int64 `json:"custom"`
}

// Ready is the answer of GET /readyz, with status 200 or 503.
type Ready struct {
	Ready bool `json:"ready"`
	// Reason says why the controller itself is not ready. It is "" if it is ready.
	Reason  string        `json:"reason,omitempty"`
	Servers []ServerReady `json:"servers"`
}

// ServerReady is the readiness of one server.
type ServerReady struct {
	Name    fleet.ServerName `json:"name"`
	State   fleet.State      `json:"state"`
	Reason  string           `json:"reason"`
	Desired int              `json:"desired"`
	Ready   int              `json:"ready"`
}

// Tools is the answer of GET /tools and GET /{server}/tools.
type Tools struct {
	Tools []Tool `json:"tools"`
	// Unavailable are the servers whose tools are not known yet, and missing from
	// the list.
	Unavailable []Unavailable `json:"unavailable,omitempty"`
}

// Tool is one tool, with the members that mcpfleet uses. Raw values, and all other
// members on the wire, are as the server sent them: inputSchema, _meta, icons,
// execution and others.
type Tool struct {
	Name         string           `json:"name"` // as POST /call on the same path takes it
	Title        string           `json:"title,omitempty"`
	Description  *string          `json:"description"`
	InputSchema  json.RawMessage  `json:"input_schema"`
	OutputSchema json.RawMessage  `json:"output_schema,omitempty"`
	Annotations  json.RawMessage  `json:"annotations,omitempty"`
	Server       fleet.ServerName `json:"server"`

	raw json.RawMessage // all of it, with members that have no field here
}

// UnmarshalJSON implements json.Unmarshaler. The name and the server are set by the
// controller. Everything else is set by the MCP server: a title or description of
// the wrong type is ignored.
func (t *Tool) UnmarshalJSON(raw []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return err
	}
	*t = Tool{
		InputSchema: members["input_schema"], OutputSchema: members["output_schema"], Annotations: members["annotations"],
		raw: bytes.Clone(raw),
	}
	for key, field := range map[string]any{"name": &t.Name, "server": &t.Server} {
		if value, given := members[key]; given {
			if err := json.Unmarshal(value, field); err != nil {
				return fmt.Errorf("%s of a tool: %w", key, err)
			}
		}
	}
	t.Title, _ = text(members["title"])
	if description, ok := text(members["description"]); ok {
		t.Description = &description
	}
	return nil
}

// text returns the value of a JSON string, and whether raw is one.
func text(raw json.RawMessage) (string, bool) {
	var value *string
	if json.Unmarshal(raw, &value) != nil || value == nil {
		return "", false
	}
	return *value, true
}

// MarshalJSON implements json.Marshaler. A decoded tool is encoded with all members
// that it had.
func (t Tool) MarshalJSON() ([]byte, error) {
	if t.raw != nil {
		return t.raw, nil
	}
	type fields Tool
	return json.Marshal(fields(t))
}

// Unavailable is a server whose tools are not known, and why.
type Unavailable struct {
	Server fleet.ServerName `json:"server"`
	Reason string           `json:"reason"`
}

// CallRequest is the body of POST /call and POST /{server}/call.
type CallRequest struct {
	ToolName string          `json:"tool_name,omitempty"` // "": the server's default tool
	ToolArgs json.RawMessage `json:"tool_args"`           // an object
}

// CallResponse is the answer of POST /call and POST /{server}/call.
type CallResponse struct {
	Result json.RawMessage `json:"result"` // the MCP CallToolResult
}
