package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/mcpfleet/mcpfleet/internal/agent"
	"github.com/mcpfleet/mcpfleet/internal/envflag"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/program"
	"github.com/mcpfleet/mcpfleet/internal/worker"
)

// flags are the settings from the command line and the environment.
type flags struct {
	node      fleet.NodeID
	grpc      string
	gossip    string
	join      []string
	advertise string
	dataDir   string
	dataGiven bool
	runtime   string
	runtimes  []string // from --runtime; nil for those that work here
	zone      string
	labels    map[string]string
	cpus      float64
	memory    string
	resources map[string]string
	maxStarts int
	authFile  string
	lifeline  int
	drainTime time.Duration
	insecure  bool
	logFormat string
	logLevel  string

	checkRuntime bool
	version      bool
}

func parseFlags(args []string, lookup func(string) (string, bool), out io.Writer) (*flags, error) {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = ""
	}
	f := new(flags)
	var name string
	set := pflag.NewFlagSet("worker", pflag.ContinueOnError)
	set.SortFlags = false
	set.SetOutput(out)
	set.StringVar(&name, "name", hostname, "name of this node, unique in the cluster and the same after a restart")
	set.StringVar(&f.grpc, "grpc", "127.0.0.1:0", "host:port of gRPC, for the controllers")
	set.StringVar(&f.gossip, "gossip", "127.0.0.1:0", "host:port of gossip, TCP and UDP")
	set.StringSliceVar(&f.join, "join", nil, "host:port of members of the cluster to join; retried until one answers; comma-separated or repeated")
	set.StringVar(&f.advertise, "advertise", "", "host or IP at which others reach this worker (default: the listener's, or this machine's)")
	set.StringVar(&f.dataDir, "data-dir", "", "directory for the worker's state (default: $XDG_STATE_HOME/mcpfleet/worker-NAME)")
	set.StringVar(&f.runtime, "runtime", "auto", "runtimes that this node offers: podman for images, process for commands, or both with a comma; auto is process, and podman where it works")
	set.StringVar(&f.zone, "zone", "", "zone of this node; replicas are spread over zones")
	set.StringToStringVar(&f.labels, "label", nil, "label that servers can ask for, as key=value; comma-separated or repeated")
	set.Float64Var(&f.cpus, "cpus", 0, "how many CPUs replicas may reserve (default: those of the machine or its control group)")
	set.StringVar(&f.memory, "memory", "", "how much memory replicas may reserve, such as 4g (default: that of the machine or its control group)")
	set.StringToStringVar(&f.resources, "resource", nil, "countable resource that replicas may reserve, as gpu=2; comma-separated or repeated")
	set.IntVar(&f.maxStarts, "max-starts", 0, "how many replicas may start at once; the others wait for their turn (default: twice the CPUs)")
	set.StringVar(&f.authFile, "registry-authfile", "", "credentials for image registries, as podman login writes them")
	set.BoolVar(&f.insecure, "insecure", false, "allow listeners that other machines can reach: there is no access control yet")
	set.IntVar(&f.lifeline, "lifeline-fd", -1, "stop when the pipe at this file descriptor is closed, without waiting for replicas to move")
	set.DurationVar(&f.drainTime, "drain-timeout", agent.DefaultDrainTimeout, "on a signal to stop, how long to wait for replicas to move to other nodes; a second signal ends the wait")
	set.BoolVar(&f.checkRuntime, "check-runtime", false, "print as JSON which runtimes work here and what the machine has, and exit")
	set.StringVar(&f.logFormat, "log-format", "text", "text or json")
	set.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	set.BoolVar(&f.version, "version", false, "print the version and exit")
	envflag.Document(set)
	set.Usage = func() {
		fmt.Fprintf(out, "worker runs the replicas of one node.\n\nFlags and their environment variables:\n%s", set.FlagUsages())
	}
	err = program.Parse(set, args, lookup, func() error {
		f.node = fleet.NodeID(name)
		return f.validate()
	})
	if err != nil {
		return nil, err
	}
	f.dataGiven = f.dataDir != ""
	if !f.dataGiven {
		f.dataDir = filepath.Join(program.StateHome(lookup), "mcpfleet", "worker-"+name)
	}
	return f, nil
}

