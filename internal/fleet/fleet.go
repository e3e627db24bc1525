// Package fleet holds the words of mcpfleet: typed identifiers, the server
// spec, replicas and their phases, nodes, load, and the errors that cross
// package boundaries. It does no I/O and starts no goroutine, and every other
// package may import it. docs/ARCHITECTURE.md defines the same words.
package fleet

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

type (
	// NodeID is the name an operator gave to a node (--name). It is unique in
	// a cluster and survives restarts of the node.
	NodeID string
	// LifeID names one life of a node: one run of a worker or controller process.
	// A node that returns with a new life has lost everything that it ran.
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

// Incarnation counts how often a cluster's state was restored from a backup or from
// one survivor. Orders of an earlier incarnation are refused, whatever their epoch.
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

// Member describes one process in the gossip ring.
type Member struct {
	Node   NodeID
	Life   LifeID
	Role   Role
	GRPC   string // host:port of the gRPC listener; "": a controller of an earlier version
	HTTP   string // host:port of a controller's HTTP listener
	Gossip string // host:port
	PID    int
	// Started is when this life began. Of two lives of a node the newer counts.
	Started time.Time

	// Of controllers only:
	Controller ControllerID
	Raft       string    // host:port of raft
	Cluster    ClusterID // "" before it belongs to a cluster
	Expect     int       // how many stateless controllers found a cluster; 0: it does not found one; see membership.Founding
	Format     int       // the newest commands and snapshots that it understands
	Version    string
}

// FindController returns the newest life of the controller with this id.
func FindController(members []Member, id ControllerID) (found Member, ok bool) {
	for _, m := range members {
		if m.Controller == id && (!ok || m.Started.After(found.Started)) {
			found, ok = m, true
		}
	}
	return found, ok
}

// OtherControllers returns the newest life of each controller of the cluster, by name,
// except this one.
func OtherControllers(members []Member, cluster ClusterID, self LifeID) (out []Member) {
	newest := make(map[ControllerID]Member)
	for _, m := range members {
		if m.Role != RoleController || m.Cluster != cluster {
			continue
		}
		if other, ok := newest[m.Controller]; !ok || m.Started.After(other.Started) {
			newest[m.Controller] = m
		}
	}
	for _, m := range newest {
		if m.Life != self {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Life, b.Life)) })
	return out
}

// Voter is a controller in raft's configuration.
type Voter struct {
	ID     ControllerID
	Voting bool // false: it gets the log but has no vote
}

// Role says which program a member is.
type Role string

// The roles of a member.
const (
	RoleController Role = "controller"
	RoleWorker     Role = "worker"
)

// NodeInfo describes a worker's node. The worker sends it once per connection.
type NodeInfo struct {
	Node     NodeID
	Life     LifeID
	PID      int
	Zone     string
	Labels   map[string]string
	Capacity Resources
	Runtimes []string // that it offers, such as RuntimePodman; see CanRun
	Version  string
	GRPC     string
	// Sessions means that the worker gives replicas to sessions. Those of earlier
	// versions do not.
	Sessions bool
	// StartTook is how long its program took until it offered its runtimes.
	// Podman is tried first, which takes seconds on a busy machine.
	StartTook time.Duration
}

// Resources are those of a node, or those that a replica may use. A zero field
// reserves nothing and sets no limit.
type Resources struct {
	CPUs   float64 // cores
	Memory int64   // bytes
	PIDs   int64   // processes and threads
	// Custom are countable resources of any name, such as gpu. Of a node: what it
	// has. Its zero is nil.
	Custom map[string]int64 `json:",omitempty"`
}

// IsZero reports whether nothing is reserved or limited.
func (r Resources) IsZero() bool {
	return r.CPUs == 0 && r.Memory == 0 && r.PIDs == 0 && len(r.Custom) == 0
}

// Add returns r + o, field by field.
func (r Resources) Add(o Resources) Resources {
	return Resources{r.CPUs + o.CPUs, r.Memory + o.Memory, r.PIDs + o.PIDs, addCustom(r.Custom, o.Custom, 1)}
}

// Sub returns r - o, field by field.
func (r Resources) Sub(o Resources) Resources {
	return Resources{r.CPUs - o.CPUs, r.Memory - o.Memory, r.PIDs - o.PIDs, addCustom(r.Custom, o.Custom, -1)}
}

// Times returns n * r, field by field.
func (r Resources) Times(n int) Resources {
	out := Resources{CPUs: float64(n) * r.CPUs, Memory: int64(n) * r.Memory, PIDs: int64(n) * r.PIDs}
	if n == 0 || len(r.Custom) == 0 {
		return out
	}
	out.Custom = make(map[string]int64, len(r.Custom))
	for name, each := range r.Custom {
		out.Custom[name] = int64(n) * each
	}
	return out
}

