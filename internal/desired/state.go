// Package desired is desired state as plain values: the state that users,
// operators and the leader write, the commands that change it, and what each
// command does. Package store replicates the commands through raft; nothing
// here knows of it, so a log can be replayed, tried out (a dry run) and tested
// without any cluster.
//
// It promises that applying is deterministic: the same commands give the same
// state, byte for byte, on every controller and in every replay. No clock, no
// random number and no map order takes part; times and ids come in commands. A
// State is never changed once made: Apply returns a new one that shares what
// stayed the same, so states may be read from anywhere without a lock.
//
// What runs is never part of it. It does no I/O and starts no goroutine.
package desired

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Format is the newest format of commands and snapshots that this version
// understands and writes. Format 2 has more fields of a spec; see newSpec.
const Format = 2

// Bounds of what is kept.
const (
	MaxRevisions = 10  // of a server, the present and the stable one among them
	MaxKeys      = 512 // idempotency keys
)

// State is desired state as of one entry of the log. Its JSON form is that of
// snapshots and backups.
type State struct {
	Format      int               `json:"format"`  // the lowest that understands it
	Cluster     fleet.ClusterID   `json:"cluster"` // "" before the first Lead
	Incarnation fleet.Incarnation `json:"incarnation"`
	Expect      int               `json:"expect"` // how many voters the cluster shall not fall below
	Lead        Lead              `json:"lead"`   // of the present or last tenure

	Applied uint64 `json:"applied"` // index of the last entry applied, of any kind
	Index   uint64 `json:"index"`   // of the last entry that changed what readers see
	Written uint64 `json:"written"` // of the last write by a user to servers; 0: none ever

	DefaultServer fleet.ServerName                    `json:"default_server,omitempty"` // as written; see Default
	Servers       map[fleet.ServerName]*Server        `json:"servers,omitempty"`
	LastRevision  map[fleet.ServerName]fleet.Revision `json:"last_revision,omitempty"` // deleted servers too
	Nodes         map[fleet.NodeID]fleet.NodeIntent   `json:"nodes,omitempty"`
	Known         []fleet.NodeID                      `json:"known,omitempty"` // nodes that may be running replicas
	Keys          []Key                               `json:"keys,omitempty"`  // oldest first
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
	Stable     fleet.Revision `json:"stable"`     // last rolled out whole; 0: none yet
	Rollout    *Rollout       `json:"rollout,omitempty"`
	Revisions  []Revision     `json:"revisions"` // oldest first, at most MaxRevisions
}

// Rollout is the way from one revision, or generation, to the next.
type Rollout struct {
	From     fleet.Revision `json:"from"` // 0: the first
	To       fleet.Revision `json:"to"`
	Started  time.Time      `json:"started"`
	Deadline time.Time      `json:"deadline"` // when it counts as stuck
}

// Revision is one numbered template of a server.
type Revision struct {
	Number    fleet.Revision   `json:"number"`
	Template  fleet.Template   `json:"template"`
	Created   time.Time        `json:"created"`
	Catalogue *fleet.Catalogue `json:"catalogue,omitempty"` // the last known
}

// Key is an idempotency key that was used.
type Key struct {
	Key     string           `json:"key"`
	Request string           `json:"request"` // what it was used for, in one line
	Server  fleet.ServerName `json:"server"`
	Changes []Change         `json:"changes,omitempty"` // what it did, told again to whoever repeats it
}
