package top

import (
	"cmp"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/calls"
	"github.com/mcpfleet/mcpfleet/internal/cli/format"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Reading is what the API said at one time.
type Reading struct {
	At       time.Time // on this machine, when the replicas were read
	Servers  []api.Server
	Replicas []api.Replica
	Nodes    []api.Node
	Note     string // about the reading, in words; may be empty
}

// Report is a reading with the rates since the one before.
type Report struct {
	At       time.Time `json:"at"`
	Servers  []Server  `json:"servers"`  // by name
	Replicas []Replica `json:"replicas"` // by id
	Nodes    []Node    `json:"nodes"`    // by name
	Note     string    `json:"note"`     // about the reading, in words; may be empty
}

// Figures are what the calls of one or several replicas did between two readings,
// and what the replicas used. Rates are null before the second reading.
type Figures struct {
	Calls   *float64 `json:"calls_per_second"`
	Errors  *float64 `json:"errors_per_second"` // isError results, errors, timeouts, calls lost with their replica
	P50     *float64 `json:"p50_seconds"`       // null if no call was answered
	P95     *float64 `json:"p95_seconds"`
	Ongoing int      `json:"ongoing"`
	CPUs    float64  `json:"cpus"`
	Memory  int64    `json:"memory"`
}

// Server is one server and the sum of its replicas.
type Server struct {
	Name     fleet.ServerName `json:"name"`
	State    fleet.State      `json:"state"`
	Ready    int              `json:"ready"`
	Desired  int              `json:"desired"`
	Revision fleet.Revision   `json:"revision"`
	Figures
	Queued int    `json:"queued"`
	Reason string `json:"reason"`

	revision string // both during a rollout
}

// Replica is one replica.
type Replica struct {
	ID       fleet.ReplicaID  `json:"id"`
	Server   fleet.ServerName `json:"server"`
	Node     fleet.NodeID     `json:"node"`
	Phase    string           `json:"phase"`
	Revision fleet.Revision   `json:"revision"`
	Figures
	Age    float64 `json:"age_seconds"`
	Spare  bool    `json:"spare"`
	Reason string  `json:"reason"`

	age, phase string
}

// Node is one node and the sum of its replicas.
type Node struct {
	Name     fleet.NodeID `json:"name"`
	Role     fleet.Role   `json:"role"`
	State    string       `json:"state"`
	Replicas int          `json:"replicas"`
	Figures
	Capacity  api.Resources `json:"capacity"`
	Allocated api.Resources `json:"allocated"` // reserved by replicas
	Reason    string        `json:"reason"`

	cpus, memory string // allocated and capacity
}

// NewReport compares two readings. before is nil for the first one. A replica that
// is missing from the earlier reading counts from the next one on: nobody knows when
// its calls were.
func NewReport(before *Reading, now Reading) Report {
	out := Report{At: now.At, Servers: []Server{}, Replicas: []Replica{}, Nodes: []Node{}, Note: now.Note}
	earlier := make(map[fleet.ReplicaID]*api.Replica)
	seconds := 0.0
	if before != nil {
		seconds = now.At.Sub(before.At).Seconds()
		for i := range before.Replicas {
			earlier[before.Replicas[i].ID] = &before.Replicas[i]
		}
	}
	servers, nodes := make(map[fleet.ServerName]*sum), make(map[fleet.NodeID]*sum)
	for i := range now.Replicas {
		r := &now.Replicas[i]
		old := earlier[r.ID]
		var own sum
		for _, s := range []*sum{&own, in(servers, r.Server), in(nodes, r.Node)} {
			s.add(r, old)
		}
		one := Replica{
			ID: r.ID, Server: r.Server, Node: r.Node, Phase: r.Phase, Revision: r.Revision, Reason: r.Reason,
			Spare: r.Spare, phase: format.Phase(r), age: format.Age(r.StartedAt, now.At), Figures: own.figures(seconds, old != nil),
		}
		if r.StartedAt != nil {
			one.Age = max(0, now.At.Sub(*r.StartedAt).Seconds())
		}
		out.Replicas = append(out.Replicas, one)
	}
	for i := range now.Servers {
		s := &now.Servers[i]
		out.Servers = append(out.Servers, Server{
			Name: s.Name, State: s.State, Ready: s.Ready, Desired: s.Desired, Revision: s.Revision, Reason: s.Reason,
			Queued: s.Queued, revision: format.Revision(s), Figures: in(servers, s.Name).figures(seconds, before != nil),
		})
	}
	for i := range now.Nodes {
		n := &now.Nodes[i]
		out.Nodes = append(out.Nodes, Node{
			Name: n.Name, Role: n.Role, State: format.NodeState(n, now.At), Replicas: n.Replicas, Reason: n.Reason,
			Capacity: n.Capacity, Allocated: n.Allocated, cpus: format.CPUShare(n), memory: format.MemoryShare(n),
			Figures: in(nodes, n.Name).figures(seconds, before != nil),
		})
	}
	slices.SortFunc(out.Servers, func(a, b Server) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(out.Replicas, func(a, b Replica) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(out.Nodes, func(a, b Node) int { return cmp.Or(cmp.Compare(b.Role, a.Role), cmp.Compare(a.Name, b.Name)) })
	return out
}

// in returns the sum of a key, which it makes if there is none.
func in[K comparable](sums map[K]*sum, key K) *sum {
	if sums[key] == nil {
		sums[key] = &sum{}
	}
	return sums[key]
}

// sum adds up replicas.
type sum struct {
	calls   calls.Sum // between the readings
	ongoing int
	cpus    float64
	memory  int64
}

// add adds a replica. before is nil if the earlier reading lacks it.
func (s *sum) add(r, before *api.Replica) {
	s.ongoing += r.Ongoing
	if u := r.Usage; u != nil {
		s.cpus += u.CPUs
		s.memory += u.Memory
	}
	if before != nil {
		s.calls.Add(before, r)
	}
}

// figures returns what the replicas did in so many seconds, if that is known.
func (s *sum) figures(seconds float64, known bool) Figures {
	f := Figures{Ongoing: s.ongoing, CPUs: s.cpus, Memory: s.memory}
	if !known || seconds <= 0 {
		return f
	}
	f.Calls, f.Errors = new(float64(s.calls.Calls)/seconds), new(float64(s.calls.Failed)/seconds)
	if d, ok := s.calls.Quantile(0.5); ok {
		f.P50 = new(d.Seconds())
	}
	if d, ok := s.calls.Quantile(0.95); ok {
		f.P95 = new(d.Seconds())
	}
	return f
}
