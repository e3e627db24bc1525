package up

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
)

// machine is the output of `worker --check-runtime`, one line of JSON: which
// runtimes work here, and the resources of the machine.
type machine struct {
	Runtimes []string `json:"runtimes"`
	Reason   string   `json:"reason"` // why --runtime auto leaves podman out
	CPUs     float64  `json:"cpus"`
	Memory   int64    `json:"memory"`
}

// checkMachine runs `worker --check-runtime` once, so that all workers get the
// same --runtime.
func checkMachine(ctx context.Context, l *launcher, worker, runtime string) (machine, error) {
	answer, err := l.run(ctx, "check-runtime", worker,
		"--check-runtime", "--runtime", runtime, "--data-dir", filepath.Join(l.dir.path, "check-runtime"))
	if err != nil {
		return machine{}, fmt.Errorf("--runtime %s: %w", runtime, err)
	}
	var m machine
	if err := json.Unmarshal(answer, &m); err != nil || len(m.Runtimes) == 0 {
		return machine{}, fmt.Errorf("worker --check-runtime answered %q", answer)
	}
	return m, nil
}

func (m *machine) runtime() string { return strings.Join(m.Runtimes, ",") }

func (m *machine) offers(runtime string) bool { return slices.Contains(m.Runtimes, runtime) }

// String describes the runtimes for the user.
func (m *machine) String() string {
	var how []string
	if m.offers(fleet.RuntimePodman) {
		how = append(how, "images run in containers")
	} else if m.Reason != "" {
		how = append(how, "images cannot run: "+shortReason(m.Reason))
	}
	if m.offers(fleet.RuntimeProcess) {
		how = append(how, "commands run as plain processes, without isolation")
	}
	return "runtime " + m.runtime() + ": " + strings.Join(how, "; ")
}

// shortReason shortens a reason that quotes podman's output. The log of the check
// has the full text.
func shortReason(reason string) string { return progress.Shorten(reason, 200) }

// cannotRun returns the servers of the file that cannot run here, and the reasons
// in words.
func (m *machine) cannotRun(f *fleetfile.File) (servers []fleet.ServerName, why string) {
	var images, commands []string
	for _, name := range f.Names() {
		spec := f.Servers[name]
		if fleet.CanRun(m.Runtimes, &spec.Template) {
			continue
		}
		servers = append(servers, name)
		if spec.NeededRuntime() == fleet.RuntimePodman {
			images = append(images, string(name))
		} else {
			commands = append(commands, string(name))
		}
	}
	var parts []string
	if len(images) > 0 {
		reason := shortReason(m.Reason)
		if reason == "" {
			reason = "--runtime " + m.runtime() + " leaves it out"
		}
		parts = append(parts, fmt.Sprintf("%s: an image needs podman (%s)", strings.Join(images, ", "), reason))
	}
	if len(commands) > 0 {
		parts = append(parts, fmt.Sprintf("%s: a command needs --runtime podman,process, not %s alone", strings.Join(commands, ", "), m.runtime()))
	}
	return servers, strings.Join(parts, "; ")
}

// checkRunnable returns an error if no server of the file can run here. If some
// can run, it returns a warning about the others.
func checkRunnable(f *fleetfile.File, m *machine) (warning string, err error) {
	cannot, why := m.cannotRun(f)
	switch {
	case len(cannot) == 0:
		return "", nil
	case len(cannot) == len(f.Servers):
		return "", errors.New("no server can start: " + why)
	}
	return fmt.Sprintf("%d of %d servers cannot run here: %s", len(cannot), len(f.Servers), why), nil
}

// share returns what each worker offers: --cpus and --memory, or else an equal
// part of the machine.
func (m *machine) share(cfg *Config) fleet.Resources {
	r := fleet.Resources{CPUs: cfg.CPUs, Memory: cfg.memory()}
	if r.CPUs == 0 && m.CPUs > 0 {
		r.CPUs = max(math.Floor(m.CPUs/float64(cfg.Workers)*100)/100, 0.01)
	}
	if r.Memory == 0 {
		r.Memory = m.Memory / int64(cfg.Workers)
	}
	return r
}

// workersFor chooses the number of workers: three, or fewer if a server of the
// file needs more than a third of the machine. In the latter case why says so.
func (m *machine) workersFor(f *fleetfile.File, cfg Config) (workers int, why string) {
	if f == nil {
		return defaultWorkers, ""
	}
	cfg.Workers = defaultWorkers
	big := tooBig(f, m.share(&cfg), cfg.Workers)
	if big == "" {
		return defaultWorkers, ""
	}
	for cfg.Workers--; cfg.Workers > 0; cfg.Workers-- {
		if tooBig(f, m.share(&cfg), cfg.Workers) == "" {
			return cfg.Workers, fmt.Sprintf("running %d instead of %d workers, so that every server of the file has room on one; --workers sets the number", cfg.Workers, defaultWorkers)
		}
	}
	return defaultWorkers, "" // the server fits nowhere
}

// tooBig names the servers of the file that need more than a worker offers. It
// returns "" if there are none.
func tooBig(f *fleetfile.File, offered fleet.Resources, workers int) string {
	var parts []string
	for _, name := range f.Names() {
		want := f.Servers[name].Resources
		if want.CPUs > offered.CPUs && offered.CPUs > 0 {
			parts = append(parts, fmt.Sprintf("%s wants %g cpus and each of %d workers offers %g", name, want.CPUs, workers, offered.CPUs))
		}
		if want.Memory > offered.Memory && offered.Memory > 0 {
			parts = append(parts, fmt.Sprintf("%s wants %d MiB of memory and each of %d workers offers %d", name, want.Memory>>20, workers, offered.Memory>>20))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "no room: " + strings.Join(parts, "; ") + "; use fewer --workers, or set --cpus and --memory"
}
