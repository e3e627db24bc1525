//go:build linux

package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

var set = flag.String("servers", "short", "which servers to compare: short, or all")

const (
	atOnce   = 2
	patience = 3 * time.Minute // of a machine that is busy with other tests
)

// server is an entry of servers.json. In args, env, files and calls, the word DIR
// stands for the server's own directory, which is its home and working directory.
type server struct {
	Name    string
	Package string
	Bin     string // one of several programs of a package
	Args    []string
	Env     map[string]string
	Files   map[string]string // files that exist before the start, by path in DIR
	Calls   []call
	Fails   string // why it starts under neither client
	Short   bool   // part of make test
}

type call struct {
	Tool string          `json:"tool"`
	Args json.RawMessage `json:"args"`
	// Outcome is set if the answer depends on a network or the time. Then only its
	// kind is compared: a result, a result that is an error, or a JSON-RPC error.
	Outcome bool `json:"outcome"`
	// Environment is set if the answer is the server's environment, in JSON. It
	// must have every variable that the official client passes.
	Environment bool `json:"environment"`
}

// view is what a client sees of a server.
type view struct {
	Starts bool
	Error  string // of the start
	Stderr string
	Tools  []map[string]any
	Calls  []answer
}

type answer struct {
	Result map[string]any
	Error  *struct {
		Code    int
		Message string
	}
}

// kind returns the part of an answer that does not depend on the network.
func (a answer) kind() string {
	switch {
	case a.Error != nil:
		return fmt.Sprintf("JSON-RPC error %d", a.Error.Code)
	case a.Result["isError"] == true:
		return "result that is an error"
	}
	return "result"
}

func TestServers(t *testing.T) {
	if *set != "short" && *set != "all" {
		t.Fatalf("-servers must be short or all, not %q", *set)
	}
	servers := readServers(t)
	if *set == "short" {
		servers = slices.DeleteFunc(servers, func(s *server) bool { return !s.Short })
	}
	packages := tsclient.Install(t, "interop/"+*set, os.DirFS(filepath.Join("packages", *set)))
	script, err := os.ReadFile("view.mjs")
	if err == nil {
		err = os.WriteFile(filepath.Join(packages, "view.mjs"), script, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	// Variables of a login shell that the official client passes on.
	for name, value := range map[string]string{"USER": "somebody", "LOGNAME": "somebody", "SHELL": "/bin/sh", "TERM": "xterm"} {
		t.Setenv(name, value)
	}
	client := startFleet(t)
	var mu sync.Mutex
	rows := map[string]string{}
	room := make(chan struct{}, atOnce)
	t.Run("each", func(t *testing.T) {
		for _, s := range servers {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				room <- struct{}{}
				defer func() { <-room }()
				row := s.compare(t, client, packages)
				mu.Lock()
				defer mu.Unlock()
				rows[s.Name] = row
			})
		}
	})
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVER\tPACKAGE\tCLIENT\tFLEET\tTOOLS\tCALLS\tEQUAL")
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintln(w, rows[name])
	}
	w.Flush()
	t.Logf("%d servers compared:\n%s", len(rows), &table)
	if *set == "all" && len(rows) < 25 {
		t.Errorf("only %d servers were compared, want 25 or more", len(rows))
	}
}

func readServers(t *testing.T) []*server {
	t.Helper()
	b, err := os.ReadFile("servers.json")
	if err != nil {
		t.Fatal(err)
	}
	var servers []*server
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&servers); err != nil {
		t.Fatalf("servers.json: %v", err)
	}
	return servers
}

// The packages are pinned, have the same versions in both sets, and are those of
// servers.json.
func TestPackages(t *testing.T) {
	sets := map[string]map[string]string{}
	for _, name := range []string{"all", "short"} {
		var p struct{ Dependencies map[string]string }
		b, err := os.ReadFile(filepath.Join("packages", name, "package.json"))
		if err == nil {
			err = json.Unmarshal(b, &p)
		}
		if err != nil {
			t.Fatal(err)
		}
		sets[name] = p.Dependencies
		for dependency, version := range p.Dependencies {
			if strings.Trim(version, "0123456789.") != "" || version != sets["all"][dependency] {
				t.Errorf("%s in %s: version %q is not exact, or not that of the full set: %q", dependency, name, version, sets["all"][dependency])
			}
		}
		lock, err := os.ReadFile(filepath.Join("packages", name, "package-lock.json"))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(lock, []byte(`"resolved"`)) {
			t.Errorf("the lock file of %s names a registry: make it with npm's omit-lockfile-registry-resolved", name)
		}
	}
	names := map[string]bool{}
	for _, s := range readServers(t) {
		if names[s.Name] {
			t.Errorf("%s is there twice", s.Name)
		}
		names[s.Name] = true
		if sets["all"][s.Package] == "" || s.Short && sets["short"][s.Package] == "" {
			t.Errorf("%s: package %s is not installed where it is needed", s.Name, s.Package)
		}
	}
	if len(names) < 25 {
		t.Errorf("%d servers, want 25 or more", len(names))
	}
}

