//go:build linux

package scale

import (
	"bytes"
	"cmp"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/test/harness"
	"github.com/mcpfleet/mcpfleet/test/section"
)

// plans are the benchmarks of package reconcile, and what they show.
var plans = []struct{ name, what string }{
	{"Pass", "a pass with nothing to do"},
	{"PassAfterArrivals", "the same, in the hour after a tenth of the nodes have joined"},
	{"PlaceAll", "the plan that places all replicas on empty nodes"},
	{"NodeLoss", "the plan that replaces the replicas of a lost node"},
}

// bounds are the longest times that plans may take, by name and number of nodes. They
// leave room for a slower machine.
var bounds = map[string]time.Duration{
	"Pass 1000":     60 * time.Millisecond,
	"Pass 10000":    time.Second,
	"PlaceAll 1000": 2 * time.Second,
	"NodeLoss 1000": 50 * time.Millisecond,
}

// benchmarkLine is a result of go test -bench.
var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark(\w+)/(\d+)_nodes_(\d+)_replicas\S*\s+\d+\s+([0-9.]+) ns/op`)

// writeReport measures the plans, and writes all figures as a section of a Markdown
// page. It writes nothing if a plan takes too long.
func writeReport(path string, f figures) error {
	root, err := harness.Root()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "Pass|PlaceAll|NodeLoss", "-benchtime", "5x", "-count", "5", "./internal/reconcile")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("measure the plans: %w\n%s", err, out)
	}
	best := make(map[string]time.Duration) // by name and number of nodes
	replicas := make(map[string]string)
	var sizes []string
	for _, m := range benchmarkLine.FindAllStringSubmatch(string(out), -1) {
		ns, err := strconv.ParseFloat(m[4], 64)
		if err != nil {
			return err
		}
		key, took := m[1]+" "+m[2], time.Duration(ns)
		best[key] = min(cmp.Or(best[key], took), took)
		if replicas[m[2]] == "" {
			sizes, replicas[m[2]] = append(sizes, m[2]), m[3]
		}
	}
	for name, bound := range bounds {
		if took := best[name]; took == 0 || took > bound {
			return fmt.Errorf("plan %s took %v, want at most %v", name, took, bound)
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, preamble, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	b.WriteString("| |")
	for _, n := range sizes {
		fmt.Fprintf(&b, " %s nodes, %s replicas |", n, replicas[n])
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(sizes)) + "\n")
	for _, p := range plans {
		fmt.Fprintf(&b, "| %s |", p.what)
		for _, n := range sizes {
			fmt.Fprintf(&b, " %s |", short(best[p.name+" "+n]))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, simulated, f.workers, *servers, *each)
	row := func(what, value string) { fmt.Fprintf(&b, "| %s | %s |\n", what, value) }
	row(fmt.Sprintf("all %d workers have joined after", f.workers), short(f.joined))
	row("controller, idle, without replicas", idleText(f.without))
	row(fmt.Sprintf("%d replicas are READY after", f.replicas), short(f.placed))
	row("CPU time of the controller for that", short(f.placing.cpu))
	row(fmt.Sprintf("controller, idle, with %d replicas", f.replicas), idleText(f.idle))
	row("all workers and replicas, idle", fmt.Sprintf("%.1f %% of a CPU", percent(f.byWorkers)))
	row("replicas on a worker", fmt.Sprintf("%d to %d", f.onEmptiest, f.onWorkers))
	return section.Write(path, "Scale", b.String())
}

func idleText(u usage) string {
	return fmt.Sprintf("%.1f %% of a CPU, %d MiB", percent(u.cpu), u.rss>>20)
}

// short returns a duration with three digits or so.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	default:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
	}
}

const preamble = "`make scale`" + ` writes this section. It says what placement and an idle controller cost as a fleet
grows. Compare the columns with each other. The machine had %d %s/%s cores.

### Plans

The leader makes a pass after every batch of reports. It takes in what has changed, plans, and
publishes the state of each server. The fleet is in memory: ten zones, 20 replicas on a node and of
a server, each with resources and a label. Times are the best of five.

`

const simulated = `
### A controller

One real controller and %d workers, which join its ring and serve it over gRPC on loopback. All
workers share one process, whose replicas are functions and not programs. They deploy %d servers of
%d replicas. All processes share the machine, so the workers bound how fast replicas start.

| | |
|---|--:|
`
