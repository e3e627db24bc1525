//go:build linux

package conformance

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

//go:embed packages/*/package.json packages/*/package-lock.json packages/*/.npmrc
var packages embed.FS

//go:embed fixture/*.mjs
var fixture embed.FS

// The revisions of MCP whose scenarios the suite has.
const (
	legacy = "2025-11-25"
	modern = "2026-07-28"
)

const (
	scenarioTimeout = 15 * time.Second // of one scenario
	suiteTimeout    = 4 * time.Minute  // of all scenarios of a revision
)

// suite is an installed conformance suite with the fixtures.
type suite struct {
	node    string // a node that is new enough for the suite
	dir     string // of the packages
	fixture string // directory of the fixtures
}

// outcome is the result of one scenario.
type outcome struct {
	passed   bool
	why      string            // the first check that did not pass
	warnings map[string]string // of checks of what the specification only recommends
}

// install installs the suite, the SDKs and a node for them.
func install(t testing.TB) suite {
	t.Helper()
	dir := tsclient.InstallVersion(t, "conformance", sub(t, packages, "packages/suite"))
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	node := filepath.Join(dir, "node_modules", "node-linux-"+arch, "bin", "node")
	if _, err := os.Stat(node); err != nil {
		t.Skipf("npm has no node for this machine: %v", err)
	}
	return suite{node: node, dir: dir, fixture: tsclient.Scripts(t, dir, sub(t, fixture, "fixture"))}
}

func sub(t testing.TB, of fs.FS, dir string) fs.FS {
	t.Helper()
	s, err := fs.Sub(of, dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs all scenarios of a revision against a server, one after the other, and
// returns their outcomes by name. Scenarios of extensions are not among them. only are
// arguments that choose other scenarios, whichever.
func (s suite) run(t testing.TB, url, revision string, only ...string) map[string]outcome {
	t.Helper()
	out := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), suiteTimeout)
	defer cancel()
	args := []string{
		"node_modules/@modelcontextprotocol/conformance/dist/index.js", "server", "--url", url,
		"--output-dir", out, "--timeout", strconv.Itoa(int(scenarioTimeout / time.Millisecond)),
	}
	if len(only) == 0 {
		args = append(args, "--requirements", revision)
	} else {
		args = append(append(args, "--spec-version", revision), only...)
	}
	cmd := exec.CommandContext(ctx, s.node, args...)
	cmd.Dir, cmd.WaitDelay = s.dir, time.Second
	text, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && (ctx.Err() != nil || !errors.As(err, &exit)) {
		t.Errorf("the suite did not end: %v\n%s", err, tail(text))
	}
	results, err := read(out)
	if err != nil {
		t.Fatalf("results of the suite: %v\n%s", err, tail(text))
	}
	for _, line := range strings.Split(string(text), "\n") {
		// A scenario that threw has no results.
		if m := thrown.FindStringSubmatch(line); m != nil {
			if _, ok := results[m[1]]; !ok {
				results[m[1]] = outcome{why: "it failed before its first check"}
			}
		}
	}
	if len(only) == 0 {
		maps.DeleteFunc(results, func(scenario string, _ outcome) bool { return extension(scenario) })
	}
	return results
}

// thrown is a line of the suite's summary for a scenario that did not pass.
var thrown = regexp.MustCompile(`^✗ ([a-z0-9-]+):`)

// extension reports whether a scenario is about an extension of MCP, which the SDKs do not
// have either: see TestTasks.
func extension(scenario string) bool { return strings.HasPrefix(scenario, "tasks-") }

// resultDir is the name of a directory with the results of a scenario.
var resultDir = regexp.MustCompile(`^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$`)

// read reads the results that the suite has written.
func read(dir string) (map[string]outcome, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	results := map[string]outcome{}
	for _, e := range entries {
		m := resultDir.FindStringSubmatch(e.Name())
		if m == nil {
			return nil, fmt.Errorf("what is %s?", e.Name())
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name(), "checks.json"))
		if err != nil {
			return nil, err
		}
		if results[m[1]], err = judge(b); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
	}
	if len(results) == 0 {
		return nil, errors.New("there are none")
	}
	return results, nil
}

// judge returns the outcome of a scenario with these checks.
func judge(checks []byte) (outcome, error) {
	var list []struct {
		ID           string
		Status       string
		ErrorMessage string
	}
	if err := json.Unmarshal(checks, &list); err != nil {
		return outcome{}, err
	}
	o := outcome{warnings: map[string]string{}}
	for _, c := range list {
		switch c.Status {
		case "FAILURE":
			return outcome{why: c.ID + ": " + c.ErrorMessage}, nil
		case "WARNING":
			o.warnings[c.ID] = c.ErrorMessage
		case "SUCCESS":
			o.passed = true
		}
	}
	if !o.passed && len(o.warnings) == 0 {
		o.why = "no check succeeded"
	}
	o.passed = o.why == ""
	return o, nil
}

// tail returns the last lines of an output.
func tail(b []byte) []byte { return b[max(0, len(b)-3000):] }