// compare runs a server under both clients and returns the row of the report.
func (s *server) compare(t *testing.T, client *api.Client, packages string) string {
	dir := filepath.Join(t.TempDir(), "home")
	command, err := s.command(packages, dir)
	if err != nil {
		t.Fatal(err)
	}
	env := s.expand(dir)
	s.prepare(t, dir)
	want := s.official(t, packages, dir, command, env)
	s.prepare(t, dir)
	got := s.fleet(t, client, dir, command, env)

	state := map[bool]string{true: "starts", false: "fails"}
	equal := "yes"
	differ := func(format string, args ...any) {
		t.Helper()
		equal = "NO"
		t.Errorf(format, args...)
	}
	switch {
	case want.Starts != got.Starts:
		differ("with the official client it %s, in the fleet it %s\nclient: %s\n%s\nfleet: %s", state[want.Starts], state[got.Starts], want.Error, want.Stderr, got.Error)
	case want.Starts == (s.Fails != ""):
		differ("it %s in both, servers.json says otherwise: %s %s\n%s", state[want.Starts], s.Fails, want.Error, want.Stderr)
	case want.Starts:
		for _, d := range toolDifferences(want.Tools, got.Tools) {
			differ("%s", d)
		}
		for i, c := range s.Calls {
			if d := c.difference(want.Calls[i], got.Calls[i]); d != "" {
				differ("%s %s: %s", c.Tool, c.Args, d)
			}
		}
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%d\t%s", s.Name, s.Package, state[want.Starts], state[got.Starts], len(got.Tools), len(got.Calls), equal)
}

// prepare creates a fresh directory for the server.
func (s *server) prepare(t *testing.T, dir string) {
	t.Helper()
	err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755))
	for name, text := range s.Files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// official returns the official client's view of the server.
func (s *server) official(t *testing.T, packages, dir string, command []string, env map[string]string) view {
	t.Helper()
	ask, err := json.Marshal(map[string]any{"command": command, "env": env, "cwd": dir, "calls": s.Calls})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "view.mjs", string(ask))
	cmd.Dir = packages
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var v view
	if err == nil {
		err = json.Unmarshal(out, &v)
	}
	if err != nil {
		t.Fatalf("the official client: %v\n%s\n%s", err, out, &stderr)
	}
	if v.Starts && len(v.Calls) != len(s.Calls) {
		t.Fatalf("the official client made %d calls of %d", len(v.Calls), len(s.Calls))
	}
	return v
}

// fleet returns the fleet's view of the server.
func (s *server) fleet(t *testing.T, client *api.Client, dir string, command []string, env map[string]string) view {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	name := fleet.ServerName(s.Name)
	spec, err := json.Marshal(map[string]any{"command": command, "env": env, "cwd": dir, "replicas": 1})
	if err == nil {
		_, err = client.PutServer(ctx, name, spec, api.WriteOptions{})
	}
	if err != nil {
		t.Fatalf("deploy: %v", err)
	}
	defer s.remove(t, client)
	var v view
	harness.Eventually(t, patience, func() error {
		found, err := client.GetServer(ctx, name, api.ReadOptions{})
		switch {
		case err != nil:
			return fmt.Errorf("view it through the fleet: %w", err)
		case found.State == fleet.StateReady:
			v.Starts = true
		case len(found.LastEnded) > 0:
			v.Error = found.Reason
		default:
			return fmt.Errorf("%s is %s: %s", name, found.State, found.Reason)
		}
		return nil
	})
	if !v.Starts {
		return v
	}
	if err := getJSON(ctx, client.Address()+"/"+s.Name+"/tools", &struct {
		Tools *[]map[string]any `json:"tools"`
	}{&v.Tools}); err != nil {
		t.Fatalf("list tools: %v", err)
	}
	for _, c := range s.Calls {
		raw, err := client.Call(ctx, fleet.Scope(name), api.CallRequest{ToolName: c.Tool, ToolArgs: c.Args})
		var a answer
		refused := new(api.Error)
		switch {
		case err == nil:
			if err := json.Unmarshal(raw, &a.Result); err != nil {
				t.Fatalf("result of %s: %v in %s", c.Tool, err, raw)
			}
		case errors.As(err, &refused) && refused.Code == api.CodeToolError:
			if err := json.Unmarshal(refused.RPC, &a.Error); err != nil {
				t.Fatalf("error of %s: %v in %s", c.Tool, err, refused.RPC)
			}
		default:
			t.Errorf("call %s: %v", c.Tool, err)
		}
		v.Calls = append(v.Calls, a)
	}
	return v
}

