package api

import (
	"encoding/json"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Applied is the answer of PUT /api/v1/servers.
type Applied struct {
	Servers       []Server                              `json:"servers"`
	DefaultServer fleet.ServerName                      `json:"default_server"`
	Gateways      map[fleet.GatewayName]json.RawMessage `json:"gateways,omitempty"` // as of Servers
	Changes       []Change                              `json:"changes"`            // empty: nothing had to change
	Warnings      []FieldError                          `json:"warnings,omitempty"`
	ETag          string                                `json:"etag"`
	Index         uint64                                `json:"index"`
	Effect
}

// Written is the answer of writes to one server.
type Written struct {
	Server                // after the write
	Changes  []Change     `json:"changes"`            // empty: nothing had to change
	Warnings []FieldError `json:"warnings,omitempty"` // about the spec that was sent
	Effect
}

// NodeWritten is the answer of writes to one node.
type NodeWritten struct {
	Node
	Changes []Change `json:"changes"`
	Effect
}

// Effect describes the consequences of a write. Status is that of the HTTP answer:
// 200 if no replica starts or stops, 201 if a server was created, 202 if replicas
// start or stop.
type Effect struct {
	Status int             `json:"-"`
	DryRun bool            `json:"dry_run,omitempty"` // nothing was written; only changes and plan are set
	Plan   []PlannedAction `json:"plan,omitempty"`    // of a dry run
}

// DryRun is the answer of every write with ?dry_run=1.
type DryRun struct {
	DryRun   bool            `json:"dry_run"` // true
	Changes  []Change        `json:"changes"`
	Plan     []PlannedAction `json:"plan"`
	Warnings []FieldError    `json:"warnings,omitempty"`
}

// Change is what a write does to one server, node or gateway.
type Change struct {
	Server   fleet.ServerName  `json:"server,omitempty"`
	Node     fleet.NodeID      `json:"node,omitempty"`
	Gateway  fleet.GatewayName `json:"gateway,omitempty"`
	Kind     string            `json:"kind"`               // a desired.ChangeKind
	Revision fleet.Revision    `json:"revision,omitempty"` // after the change; of a deleted server its last
	Fields   []Difference      `json:"fields"`
	Reason   string            `json:"reason,omitempty"` // why the leader did it; "" for what users do
}

// Difference is one field in which two specs differ, named and written as in
// the fleet file. A secret shows as the mask on both sides.
type Difference struct {
	Field string          `json:"field"` // "env.TOKEN", "replicas"
	From  json.RawMessage `json:"from"`  // null: absent
	To    json.RawMessage `json:"to"`
}

// PlannedAction is an action that the leader would take, and why.
type PlannedAction struct {
	Action   string           `json:"action"` // one of the Plan constants
	Server   fleet.ServerName `json:"server"`
	Replica  fleet.ReplicaID  `json:"replica"` // "" for a start
	Node     fleet.NodeID     `json:"node"`    // "" if no node has room for it
	Revision fleet.Revision   `json:"revision"`
	Reason   string           `json:"reason"`
}

// The actions.
const (
	PlanStart = "start"
	PlanStop  = "stop"
)

// Woken is the answer of POST /api/v1/servers/{name}/wake.
type Woken struct {
	Server fleet.ServerName `json:"server"`
}

// ScaleRequest is the body of POST /api/v1/servers/{name}/scale of a server whose
// number of replicas is fixed.
type ScaleRequest struct {
	Replicas int `json:"replicas"`
}

// FloorRequest is the body of POST /api/v1/servers/{name}/scale of a server that scales
// by itself.
type FloorRequest struct {
	MinReplicas int    `json:"min_replicas"`
	TTL         string `json:"ttl,omitempty"` // a Go duration; "" if MinReplicas is 0, which removes the floor
}

// RolloutRequest is the body of POST /api/v1/servers/{name}/rollout.
type RolloutRequest struct {
	Action string `json:"action"` // one of the Rollout constants
}

// The actions of users on a rollout.
const (
	RolloutPause  = "pause"
	RolloutResume = "resume"
)

// RollbackRequest is the body of POST /api/v1/servers/{name}/rollback.
type RollbackRequest struct {
	Revision fleet.Revision `json:"revision,omitempty"` // 0: the newest kept one below the present
}

// DrainRequest is the body of POST /api/v1/nodes/{name}/drain.
type DrainRequest struct {
	Deadline string `json:"deadline,omitempty"` // a Go duration; "": 10m
}

// Revisions is the answer of GET /api/v1/servers/{name}/revisions.
type Revisions struct {
	Revisions []Revision `json:"revisions"` // newest first, at most ten
	Index     uint64     `json:"index"`
}

// Revision is one numbered template of a server.
type Revision struct {
	Revision  fleet.Revision  `json:"revision"`
	CreatedAt time.Time       `json:"created_at"`
	Current   bool            `json:"current"`
	Stable    bool            `json:"stable"` // the last that was fully rolled out
	Spec      json.RawMessage `json:"spec"`   // the part of the spec that a replica is made from
	// Changes are the differences from the kept revision before it. It is empty for
	// the oldest.
	Changes []Difference `json:"changes"`
}

// Controllers is the answer of GET /api/v1/controllers.
type Controllers struct {
	Controllers []Controller      `json:"controllers"` // by name
	Cluster     fleet.ClusterID   `json:"cluster"`     // "" before the cluster is founded
	Incarnation fleet.Incarnation `json:"incarnation"`
	Term        fleet.Epoch       `json:"term"`   // of the present or last leader
	Expect      int               `json:"expect"` // the least number of voters of the cluster
}

// Controller is one controller of the cluster, alive or not.
type Controller struct {
	Name    fleet.NodeID       `json:"name"` // "" if only its id is known
	ID      fleet.ControllerID `json:"id"`
	HTTP    string             `json:"http"` // host:port; "" if it is not alive
	Raft    string             `json:"raft"`
	Role    string             `json:"role"` // one of the Controller constants
	Leader  bool               `json:"leader"`
	Alive   bool               `json:"alive"` // as the answering controller's gossip knows it
	Version string             `json:"version"`
	// Problem says why the controller does not store desired state, such as a full
	// disk. Each controller knows its own problem, and the leader knows all.
	Problem string `json:"problem"`
}

// The roles of a controller.
const (
	ControllerVoter    = "voter"
	ControllerNonvoter = "nonvoter" // follows, and votes once it has been healthy for a while
	ControllerJoining  = "joining"  // seen, but no member of the cluster yet
)
