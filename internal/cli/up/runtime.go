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

// machine is what `worker --check-runtime` prints, as one line of JSON: what
// can run here and what there is to share.
type machine struct {
	Runtimes []string `json:"runtimes"`
	Reason   string   `json:"reason"` // why podman is not among them, if it was not left out on purpose
	CPUs     float64  `json:"cpus"`
	Memory   int64    `json:"memory"`
}

// askMachine asks the worker program once what works on this machine, so that
// all workers do the same.
func askMachine(ctx context.Context, l *launcher, worker, runtime string) (machine, error) {
	answer, err := l.output(ctx, "check-runtime", worker,
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

// String tells the user what runs how.
func (m *machine) String() string {
	var how []string
	if m.offers(fleet.RuntimePodman) {
		how = append(how, "images run in containers")
	} else if m.Reason != "" {
		how = append(how, "images cannot run: "+short(m.Reason))
	}
	if m.offers(fleet.RuntimeProcess) {
		how = append(how, "commands run as plain processes, without isolation")
	}
	return "runtime " + m.runtime() + ": " + strings.Join(how, "; ")
}

// short cuts a reason that quotes what podman said. The log of the check has all
// of it.
func short(reason string) string { return progress.Shorten(reason, 200) }

// cannotRun returns the servers of the file that nothing here can run, and says
// in words which they are and why.
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
		reason := short(m.Reason)
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

// runnable refuses a file of which nothing can run here. Of one that can run in
// part it says what cannot.
func runnable(f *fleetfile.File, m *machine) (warning string, err error) {
	cannot, why := m.cannotRun(f)
	switch {
	case len(cannot) == 0:
		return "", nil
	case len(cannot) == len(f.Servers):
		return "", errors.New("no server can start: " + why)
	}
	return fmt.Sprintf("%d of %d servers cannot run here: %s", len(cannot), len(f.Servers), why), nil
}

// share is what each worker offers: what was asked for, or else its part of
// the machine.
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

// workersFor chooses how many workers to run: three, or fewer where a server of
// the file wants more than a third of the machine, and then why.
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
			return cfg.Workers, fmt.Sprintf("%d of %d workers run, so that every server of the file has room on one; --workers says how many", cfg.Workers, defaultWorkers)
		}
	}
	return defaultWorkers, "" // nothing helps
}

// tooBig says which servers of the file want more than any worker offers.
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
	return "no room: " + strings.Join(parts, "; ") + "; take fewer --workers, or say --cpus and --memory"
}
