package schedule

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// cause is why one node cannot take a replica. The causes that end with a space are
// followed by a label, a resource, or the reason of an unfit or suspect node.
type cause string

const (
	unreachable cause = "unreachable"
	draining    cause = "draining"
	cordoned    cause = "cordoned"
	noRuntime   cause = "runtime"
	noSessions  cause = "sessions"
	label       cause = "label "
	unfit       cause = "unfit "
	suspect     cause = "suspect "
	atLimit     cause = "at limit"
	noCPUs      cause = "cpus"
	noMemory    cause = "memory"
	noPIDs      cause = "pids"
	noCustom    cause = "custom "
)

// NoNodes is the reason while there is no node.
const NoNodes = "waiting for workers: none has joined"

// refusals counts the nodes per cause, and keeps the most that any of them had free.
type refusals struct {
	count map[cause]int
	free  map[cause]float64
}

func (r *refusals) add(why cause, free float64) {
	if r.count == nil {
		r.count, r.free = make(map[cause]int), make(map[cause]float64)
	}
	r.count[why]++
	r.free[why] = max(r.free[why], free)
}

// refusalKey names requests that are refused alike.
type refusalKey struct {
	shape      *shape
	resources  string
	maxPerNode int
}

// refused is a refusal, and how many placements there were before it.
type refused struct {
	why string
	at  int
}

// refuse says why the present run's request is refused. It remembers that for equal
// requests of other servers: room is never freed.
func (r *Room) refuse() string {
	n := &r.run
	if n.refused == nil {
		n.refused = &refused{at: -1}
		if n.req.MaxPerNode == 0 { // else it depends on the server's own replicas
			r.refused[refusalKeyOf(n.shape, &n.req)] = n.refused
		}
	}
	if n.refused.at != r.changes {
		*n.refused = refused{r.refusal(&n.req, n.shape), r.changes}
	}
	return n.refused.why
}

func refusalKeyOf(s *shape, req *Request) refusalKey {
	return refusalKey{s, fmt.Sprint(req.Template.Resources), req.MaxPerNode}
}

// refusal says in words why no node fits, and what would have to change.
func (r *Room) refusal(req *Request, s *shape) string {
	all := refusals{count: maps.Clone(s.excluded.count), free: maps.Clone(s.excluded.free)}
	var more additions
	for _, z := range s.class.zones {
		for _, i := range s.class.order[z] {
			n := &r.nodes[i]
			if req.MaxPerNode > 0 && n.OfServer >= req.MaxPerNode {
				all.add(atLimit, 0)
				continue
			}
			lacks := shortages(&req.Template.Resources, n)
			all.add(lacks[0].what, lacks[0].free)
			more.add(n.ID, lacks)
		}
	}
	if len(all.count) == 0 {
		return NoNodes
	}
	return all.String(req) + r.remedy(req, s, &more)
}

// remedy says what would make room for the replica on the nodes that there are. It
// returns "" if nothing would that the causes do not name already.
func (r *Room) remedy(req *Request, s *shape, more *additions) string {
	var ways []string
	switch len(more.nodes) {
	case 0:
	case 1:
		ways = append(ways, more.amounts()+" on node "+string(more.nodes[0]))
	default:
		ways = append(ways, fmt.Sprintf("%s on one of %d nodes", more.amounts(), len(more.nodes)))
	}
	var free []fleet.NodeID
	for _, i := range s.cordoned {
		if fits(req, &r.nodes[i]) {
			free = append(free, r.nodes[i].ID)
		}
	}
	switch len(free) {
	case 0:
	case 1:
		ways = append(ways, "node "+string(free[0])+" uncordoned")
	default:
		ways = append(ways, fmt.Sprintf("one of %d cordoned nodes uncordoned", len(free)))
	}
	if len(ways) == 0 {
		return ""
	}
	return "; it would fit with " + strings.Join(ways, ", or with ")
}

// additions is the least that would have to be added to a node for a replica to fit,
// and the nodes for which that is enough.
type additions struct {
	nodes []fleet.NodeID
	least []shortage
}

// add takes in what one more node lacks.
func (a *additions) add(id fleet.NodeID, lacks []shortage) {
	switch {
	case len(a.nodes) > 0 && slices.EqualFunc(a.least, lacks, func(x, y shortage) bool { return x.what == y.what && x.missing() == y.missing() }):
		a.nodes = append(a.nodes, id)
	case len(a.nodes) == 0 || less(lacks, a.least):
		a.nodes, a.least = append(a.nodes[:0], id), lacks
	}
}

func (s *shortage) missing() float64 { return s.want - s.free }

