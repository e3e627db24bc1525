package up

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/envflag"
)

// address is the line that a program prints on stdout once it listens.
type address struct {
	HTTP   string `json:"http"`
	GRPC   string `json:"grpc"`
	Gossip string `json:"gossip"`
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
}

const anyPort = "127.0.0.1:0"

// controllerProgram keeps its addresses from one life to the next: workers and
// users know them.
func controllerProgram(path, dataDir, http, config string, workers int) program {
	return program{
		name: "controller", path: path,
		args: func(had address) []string {
			at, gossip := http, anyPort
			if had.HTTP != "" {
				at, gossip = had.HTTP, had.Gossip
			}
			return []string{
				"--name", "controller", "--http", at, "--gossip", gossip, "--config", config,
				"--data-dir", filepath.Join(dataDir, "controller"), "--expect-workers", strconv.Itoa(workers), lifelineFlag, lifelineFD,
			}
		},
		complete: func(a address) string {
			if a.HTTP == "" || a.Gossip == "" {
				return "http or gossip"
			}
			return ""
		},
	}
}

func workerName(i int) string { return fmt.Sprintf("worker-%d", i+1) }

func workerProgram(path, dataDir, name, join, runtime string) program {
	return program{
		name: name, path: path,
		args: func(address) []string {
			return []string{
				"--name", name, "--grpc", anyPort, "--gossip", anyPort, "--join", join, "--runtime", runtime,
				"--data-dir", filepath.Join(dataDir, name), lifelineFlag, lifelineFD,
			}
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
	"address", "advertise", "check-runtime", "config", "data-dir", "expect-workers", "gossip", "grpc", "http", "join", "lifeline-fd", "name", "output", "runtime", "workers",
}

// childEnv is the environment of a child.
func childEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.ContainsFunc(ours, func(flag string) bool { return name == envflag.Name(flag) })
	})
}
