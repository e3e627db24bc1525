//go:build linux

package conformance

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/mcpfleet/mcpfleet/test/harness"
	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

//go:embed clients/*.mjs
var scripts embed.FS

// clientTimeout limits all checks of one client.
const clientTimeout = 3 * time.Minute

// sdks are the clients, and the revisions that each one speaks. Those in Go are in a
// module of their own, since the fleet itself needs only one version of one of them.
// Neither Debian nor npm has a client in another language: what npm has is on the
// TypeScript SDK.
var sdks = []struct {
	name   string
	script string   // of the TypeScript clients
	build  []string // arguments of go build, of the Go clients
	eras   []string
}{
	{name: "typescript 1.32", script: "ts1.mjs", eras: []string{legacy}},
	{name: "typescript 2.4", script: "ts2.mjs", eras: []string{legacy, modern}},
	{name: "go-sdk 1.7", build: []string{"-modfile=v1.7.mod", "./gosdk"}, eras: []string{legacy, modern}},
	{name: "go-sdk 1.8", build: []string{"./gosdk"}, eras: []string{legacy, modern}},
	{name: "mcp-go 1.2", build: []string{"./mcpgo"}, eras: []string{legacy, modern}},
}

// shared is the legacy fixture as a server that all clients share. With it a modern client
// can do what it cannot where each of its requests has a replica to itself.
const shared = "shared"

// Every official client can do with each server through the fleet what it can do
// without it. Two clients at once, with different capabilities, never see each other's
// requests.
func TestClients(t *testing.T) {
	s := install(t)
	notes := t.TempDir()
	t.Setenv("FIXTURE_NOTES", notes)
	commands := s.commands(t)
	front := *runningFleet
	if front == "" {
		f := startFleet(t)
		for name := range fixtures {
			spec := s.spec(name)
			spec["env"] = map[string]string{"FIXTURE_NOTES": notes}
			f.deploy(t, name, spec)
		}
		spec := s.spec("legacy")
		delete(spec, "sessions")
		delete(spec, "warm")
		spec["env"], spec["replicas"] = map[string]string{"FIXTURE_NOTES": notes}, 2
		f.deploy(t, shared, spec)
		front = f.front
	}
	direct := map[string]string{}
	for name, f := range fixtures {
		direct[name] = s.direct(t, f.script)
	}
	var rows []string
	for i, sdk := range sdks {
		for _, c := range append(slices.Clone(cells), cell{modern, shared}) {
			if !slices.Contains(sdk.eras, c.wire) {
				continue
			}
			t.Run(sdk.name+", "+c.String(), func(t *testing.T) {
				name := fmt.Sprintf("%d%s%s", i, c.wire, c.server)
				if _, ok := fixtures[c.server].revisions[c.wire]; ok && *checkClients {
					without := s.check(t, commands[i], direct[c.server], c.wire, "direct"+name)
					for _, check := range slices.Sorted(maps.Keys(without)) {
						if failed(without[check]) {
							t.Errorf("without the fleet, %s fails: %s", check, without[check])
						}
					}
				}
				got := s.check(t, commands[i], front+"/"+c.server+"/mcp", c.wire, name)
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s", sdk.name, c.wire, c.server, summary(got)))
				for _, check := range slices.Sorted(maps.Keys(got)) {
					reason, isException := exceptedChecks[c][check]
					switch {
					case failed(got[check]) && !isException:
						t.Errorf("%s: %s", check, got[check])
					case !failed(got[check]) && isException:
						t.Errorf("%s passes, although %s: remove it from the exceptions", check, reason)
					}
				}
			})
		}
	}
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SDK\tCLIENT\tSERVER\tFAILED CHECKS")
	for _, row := range rows {
		fmt.Fprintln(w, row)
	}
	w.Flush()
	t.Logf("official clients through the fleet:\n%s", &table)
}

// failed reports whether a check failed, by what the client says about it.
func failed(why string) bool { return why != "" && !strings.HasPrefix(why, "skip: ") }

// summary names the checks that failed.
func summary(results map[string]string) string {
	var names []string
	for _, check := range slices.Sorted(maps.Keys(results)) {
		if failed(results[check]) {
			names = append(names, check)
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("none of %d", len(results))
	}
	return strings.Join(names, " ")
}

// commands builds the Go clients and returns the commands of all.
func (s suite) commands(t *testing.T) [][]string {
	t.Helper()
	into := tsclient.Scripts(t, s.dir, sub(t, scripts, "clients"))
	bin := t.TempDir()
	commands := make([][]string, len(sdks))
	for i, sdk := range sdks {
		if sdk.build == nil {
			commands[i] = []string{s.node, filepath.Join(into, sdk.script)}
			continue
		}
		program := filepath.Join(bin, fmt.Sprint(i))
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-trimpath", "-o", program}, sdk.build...)...)
		cmd.Dir, cmd.Env = filepath.Join("clients", "gosdks"), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", sdk.name, err, out)
		}
		commands[i] = []string{program}
	}
	if err := harness.DependOn("test/conformance"); err != nil {
		t.Fatal(err)
	}
	return commands
}

// check runs all checks of a client and returns why each one failed, or "".
func (s suite) check(t *testing.T, command []string, url, revision, name string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], append(command[1:], url, revision, name)...)
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	out, err := cmd.Output()
	var results map[string]string
	if err == nil {
		err = json.Unmarshal(bytes.TrimSpace(out), &results)
	}
	if err != nil {
		return map[string]string{"run": fmt.Sprintf("%v\n%s\n%s", err, tail(out), tail(stderr.Bytes()))}
	}
	return results
}
