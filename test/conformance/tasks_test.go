//go:build linux

package conformance

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

// taskScenarios are those of the suite about the tasks extension, without the one that the
// suite itself skips.
var taskScenarios = []string{
	"tasks-capability-negotiation", "tasks-dispatch-and-envelope", "tasks-lifecycle", "tasks-mrtr-composition", "tasks-mrtr-input",
	"tasks-request-headers", "tasks-request-state-removal", "tasks-required-task-error", "tasks-wire-fields",
}

// taskServers are the servers with tasks. Each has several replicas, so that a task has to
// be found.
func (s suite) taskServers() map[string]map[string]any {
	command := func(script string) []string { return []string{s.node, filepath.Join(s.fixture, script)} }
	specs := map[string]map[string]any{
		"tasks":    {"command": command("tasks.mjs"), "replicas": 3},
		"core":     {"command": command("coretasks.mjs"), "replicas": 3},
		"core-own": {"command": command("coretasks.mjs"), "sessions": "session", "warm": 2},
	}
	for _, spec := range specs {
		spec["drain_timeout"] = "1s" // clients leave tasks behind
	}
	return specs
}

// Tasks of both eras work through the fleet: the suite's scenarios pass as they do without
// it, and official clients create, follow, answer and cancel tasks.
func TestTasks(t *testing.T) {
	s := install(t)
	front := *runningFleet
	if front == "" {
		f := startFleet(t)
		for name, spec := range s.taskServers() {
			f.deploy(t, name, spec)
		}
		front = f.front
	}
	at := func(server string) string { return front + "/" + server + "/mcp" }
	t.Run("suite", func(t *testing.T) {
		direct := s.direct(t, "tasks.mjs")
		for _, scenario := range taskScenarios {
			for how, url := range map[string]string{"without the fleet": direct, "through the fleet": at("tasks")} {
				for name, got := range s.run(t, url, modern, "--force", "--scenario", scenario) {
					if !got.passed || len(got.warnings) > 0 {
						t.Errorf("%s %s: %s %v", name, how, got.why, got.warnings)
					}
				}
			}
		}
	})
	into := tsclient.Scripts(t, s.dir, sub(t, scripts, "clients"))
	for _, c := range []struct{ name, script, server, argument string }{
		{"typescript 1.32, shared server", "tasks1.mjs", "core", "shared"},
		{"typescript 1.32, server with sessions", "tasks1.mjs", "core-own", "session"},
		{"ext-tasks 0.2, core tasks", "tasks2.mjs", "core", legacy},
		{"ext-tasks 0.2, the extension", "tasks2.mjs", "tasks", modern},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.check(t, []string{s.node, filepath.Join(into, c.script)}, at(c.server), c.argument, "")
			for _, check := range slices.Sorted(maps.Keys(got)) {
				if failed(got[check]) {
					t.Errorf("%s: %s", check, got[check])
				}
			}
			t.Logf("%d checks", len(got))
		})
	}
}