// remove removes the server from the fleet, and waits until its replicas are gone.
func (s *server) remove(t *testing.T, client *api.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	name := fleet.ServerName(s.Name)
	if _, err := client.Delete(ctx, name, api.WriteOptions{}); err != nil {
		t.Errorf("delete: %v", err)
		return
	}
	err := harness.Poll(patience, func() error {
		replicas, err := client.Replicas(ctx)
		if err == nil && slices.ContainsFunc(replicas, func(r api.Replica) bool { return r.Server == name }) {
			err = errors.New("there are still replicas")
		}
		return err
	})
	if err != nil {
		t.Errorf("wait for the end of %s: %v", name, err)
	}
}

func inDir(words []string, dir string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strings.ReplaceAll(w, "DIR", dir)
	}
	return out
}

// toolDifferences compares all members of each tool that the official client sees,
// in order. The fleet adds members of its own, and has some under another name.
func toolDifferences(want, got []map[string]any) (out []string) {
	if len(want) != len(got) {
		return []string{fmt.Sprintf("it has %d tools, the official client sees %d", len(got), len(want))}
	}
	differ := map[string]int{} // tools, by member
	for i, w := range want {
		for _, member := range slices.Sorted(maps.Keys(w)) {
			there, ok := got[i][member]
			if !ok {
				there, ok = got[i][ourNames[member]]
			}
			if ok && reflect.DeepEqual(there, w[member]) {
				continue
			}
			if differ[member]++; differ[member] == 1 {
				out = append(out, fmt.Sprintf("tool %d, %v: member %s is\n%s\nthe official client sees\n%s", i, w["name"], member, encoded(there), encoded(w[member])))
			}
		}
	}
	if len(out) > 0 {
		out = append(out, fmt.Sprintf("tools that differ, by member: %v", differ))
	}
	return out
}

// ourNames maps the members that GET /tools also has under snake-case names.
var ourNames = map[string]string{"inputSchema": "input_schema", "outputSchema": "output_schema"}

func (c *call) difference(want, got answer) string {
	switch {
	case want.kind() != got.kind():
		return fmt.Sprintf("a %s, the official client gets a %s\n%s\n%s", got.kind(), want.kind(), encoded(got), encoded(want))
	case c.Environment:
		return environmentDifference(want, got)
	case c.Outcome, reflect.DeepEqual(want.Result, got.Result) && want.message() == officialPrefix(got)+got.message():
		return ""
	}
	return fmt.Sprintf("the answer is\n%s\nthe official client gets\n%s", encoded(got), encoded(want))
}

// environmentDifference returns the variables that the official client passes and
// the fleet does not. The fleet may have more.
func environmentDifference(want, got answer) string {
	read := func(a answer) (env map[string]string) {
		var result struct{ Content []struct{ Text string } }
		if err := json.Unmarshal([]byte(encoded(a.Result)), &result); err == nil && len(result.Content) == 1 {
			_ = json.Unmarshal([]byte(result.Content[0].Text), &env)
		}
		return env
	}
	official, ours := read(want), read(got)
	if len(official) == 0 {
		return "the answer is no environment: " + encoded(want)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(official)) {
		if value, ok := ours[name]; !ok || value != official[name] {
			out = append(out, fmt.Sprintf("%s is %q (there: %v), the official client passes %q", name, value, ok, official[name]))
		}
	}
	return strings.Join(out, "\n")
}

// officialPrefix is the text that the official client puts before the message of a
// JSON-RPC error.
func officialPrefix(a answer) string {
	if a.Error == nil {
		return ""
	}
	return fmt.Sprintf("MCP error %d: ", a.Error.Code)
}

func (a answer) message() string {
	if a.Error == nil {
		return ""
	}
	return a.Error.Message
}

func encoded(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
