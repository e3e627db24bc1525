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

// program is one child, and how it is started.
type program struct {
	name string
	path string
	// args returns the arguments; had is what the last life listened on, or
	// empty at first.
	args func(had address) []string
	// complete says what is missing in an address, or returns "".
	complete func(address) string
	// lifeline: it is stopped by the end of its lifeline. A worker that is told
	// by a signal would first wait for its replicas to move elsewhere.
	lifeline bool
	// known: users were told where its HTTP listens.
	known bool
}

// again returns which addresses of its last life to ask for after a start that
// went wrong: a port that others are told of anew may have gone to somebody
// else meanwhile; one that users know is worth waiting for.
func (p *program) again(had address) address {
	if p.known {
		return address{HTTP: had.HTTP}
	}
	return address{}
}

const anyPort = "127.0.0.1:0"

// controllers is what all controllers of a Run have in common.
type controllers struct {
	path, dataDir string
	config        string // "" for none
	count         int
	workers       int
	insecure      bool
	allowedHosts  []string
	ring          *ring
}

// program returns one of them. It keeps its addresses from one life to the
// next: workers, users and the other controllers know them.
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
			// Nobody waits for them to say that they are not ready, and what takes
			// longer than that is killed anyway.
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

// workers is what all workers of a Run have in common.
type workers struct {
	path, dataDir string
	runtime       string          // what they offer
	offered       fleet.Resources // by each; zero: what the worker finds
	ring          *ring
}

// program returns one of them.
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

// ours are the flags that mean something else, or nothing, to a single child:
// their variables would reach it through the environment.
var ours = []string{
	"address", "advertise", "allowed-hosts", "bootstrap-expect", "check-runtime", "config", "controllers", "data-dir", "expect-workers", "gossip", "grpc", "http", "insecure", "join",
	"lifeline-fd", "name", "output", "raft", "recover", "runtime", "workers",
}

// childEnv is the environment of a child.
func childEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.ContainsFunc(ours, func(flag string) bool { return name == envflag.Name(flag) })
	})
}