// addCustom returns a + sign*b. The result shares a if b is empty.
func addCustom(a, b map[string]int64, sign int64) map[string]int64 {
	if len(b) == 0 {
		return a
	}
	out := make(map[string]int64, len(a)+len(b))
	maps.Copy(out, a)
	for name, n := range b {
		if out[name] += sign * n; out[name] == 0 {
			delete(out, name)
		}
	}
	return out
}

// Load is the load of a replica as its worker reports it. Ongoing counts the calls
// that hold a slot: running ones, and cancelled ones until their late reply or the
// answer to a ping comes.
type Load struct {
	Ongoing int
	Total   uint64
}

// Replica describes a replica as it is, never as it is wanted. Only its worker
// changes it.
type Replica struct {
	ID          ReplicaID
	Server      ServerName
	Revision    Revision
	Generation  uint64 // of its assignment
	Node        NodeID
	Phase       Phase
	Reason      string // in words; for ended replicas why they ended
	Unhealthy   bool   // READY but failing its health check: to be replaced
	Failing     bool   // drains, or drained, because it failed, and not because it was stopped
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
	Lost        bool      // ended with its node, nobody knows how
	// Spare means that it is started ahead of need and takes no calls: see
	// Spec.Warm.
	Spare bool
	// Raw means that it was started for a session. It is READY as soon as its process
	// runs.
	Raw bool
	// Session is whose replica it is; "": nobody's. While initialize runs it is a spare
	// still.
	Session   SessionID
	SessionAt time.Time // when Session was set
	ColdStart ColdStart
	Calls     CallCounts
	Usage     Usage
}

// ColdStart is how long each phase of a replica's start took. A phase that has not
// ended, or that there was not, is 0.
type ColdStart struct {
	Place     time.Duration // from the order's arrival at the node to its turn
	Pull      time.Duration
	Create    time.Duration // of the container
	Start     time.Duration // until the process runs
	Handshake time.Duration
	List      time.Duration // of the tools
}

// Total returns how long the start took.
func (c ColdStart) Total() time.Duration {
	total := time.Duration(0)
	for _, p := range c.Phases() {
		total += p.Took
	}
	return total
}

// ColdStartPhase is one phase of a start.
type ColdStartPhase struct {
	Name string
	Took time.Duration
}

// Phases returns the phases by name, in their order.
func (c ColdStart) Phases() []ColdStartPhase {
	return []ColdStartPhase{
		{"place", c.Place}, {"pull", c.Pull}, {"create", c.Create}, {"start", c.Start}, {"handshake", c.Handshake}, {"list", c.List},
	}
}

// LogValue implements slog.LogValuer.
func (c ColdStart) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, p := range c.Phases() {
		attrs = append(attrs, slog.Duration(p.Name, p.Took))
	}
	return slog.GroupValue(attrs...)
}

// String describes the phases in words, such as "place 0s, pull 1.2s, create 110ms".
func (c ColdStart) String() string {
	var b strings.Builder
	for i, p := range c.Phases() {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", p.Name, p.Took.Round(time.Millisecond))
	}
	return b.String()
}

// CallCounts counts the calls of a replica that have ended, by their outcome.
type CallCounts struct {
	OK       uint64
	IsError  uint64 // answered with a result that has isError
	Error    uint64 // answered with a JSON-RPC error, or an invalid reply
	TimedOut uint64 // not answered within their deadline
	Lost     uint64 // inside it when it ended
	// Latency counts the answered calls by their time, in the buckets of
	// LatencyBounds and one more for longer ones.
	Latency []uint64
}

// LatencyBounds are the upper bounds of CallCounts.Latency.
var LatencyBounds = [...]time.Duration{
	1 * time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second,
	2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// Usage is what a replica used when its worker last looked. It is zero if that is
// not known.
type Usage struct {
	CPUs   float64 // cores, on average since the look before
	Memory int64   // bytes
}

// WasReady reports whether the replica was ever READY.
func (r *Replica) WasReady() bool { return !r.ReadyAt.IsZero() }

// Exit says how a replica's process ended.
type Exit struct {
	Code      int    // exit code; -1 when a signal ended it
	Signal    string // "SIGKILL", or ""
	OOM       bool   // probably killed by the kernel for want of memory
	Requested bool   // it was stopped on order
	Err       string // why nothing is known of the end; "" otherwise
}

// FromOutside reports whether something other than a call ended the process: an
// order, or a signal that programs do not send to themselves. A kill for want of
// memory does not count, because a call may have used up the memory.
func (e *Exit) FromOutside() bool {
	switch {
	case e.Requested:
		return true
	case e.OOM || e.Err != "":
		return false
	}
	return e.Signal == "SIGKILL" || e.Signal == "SIGTERM" || e.Signal == "SIGINT" || e.Signal == "SIGHUP"
}

// String describes the end in words for users.
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