// validate returns every problem with the flags, joined. Flags that only
// worker.Run can check are left to it.
func (f *flags) validate() error {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if err := fleet.CheckNodeID(f.node); err != nil {
		wrong("--name: %w", err)
	}
	var err error
	if f.runtimes, err = fleet.ParseRuntimes(f.runtime); err != nil {
		wrong("--runtime: %w", err)
	}
	if f.advertise != "" && strings.ContainsAny(f.advertise, "/ ") {
		wrong("--advertise: must be a host, not %q", f.advertise)
	}
	if f.authFile != "" {
		if _, err := os.Stat(f.authFile); err != nil {
			wrong("--registry-authfile: %w", err)
		}
	}
	if _, err := f.overrideCapacity(fleet.Resources{}); err != nil {
		problems = append(problems, err)
	}
	if f.maxStarts < 0 {
		wrong("--max-starts: must be 1 or more, or 0 for twice the CPUs, not %d", f.maxStarts)
	}
	return errors.Join(append(problems, program.CheckLog(f.logFormat, f.logLevel))...)
}

// exposure returns the listeners, and what anyone who can reach them can do.
func (f *flags) exposure() (danger string, listeners []program.Listener) {
	return "anyone who can reach it can run programs here", []program.Listener{{Flag: "--grpc", Addr: f.grpc}, {Flag: "--gossip", Addr: f.gossip}}
}

// drain returns the drain timeout for worker.Config, which takes zero for its
// default.
func (f *flags) drain() time.Duration {
	if f.drainTime == 0 {
		return time.Nanosecond
	}
	return f.drainTime
}

// capacity returns what the node offers: --cpus and --memory, or else what the
// machine has, and --resource.
func (f *flags) capacity(root fs.FS) (fleet.Resources, error) {
	return f.overrideCapacity(worker.Capacity(root))
}

// starts returns how many replicas may start at once on a node with so many CPUs.
func (f *flags) starts(cpus float64) int {
	if f.maxStarts > 0 {
		return f.maxStarts
	}
	return max(2, int(math.Ceil(2*cpus)))
}

// overrideCapacity replaces the parts of a capacity that --cpus, --memory and
// --resource set.
func (f *flags) overrideCapacity(r fleet.Resources) (fleet.Resources, error) {
	var problems []error
	if f.cpus < 0 {
		problems = append(problems, fmt.Errorf("--cpus: must be 0 or more, not %g", f.cpus))
	}
	if f.cpus > 0 {
		r.CPUs = f.cpus
	}
	if f.memory != "" {
		n, err := fleetfile.ParseSize(strings.TrimSpace(f.memory))
		if err != nil || n <= 0 {
			problems = append(problems, fmt.Errorf("--memory: must be an amount of memory, such as 4g, not %q", f.memory))
		}
		r.Memory = n
	}
	for _, name := range slices.Sorted(maps.Keys(f.resources)) {
		n, err := parseCount(name, f.resources[name])
		if err != nil {
			problems = append(problems, fmt.Errorf("--resource: %s=%s: %w", name, f.resources[name], err))
			continue
		}
		if r.Custom == nil {
			r.Custom = map[string]int64{}
		}
		r.Custom[name] = n
	}
	return r, errors.Join(problems...)
}

// maxCount is the largest amount of a countable resource, as in a fleet file.
const maxCount = 1_000_000

// parseCount reads the amount of a countable resource.
func parseCount(name, amount string) (int64, error) {
	if name == "cpus" || name == "memory" {
		return 0, fmt.Errorf("%s is not a countable resource; its flag is --%s", name, name)
	}
	if err := fleet.CheckResource(name); err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(amount), 10, 64)
	if err != nil || n < 1 || n > maxCount {
		return 0, fmt.Errorf("the amount must be a whole number from 1 to %d, as in %s=2", maxCount, name)
	}
	return n, nil
}
