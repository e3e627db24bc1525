package desired

import (
	"cmp"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Change is what a command did to one server, node or gateway.
type Change struct {
	Server   fleet.ServerName  `json:"server,omitempty"`
	Node     fleet.NodeID      `json:"node,omitempty"`
	Gateway  fleet.GatewayName `json:"gateway,omitempty"`
	Kind     ChangeKind        `json:"kind"`
	Revision fleet.Revision    `json:"revision,omitempty"` // after the change; of a removed server its last
	Fields   []Difference      `json:"fields,omitempty"`   // what differs in the spec, secrets masked; empty when created or deleted
	Reason   string            `json:"reason,omitempty"`   // why the leader did it; "" for what users do
}

// Subject returns the server, node or gateway that was changed.
func (c *Change) Subject() Subject {
	return Subject{Server: c.Server, Node: c.Node, Gateway: c.Gateway}
}

// ChangeKind says what was done.
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
	RolledOut  ChangeKind = "rolled_out"
	Cordoned   ChangeKind = "cordoned"
	Uncordoned ChangeKind = "uncordoned"
	Draining   ChangeKind = "draining"
	DefaultSet ChangeKind = "default_set" // Server is the new default server or ""; its one field has both

	GatewaySet      ChangeKind = "gateway_set" // made or changed
	GatewayRemoved  ChangeKind = "gateway_removed"
	FloorSet        ChangeKind = "floor_set"
	RolloutPaused   ChangeKind = "rollout_paused"
	RolloutResumed  ChangeKind = "rollout_resumed"
	RolloutHeld     ChangeKind = "rollout_held"     // by the leader, until someone resumes it
	RolloutAdvanced ChangeKind = "rollout_advanced" // to the next step of the canary
)

// kinds describes every kind of change.
var kinds = map[ChangeKind]struct {
	verb  string // as in a plan, before it is done
	moves bool   // replicas start or stop
}{
	Created:    {"create", true},
	Updated:    {"update", true},
	Tuned:      {"tune", false}, // but see MovesReplicas
	Deleted:    {"delete", true},
	Scaled:     {"scale", true},
	Restarted:  {"restart", true},
	RolledBack: {"roll back", true},
	RolledOut:  {"end rollout", false},
	Cordoned:   {"cordon", false},
	Uncordoned: {"uncordon", false},
	Draining:   {"drain", true},
	DefaultSet: {"set default", false},

	GatewaySet:      {"set gateway", false},
	GatewayRemoved:  {"remove gateway", false},
	FloorSet:        {"set floor", false}, // but see MovesReplicas
	RolloutPaused:   {"pause rollout", false},
	RolloutResumed:  {"resume rollout", true},
	RolloutHeld:     {"hold rollout", false},
	RolloutAdvanced: {"advance rollout", true},
}

// Verb names the kind as a plan does, before it is done: "roll back". A kind of a
// newer version names itself.
func (k ChangeKind) Verb() string { return cmp.Or(kinds[k].verb, string(k)) }

// MovesReplicas reports whether replicas start or stop because of the change.
func (c *Change) MovesReplicas() bool {
	if c.Kind == Tuned || c.Kind == FloorSet {
		return slices.ContainsFunc(c.Fields, func(d Difference) bool { return slices.Contains(countFields, d.Field) })
	}
	return kinds[c.Kind].moves
}

// countFields are the fields of a spec that say how many replicas there are.
var countFields = []string{"replicas", "autoscaling.min_replicas", "autoscaling.max_replicas", "warm"}

// Difference is one field in which two specs differ, as the fleet file names
// and writes it. A secret shows as the mask on both sides.
type Difference struct {
	Field string `json:"field"` // "env.TOKEN", "replicas"
	From  string `json:"from"`  // JSON; "" when it was absent
	To    string `json:"to"`
}
