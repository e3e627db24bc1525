// Package desired has desired state as plain values: the state that users,
// operators and the leader write, and the commands that change it. Package store
// replicates the commands through raft. Nothing here depends on raft, so a log
// can be replayed, dry-run and tested without a cluster.
//
// Applying is deterministic: the same commands give the same state, byte for
// byte, on every controller and in every replay. No clock, random number or map
// order takes part; times and ids come in commands. A State is never changed
// once it is made: Apply returns a new one that shares the unchanged parts, so
// states may be read from anywhere without a lock.
//
// Observed state is never part of it. The package does no I/O and starts no
// goroutine.
package desired

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Format is the newest format of commands and snapshots that this version
// understands and writes. Format 2 has more fields of a spec; see specNeeds.
// Format 3 has autoscaling and updates: further fields of a spec, and commands of
// the leader and of users about targets, floors and rollouts. Format 4 has what native
// MCP needs: eras, in specs and catalogues, catalogues with more than tools, and keys
// for session ids.
const Format = 4

// Bounds of the state.
const (
	MaxRevisions = 10  // of a server, including the present, the stable and the failed one
	MaxKeys      = 512 // idempotency keys
)

// State is desired state as of one entry of the log. Its JSON form is that of
// snapshots and backups.
type State struct {
	Format      int               `json:"format"`  // the lowest that understands it
	Cluster     fleet.ClusterID   `json:"cluster"` // "" before the first tenure
	Incarnation fleet.Incarnation `json:"incarnation"`
	Expect      int               `json:"expect"` // the least number of voters of the cluster
	Lead        Lead              `json:"lead"`   // of the present or last tenure

	Applied uint64 `json:"applied"` // index of the last entry applied, of any kind
	Index   uint64 `json:"index"`   // of the last entry that changed what readers see
	Written uint64 `json:"written"` // of the last write by a user to servers; 0: there was no write

	DefaultServer fleet.ServerName                    `json:"default_server,omitempty"` // as written; see Default
	Servers       map[fleet.ServerName]*Server        `json:"servers,omitempty"`
	Gateways      map[fleet.GatewayName]fleet.Gateway `json:"gateways,omitempty"`
	LastRevision  map[fleet.ServerName]fleet.Revision `json:"last_revision,omitempty"` // deleted servers too
	Nodes         map[fleet.NodeID]fleet.NodeIntent   `json:"nodes,omitempty"`
	Known         []fleet.NodeID                      `json:"known,omitempty"` // nodes that may be running replicas
	Keys          []Key                               `json:"keys,omitempty"`  // oldest first
	// SealKeys seal session ids. Oldest first; the newest one seals.
	SealKeys []fleet.SealKey `json:"seal_keys,omitempty"`
}

// Lead is a leader's tenure.
type Lead struct {
	Controller fleet.ControllerID `json:"controller"`
	Name       fleet.NodeID       `json:"name"`
	Term       fleet.Epoch        `json:"term"`
	Index      uint64             `json:"index"`
}

// Server is one server as it is desired.
type Server struct {
	Spec       fleet.Spec     `json:"spec"` // as written, Spec.Replicas too
	Revision   fleet.Revision `json:"revision"`
	Replicas   int            `json:"target"`     // wanted now; see Target
	Generation uint64         `json:"generation"` // restarts by hand
	Written    uint64         `json:"written"`    // index of the last write by a user: its ETag
	Index      uint64         `json:"index"`      // of the last change of any kind
	Stable     fleet.Revision `json:"stable"`     // last fully rolled out; 0: no rollout has ended yet
	Rollout    *Rollout       `json:"rollout,omitempty"`
	// Failed is the revision that was rolled back last. It is kept, so that an
	// update to the same template can be recognised.
	Failed    *fleet.FailedRevision `json:"failed,omitempty"`
	Floor     fleet.Floor           `json:"floor,omitzero"`
	Revisions []Revision            `json:"revisions"` // oldest first, at most MaxRevisions
}

// Rollout is the replacement of one revision, or generation, by the next.
type Rollout struct {
	From     fleet.Revision `json:"from"` // 0: this is the first one
	To       fleet.Revision `json:"to"`
	Started  time.Time      `json:"started"`
	Deadline time.Time      `json:"deadline"` // as in format 1; nothing is decided by it
	// The rest is as fleet.Rollout says.
	Paused  bool   `json:"paused,omitempty"`
	Held    string `json:"held,omitempty"`
	Checked bool   `json:"checked,omitempty"`
	Warning string `json:"warning,omitempty"`
	Step    int    `json:"step,omitempty"`
}

// Revision is one numbered template of a server.
type Revision struct {
	Number    fleet.Revision   `json:"number"`
	Template  fleet.Template   `json:"template"`
	Created   time.Time        `json:"created"`
	Catalogue *fleet.Catalogue `json:"catalogue,omitempty"` // the last known one
	// Served means that a rollout of it has ended. It is not set in states of earlier
	// formats.
	Served bool `json:"served,omitempty"`
	// Unchecked means that its last rollout was given up before it had passed its
	// checks. Replicas of it that still run get no calls.
	Unchecked bool `json:"unchecked,omitempty"`
}

// Key is an idempotency key that was used.
type Key struct {
	Key     string           `json:"key"`
	Request string           `json:"request"` // the request it was used for, in one line
	Server  fleet.ServerName `json:"server"`
	Changes []Change         `json:"changes,omitempty"` // of the first request; a repeated one gets the same answer
}
