// Package fleet holds the words of mcpfleet: typed identifiers, the server
// spec, replicas and their phases, nodes, load, and the errors that cross
// package boundaries. It does no I/O and starts no goroutine, and every other
// package may import it. DESIGN.md's word list and this package are kept the
// same: one word for one thing.
package fleet

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"
)

type (
	// NodeID is the name an operator gave to a node (--name). It is unique in
	// a cluster and survives restarts of the node.
	NodeID string
	// LifeID names one life of a node: one run of one worker or controller
	// process. A node that returns under a new life has lost all it ran.
	LifeID string
	// ServerName is the name of a deployed MCP server: a DNS label in lower
	// case, usable as one path segment.
	ServerName string
	// ReplicaID names one running copy of a server revision. It is never
	// reused: a restart is a new replica.
	ReplicaID string
	// Revision numbers the versions of a server's replica template, from 1.
	Revision uint64
	// ClusterID names a cluster: random, made once, kept by the controllers.
	ClusterID string
	// ControllerID names one controller among the voters: random, made once,
	// kept in its data directory. Its name and addresses may change.
	ControllerID string
)

// Incarnation counts how often a cluster's state was put back from a backup or
// from one survivor. Orders of an earlier incarnation are refused whatever
// their epoch is.
type Incarnation uint64

// Epoch orders the orders of leaders within an incarnation: the raft term of
// the entry with which a leader began its tenure. A worker refuses an order
// with a lower epoch than the highest it has seen.
type Epoch uint64

// NewLifeID returns a fresh, random life id.
func NewLifeID() LifeID { return LifeID(randomHex(6)) }

// NewControllerID returns a fresh, random controller id.
func NewControllerID() ControllerID { return ControllerID(randomHex(8)) }

// NewClusterID returns a fresh, random cluster id.
func NewClusterID() ClusterID { return ClusterID(randomHex(4)) }

// NewReplicaID returns a fresh id for a replica of the server's revision. It
// is short enough, with cluster and node, to serve in a container's name.
func NewReplicaID(server ServerName, rev Revision) ReplicaID {
	return ReplicaID(fmt.Sprintf("%s-%d-%s", server, rev, randomHex(4)))
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails since Go 1.24
	return hex.EncodeToString(b)
}

// Member is what gossip says of one process in the ring.
type Member struct {
	Node   NodeID
	Life   LifeID
	Role   Role
	GRPC   string // host:port of a worker's gRPC listener
	HTTP   string // host:port of a controller's HTTP listener
	Gossip string // host:port
	PID    int
	// Started is when this life began. Of two lives of one node the newer wins.
	Started time.Time

	// Of controllers only:
	Controller ControllerID
	Raft       string    // host:port of raft
	Cluster    ClusterID // "" while it belongs to none yet
	Expect     int       // how many stateless controllers found a cluster; 0: it founds none; see membership.Founding
	Format     int       // the newest commands and snapshots that it understands
	Version    string
}

// FindController returns the member that is a controller. Of several lives of
// it, that is the newest.
func FindController(members []Member, id ControllerID) (found Member, ok bool) {
	for _, m := range members {
		if m.Controller == id && (!ok || m.Started.After(found.Started)) {
			found, ok = m, true
		}
	}
	return found, ok
}

// Voter is a controller in raft's configuration.
type Voter struct {
	ID     ControllerID
	Voting bool // false: it gets the log, and does not count
}

// Role tells the two programs apart.
type Role string

// The roles of a member.
const (
	RoleController Role = "controller"
	RoleWorker     Role = "worker"
)

// NodeInfo is what a worker says of itself over gRPC, once per connection.
type NodeInfo struct {
	Node     NodeID
	Life     LifeID
	PID      int
	Zone     string
	Labels   map[string]string
	Capacity Resources
	Runtimes []string // what it offers, such as RuntimePodman; see CanRun
	Version  string
	GRPC     string
}

// Resources is an amount of what a node has and a replica may use. A zero
// field means none reserved and no limit.
type Resources struct {
	CPUs   float64 // cores
	Memory int64   // bytes
	PIDs   int64   // processes and threads
}

// Add returns r + o, field by field.
func (r Resources) Add(o Resources) Resources {
	return Resources{r.CPUs + o.CPUs, r.Memory + o.Memory, r.PIDs + o.PIDs}
}

// Sub returns r - o, field by field.
func (r Resources) Sub(o Resources) Resources {
	return Resources{r.CPUs - o.CPUs, r.Memory - o.Memory, r.PIDs - o.PIDs}
}

// Load is what a worker reports of one replica. Ongoing counts calls that hold
// a slot: running ones, and cancelled ones whose late reply or ping answer has
// not come yet.
type Load struct {
	Ongoing int
	Total   uint64
}

// Replica is the report of one replica: what is, never what is wanted. The
// worker that runs it is its only writer.
type Replica struct {
	ID          ReplicaID
	Server      ServerName
	Revision    Revision
	Generation  uint64 // of the assignment it was started by
	Node        NodeID
	Phase       Phase
	Reason      string // in words; for ended replicas why they ended
	Unhealthy   bool   // READY but failing its health check: to be replaced
	PID         int    // 0 without a process
	ContainerID string
	Load        Load
	CreatedAt   time.Time
	ReadyAt     time.Time // zero before READY
	EndedAt     time.Time // zero before the end
	Exit        *Exit     // set when the process ended
	Catalogue   string    // hash of the catalogue it offers; "" before READY
	Resources   Resources // reserved on its node until it ended
	Log         []string  // the last stderr lines, for ended replicas
	Lost        bool      // ended with its node: nobody saw how
}

// WasReady tells whether the replica ever served.
func (r *Replica) WasReady() bool { return !r.ReadyAt.IsZero() }

// Exit says how a replica's process ended.
type Exit struct {
	Code      int    // exit code; -1 when a signal ended it
	Signal    string // "SIGKILL", or ""
	OOM       bool   // probably killed by the kernel for want of memory
	Requested bool   // it was told to stop
	Err       string // why nothing is known of the end, if so
}

// FromOutside reports whether the process was ended by somebody else: told to
// stop, or killed by a signal that programs do not send to themselves. A kill
// for want of memory does not count: a call may have used it up.
func (e *Exit) FromOutside() bool {
	switch {
	case e.Requested:
		return true
	case e.OOM || e.Err != "":
		return false
	}
	return e.Signal == "SIGKILL" || e.Signal == "SIGTERM" || e.Signal == "SIGINT" || e.Signal == "SIGHUP"
}

// String tells the end in words, as shown to users.
func (e Exit) String() string {
	switch {
	case e.OOM:
		return "killed, probably out of memory"
	case e.Signal != "":
		return "killed by " + e.Signal
	case e.Err != "":
		return "ended for an unknown reason: " + e.Err
	default:
		return fmt.Sprintf("exit code %d", e.Code)
	}
}

// Catalogue is what a replica offers, raw as the server sent it.
type Catalogue struct {
	Hash         string   // of all below
	Protocol     string   // negotiated protocol version
	ServerInfo   []byte   // raw JSON object
	Capabilities []byte   // raw JSON object
	Instructions string   // may be empty
	Tools        [][]byte // raw JSON objects in the server's order
}
