package schedule

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// cause is why one node cannot take a replica. A label's cause ends with the label,
// and that of an unfit node with the reason.
type cause string

const (
	unreachable cause = "unreachable"
	draining    cause = "draining"
	cordoned    cause = "cordoned"
	noRuntime   cause = "runtime"
	label       cause = "label "
	unfit       cause = "unfit "
	atLimit     cause = "at limit"
	noCPUs      cause = "cpus"
	noMemory    cause = "memory"
	noPIDs      cause = "pids"
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

// String returns the refusals in words, the most frequent first.
func (r *refusals) String(req Request) string {
	if len(r.count) == 0 {
		return NoNodes
	}
	causes := slices.SortedFunc(maps.Keys(r.count), func(a, b cause) int {
		if d := r.count[b] - r.count[a]; d != 0 {
			return d
		}
		return strings.Compare(string(a), string(b))
	})
	var parts []string
	for i, why := range causes {
		n := r.count[why]
		parts = append(parts, r.phrase(req, why, n, i == 0))
	}
	return "no node fits: " + strings.Join(parts, ", ")
}

func (r *refusals) phrase(req Request, why cause, n int, first bool) string {
	who := strconv.Itoa(n)
	if first {
		who += plural(n, " node", " nodes")
	}
	is, has, lacks := plural(n, " is ", " are "), plural(n, " has ", " have "), plural(n, " lacks ", " lack ")
	want, free := req.Template.Resources, r.free[why]
	switch why {
	case unreachable:
		return who + is + "unreachable"
	case draining:
		return who + is + "draining"
	case cordoned:
		return who + is + "cordoned"
	case noRuntime:
		return who + plural(n, " does", " do") + " not offer the " + wantedRuntime(req.Template)
	case atLimit:
		return fmt.Sprintf("%s%smax_replicas_per_node (%d) already", who, has, req.MaxPerNode)
	case noCPUs:
		return fmt.Sprintf("%s%scpus (%s wanted, %s free at most)", who, lacks, cores(want.CPUs), cores(free))
	case noMemory:
		return fmt.Sprintf("%s%smemory (%s wanted, %s free at most)", who, lacks, size(float64(want.Memory)), size(free))
	case noPIDs:
		return fmt.Sprintf("%s%spids (%d wanted, %.0f free at most)", who, lacks, want.PIDs, free)
	}
	switch what, isUnfit := strings.CutPrefix(string(why), string(unfit)); {
	case isUnfit:
		return fmt.Sprintf("%s%sno replicas (%s)", who, plural(n, " starts ", " start "), what)
	default:
		return who + lacks + "the label " + strings.TrimPrefix(string(why), string(label))
	}
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
func cores(f float64) string {
	return strconv.FormatFloat(float64(int64(f*100+0.5))/100, 'f', -1, 64)
}

func size(b float64) string {
	for _, u := range []struct {
		name string
		n    float64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if b >= u.n {
			return strconv.FormatFloat(float64(int64(b/u.n*10))/10, 'f', -1, 64) + " " + u.name
		}
	}
	return fmt.Sprintf("%.0f B", b)
}
