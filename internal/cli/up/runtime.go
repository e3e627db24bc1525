package up

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
)

// noContainers says why containers would be no use for the servers of a file,
// or of the demo program without one; "" is that they are.
func noContainers(file *fleetfile.File, demo string) string {
	if file == nil {
		if err := static(demo); err != nil {
			return "no container for the demo server: " + err.Error()
		}
		return ""
	}
	for _, spec := range file.Servers {
		if spec.Image != "" {
			return ""
		}
	}
	return "all servers are commands"
}

// runnable refuses a fleet of which nothing can run here.
func runnable(f *fleetfile.File, rt runtimeChoice) error {
	var not []string
	for _, name := range f.Names() {
		if spec := f.Servers[name]; (spec.Image != "") != (rt.Runtime == "podman") {
			not = append(not, string(name))
		}
	}
	if len(not) < len(f.Servers) || len(not) == 0 {
		return nil // the others are listed once it is known
	}
	if rt.Runtime == "podman" {
		return fmt.Errorf("no server can start: %s: a command needs --runtime process", strings.Join(not, ", "))
	}
	why := "with --runtime process"
	if rt.Reason != "" {
		why = rt.Reason
	}
	return fmt.Errorf("no server can start: %s: an image needs podman (%s)", strings.Join(not, ", "), why)
}

// runtimeChoice is what `worker --check-runtime` prints, as one line of JSON.
type runtimeChoice struct {
	Runtime string `json:"runtime"` // podman or process
	Reason  string `json:"reason"`
}

// String tells the user.
func (r runtimeChoice) String() string {
	s := "runtime " + r.Runtime
	if r.Reason != "" {
		s += ": " + r.Reason
	}
	if r.Runtime == "process" {
		s += "; servers run as plain processes, without isolation"
	}
	return s
}

// runtimeFor finds what replicas are to run with: what was asked for, or else
// what they had before, for what is deployed was meant for that; or else what
// works here, unless containers are no use, for the reason given.
func runtimeFor(ctx context.Context, l *launcher, worker, wanted string, before runtimeChoice, noContainers string) (runtimeChoice, error) {
	switch {
	case wanted == "auto" && before.Runtime != "":
		return before, nil
	case wanted == "auto" && noContainers != "":
		return runtimeChoice{Runtime: "process", Reason: noContainers}, nil
	}
	return chooseRuntime(ctx, l, worker, wanted)
}

// chooseRuntime asks the worker program once what works on this machine, so
// that all workers do the same and podman is tried once. Plain processes work
// everywhere.
func chooseRuntime(ctx context.Context, l *launcher, worker, wanted string) (runtimeChoice, error) {
	if wanted == "process" {
		return runtimeChoice{Runtime: wanted}, nil
	}
	answer, err := l.output(ctx, "check-runtime", worker,
		"--check-runtime", "--runtime", wanted, "--data-dir", filepath.Join(l.dir.path, "check-runtime"))
	if err != nil {
		return runtimeChoice{}, fmt.Errorf("--runtime %s: %w", wanted, err)
	}
	var choice runtimeChoice
	if err := json.Unmarshal(answer, &choice); err != nil || choice.Runtime != "podman" && choice.Runtime != "process" {
		return runtimeChoice{}, fmt.Errorf("worker --check-runtime answered %q", answer)
	}
	return choice, nil
}
