package up

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/envflag"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// address is the line that a program prints on stdout once it listens.
type address struct {
	HTTP   string `json:"http"`
	GRPC   string `json:"grpc"`
	Gossip string `json:"gossip"`
	Raft   string `json:"raft"`
}

// program is a program to run as a child process.
type program struct {
	name string
	path string
	// args returns the arguments. had is the address of the previous process,
	// empty for the first one.
	args func(had address) []string
	// complete returns the parts that an address lacks, or "".
	complete func(address) string
	// lifeline is set if the program is stopped by the end of its lifeline. A
	// worker that gets a signal would first wait for its replicas to move.
	lifeline bool
	// known is set if users know its HTTP address.
	known bool
}

// addressForRetry returns the parts of the previous address to keep after a
// failed start. Another program may use a port by now, so ports are chosen again.
// The HTTP port that users know is kept, since it may become free again.
func (p *program) addressForRetry(had address) address {
	if p.known {
		return address{HTTP: had.HTTP}
	}
	return address{}
}

const anyPort = "127.0.0.1:0"

// controllers has the common settings of the controllers of a Run.
type controllers struct {
	path, dataDir string
	config        string // may be ""
	count         int
	workers       int
	insecure      bool
	allowedHosts  []string
	legacySSE     bool
	ring          *ring
}

// program returns the program for one controller. A restarted controller keeps
// its addresses, which workers, users and the other controllers know.
func (c *controllers) program(name, http string) program {
	return program{
		name: name, path: c.path,
		args: func(had address) []string {
			args := []string{
				"--name", name, "--http", cmp.Or(had.HTTP, http), "--gossip", cmp.Or(had.Gossip, anyPort), "--raft", cmp.Or(had.Raft, anyPort),
				"--bootstrap-expect", strconv.Itoa(c.count),
			}
			if others := c.ring.others(name); len(others) > 0 {
				args = append(args, "--join", strings.Join(others, ","))
			}
			if c.config != "" {
				args = append(args, "--config", c.config)
			}
			if c.insecure {
				args = append(args, "--insecure")
			}
			if len(c.allowedHosts) > 0 {
				args = append(args, "--allowed-hosts", strings.Join(c.allowedHosts, ","))
			}
			if c.legacySSE {
				args = append(args, "--legacy-sse")
			}
			// No load balancer watches /readyz here. A controller that takes longer
			// than this to stop is killed anyway.
			args = append(args, "--shutdown-delay", "0s", "--drain-timeout", "5s")
			return append(args, "--data-dir", filepath.Join(c.dataDir, name), "--expect-workers", strconv.Itoa(c.workers), lifelineFlag, lifelineFD)
		},
		complete: func(a address) string {
			switch {
			case a.HTTP == "" || a.Gossip == "":
				return "http or gossip"
			case a.Raft == "" && c.count > 1:
				return "raft"
			}
			return ""
		},
	}
}

func workerName(i int) string { return fmt.Sprintf("worker-%d", i+1) }

// workers has the common settings of the workers of a Run.
type workers struct {
	path, dataDir string
	runtime       string          // the value of --runtime
	offered       fleet.Resources // by each worker; zero for what it finds
	ring          *ring
}

// program returns the program for one worker.
func (w *workers) program(name string) program {
	return program{
		name: name, path: w.path, lifeline: true,
		args: func(address) []string {
			args := []string{
				"--name", name, "--grpc", anyPort, "--gossip", anyPort, "--join", strings.Join(w.ring.others(name), ","), "--runtime", w.runtime,
			}
			if w.offered.CPUs > 0 {
				args = append(args, "--cpus", strconv.FormatFloat(w.offered.CPUs, 'f', -1, 64))
			}
			if w.offered.Memory > 0 {
				args = append(args, "--memory", strconv.FormatInt(w.offered.Memory, 10))
			}
			return append(args, "--data-dir", filepath.Join(w.dataDir, name), lifelineFlag, lifelineFD)
		},
		complete: func(a address) string {
			if a.GRPC == "" || a.Gossip == "" {
				return "grpc or gossip"
			}
			return ""
		},
	}
}

// ownFlags are the flags whose environment variables must not reach a child,
// since they mean something else there, or nothing.
var ownFlags = []string{
	"address", "advertise", "allowed-hosts", "bootstrap-expect", "check-runtime", "config", "controllers", "data-dir", "expect-workers", "gossip", "grpc", "http", "insecure", "join", "legacy-sse",
	"lifeline-fd", "name", "output", "raft", "recover", "runtime", "workers",
}

// childEnv returns the environment of a child.
func childEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.ContainsFunc(ownFlags, func(flag string) bool { return name == envflag.Name(flag) })
	})
}