// less reports whether a is the smaller addition: of fewer resources, then of a
// smaller part of what is wanted.
func less(a, b []shortage) bool {
	most := func(list []shortage) (part float64) {
		for i := range list {
			part = max(part, list[i].missing()/list[i].want)
		}
		return part
	}
	return len(a) < len(b) || len(a) == len(b) && most(a) < most(b)
}

// amounts returns the addition in words.
func (a *additions) amounts() string {
	var parts []string
	for i := range a.least {
		s := &a.least[i]
		switch s.what {
		case noCPUs:
			parts = append(parts, cores(s.missing(), math.Ceil)+" more cpus")
		case noMemory:
			parts = append(parts, size(s.missing(), math.Ceil)+" more memory")
		case noPIDs:
			parts = append(parts, fmt.Sprintf("%.0f more pids", s.missing()))
		default:
			parts = append(parts, fmt.Sprintf("%.0f more %s", s.missing(), strings.TrimPrefix(string(s.what), string(noCustom))))
		}
	}
	return strings.Join(parts, " and ")
}

// String returns the refusals in words, the most frequent first.
func (r *refusals) String(req *Request) string {
	causes := slices.SortedFunc(maps.Keys(r.count), func(a, b cause) int {
		return cmp.Or(cmp.Compare(r.count[b], r.count[a]), cmp.Compare(a, b))
	})
	var parts []string
	for i, why := range causes {
		parts = append(parts, r.phrase(req, why, i == 0))
	}
	return "no node fits: " + strings.Join(parts, ", ")
}

func (r *refusals) phrase(req *Request, why cause, first bool) string {
	n, free, want := r.count[why], r.free[why], req.Template.Resources
	who := strconv.Itoa(n)
	if first {
		who += plural(n, " node", " nodes")
	}
	is, has, lacks := plural(n, " is ", " are "), plural(n, " has ", " have "), plural(n, " lacks ", " lack ")
	switch why {
	case unreachable:
		return who + is + "unreachable"
	case draining:
		return who + is + "draining"
	case cordoned:
		return who + is + "cordoned"
	case noRuntime:
		return who + plural(n, " does", " do") + " not offer the " + wantedRuntime(req.Template)
	case noSessions:
		return who + is + "of an older version, which gives no replicas to sessions: update its worker"
	case atLimit:
		return fmt.Sprintf("%s%smax_replicas_per_node (%d) already", who, has, req.MaxPerNode)
	case noCPUs:
		return fmt.Sprintf("%s%scpus (%s wanted, %s free at most)", who, lacks, cores(want.CPUs, math.Round), cores(free, math.Round))
	case noMemory:
		return fmt.Sprintf("%s%smemory (%s wanted, %s free at most)", who, lacks, size(float64(want.Memory), math.Floor), size(free, math.Floor))
	case noPIDs:
		return fmt.Sprintf("%s%spids (%d wanted, %.0f free at most)", who, lacks, want.PIDs, free)
	}
	if name, ok := strings.CutPrefix(string(why), string(noCustom)); ok {
		return fmt.Sprintf("%s%s%s (%d wanted, %.0f free at most)", who, lacks, name, want.Custom[name], free)
	}
	if reason, ok := strings.CutPrefix(string(why), string(unfit)); ok {
		return fmt.Sprintf("%s%sno replicas (%s)", who, plural(n, " starts ", " start "), reason)
	}
	if reason, ok := strings.CutPrefix(string(why), string(suspect)); ok {
		return fmt.Sprintf("%s%scordoned by the leader (%s)", who, is, reason)
	}
	return who + lacks + "the label " + strings.TrimPrefix(string(why), string(label))
}

// wantedRuntime returns in words which runtime is missing, why it is needed, and
// which flag of the worker offers it.
func wantedRuntime(t *fleet.Template) string {
	runtime := t.NeededRuntime()
	what := "an image"
	if runtime == fleet.RuntimeProcess {
		what = "a command"
	}
	return fmt.Sprintf("%s runtime, which %s needs (worker --runtime %s,%s)", runtime, what, fleet.RuntimePodman, fleet.RuntimeProcess)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// cores rounds to hundredths, without the noise of float sums.
func cores(f float64, round func(float64) float64) string {
	return strconv.FormatFloat(max(0, round(f*100-slack)/100), 'f', -1, 64) // max drops the sign of a zero
}

func size(b float64, round func(float64) float64) string {
	for _, u := range []struct {
		name string
		n    float64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if b >= u.n {
			return strconv.FormatFloat(round(b/u.n*10)/10, 'f', -1, 64) + " " + u.name
		}
	}
	return fmt.Sprintf("%.0f B", b)
}
