package desired

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Command is one entry of the log: exactly one of its pointers is set. Its
// JSON form is what the log holds.
type Command struct {
	Format int       `json:"format"` // the lowest that understands it; see Needs
	Time   time.Time `json:"time"`   // on the leader's clock, when it was proposed

	Lead       *LeadCommand  `json:"lead,omitempty"`
	PutServers *PutServers   `json:"put_servers,omitempty"`
	PutServer  *PutServer    `json:"put_server,omitempty"`
	Delete     *DeleteServer `json:"delete,omitempty"`
	Scale      *Scale        `json:"scale,omitempty"`
	Restart    *Restart      `json:"restart,omitempty"`
	Rollback   *Rollback     `json:"rollback,omitempty"`
	Node       *SetNode      `json:"node,omitempty"`
	RolledOut  *RolledOut    `json:"rolled_out,omitempty"`
	Catalogue  *SetCatalogue `json:"catalogue,omitempty"`
	Known      *SetKnown     `json:"known,omitempty"`
}

// LeadCommand begins a tenure. The first one ever founds the cluster.
type LeadCommand struct {
	Controller fleet.ControllerID `json:"controller"`
	Name       fleet.NodeID       `json:"name"`
	Cluster    fleet.ClusterID    `json:"cluster"` // fresh and random; used only to found the cluster
	Expect     int                `json:"expect"`  // used only to found the cluster
	// Incarnation is that of the leader's state; 0 before the cluster is founded.
	// A state of another one is not that of this log: see Foreign.
	Incarnation fleet.Incarnation `json:"incarnation,omitempty"`
}

// Match is what a write demands of what is stored. The zero value demands
// nothing.
type Match struct {
	ETags []string `json:"etags,omitempty"` // If-Match: one of them, or "*": anything stored
	New   bool     `json:"new,omitempty"`   // If-None-Match: *: nothing stored
}

// PutServers makes exactly these servers desired: what is not listed goes.
// With New it is refused once a user has written any server.
type PutServers struct {
	Servers       map[fleet.ServerName]fleet.Spec `json:"servers"`
	DefaultServer fleet.ServerName                `json:"default_server,omitempty"`
	Match         Match                           `json:"match,omitzero"`
}

// PutServer adds or replaces one server. An env value that is the mask keeps
// the stored value of its name; there being none is ErrInvalid.
type PutServer struct {
	Name  fleet.ServerName `json:"name"`
	Spec  fleet.Spec       `json:"spec"`
	Match Match            `json:"match,omitzero"`
}

// DeleteServer removes one server.
type DeleteServer struct {
	Name  fleet.ServerName `json:"name"`
	Match Match            `json:"match,omitzero"`
}

// Scale sets a server's target. It is not part of what the ETag covers.
type Scale struct {
	Name     fleet.ServerName `json:"name"`
	Replicas int              `json:"replicas"`
	Match    Match            `json:"match,omitzero"`
}

// Restart replaces all replicas of a server by new ones of the same revision.
type Restart struct {
	Name  fleet.ServerName `json:"name"`
	Key   string           `json:"key,omitempty"` // Idempotency-Key
	Match Match            `json:"match,omitzero"`
}

// Rollback returns a server to the template of a kept revision, under that
// revision's number. Counts and limits stay as they are.
type Rollback struct {
	Name     fleet.ServerName `json:"name"`
	Revision fleet.Revision   `json:"revision,omitempty"` // 0: the newest kept one below the present
	Key      string           `json:"key,omitempty"`
	Match    Match            `json:"match,omitzero"`
}

// SetNode changes what is intended for a node. It holds what was asked for, not
// what comes of it: of two that race the second must not undo the first with
// what was intended before either.
type SetNode struct {
	Name       fleet.NodeID `json:"name"`
	Verb       NodeVerb     `json:"verb"`
	DrainUntil time.Time    `json:"drain_until,omitzero"` // with Drain
}

// NodeVerb is what operators do to nodes.
type NodeVerb string

// The verbs.
const (
	Cordon   NodeVerb = "cordon"   // nothing new is placed there; a drain goes on
	Drain    NodeVerb = "drain"    // and what runs there moves, until a deadline
	Uncordon NodeVerb = "uncordon" // an ordinary node again
)

// RolledOut tells that all wanted replicas are of this revision and
// generation, and serve: the leader writes it once per rollout. It is ignored
// when the server has moved on.
type RolledOut struct {
	Name       fleet.ServerName `json:"name"`
	Revision   fleet.Revision   `json:"revision"`
	Generation uint64           `json:"generation"`
}

// SetCatalogue keeps what a revision offers. Of a revision that is not kept
// any more it is ignored.
type SetCatalogue struct {
	Name      fleet.ServerName `json:"name"`
	Revision  fleet.Revision   `json:"revision"`
	Catalogue *fleet.Catalogue `json:"catalogue"`
}

// SetKnown replaces the list of nodes that may be running replicas.
type SetKnown struct {
	Nodes []fleet.NodeID `json:"nodes"`
}

// Result is what became of a command.
type Result struct {
	Index   uint64 // of its entry
	Term    uint64
	State   *State   // after it
	Changes []Change // of a repeated idempotency key those of the first time
	// Repeated: the idempotency key was used before, and nothing was done.
	Repeated bool
	// Err is a refusal: it wraps one of fleet's errors, for users to read, and
	// the state is as it was. It is the same on every controller.
	Err error
}

// Change is what a command did to one server or node.
type Change struct {
	Server   fleet.ServerName `json:"server,omitempty"`
	Node     fleet.NodeID     `json:"node,omitempty"`
	Kind     ChangeKind       `json:"kind"`
	Revision fleet.Revision   `json:"revision,omitempty"` // after the change; of a removed server its last
	Fields   []Difference     `json:"fields,omitempty"`   // what differs in the spec, secrets masked; none when created or deleted
}

// ChangeKind tells the changes apart.
type ChangeKind string

// The kinds of change.
const (
	Created    ChangeKind = "created"
	Updated    ChangeKind = "updated" // new template, new revision
	Tuned      ChangeKind = "tuned"   // counts, limits, timeouts: applied in place
	Deleted    ChangeKind = "deleted"
	Scaled     ChangeKind = "scaled"
	Restarted  ChangeKind = "restarted"
	RolledBack ChangeKind = "rolled_back"
	Rolled     ChangeKind = "rolled_out"
	Cordoned   ChangeKind = "cordoned"
	Uncordoned ChangeKind = "uncordoned"
	Draining   ChangeKind = "draining"
	DefaultSet ChangeKind = "default_set" // Server is the new default server, "" for none; one field tells both
)

// Difference is one field in which two specs differ, as the fleet file names
// and writes it. A secret shows as the mask on both sides.
type Difference struct {
	Field string `json:"field"` // "env.TOKEN", "replicas"
	From  string `json:"from"`  // JSON; "" when it was absent
	To    string `json:"to"`
}
