//go:build linux

package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

// The revisions of MCP that TestBytes speaks with the fleet.
const (
	legacy = "2025-11-25"
	modern = "2026-07-28"
)

// ask sends a request and returns its result, as it was sent.
type ask func(method, params string) (json.RawMessage, error)

// elements are parts of what a server says, by name. Their bytes must survive the way
// through the fleet.
type elements map[string]json.RawMessage

// What real servers say arrives byte for byte through /mcp: every tool, prompt, resource
// and template of their catalogues, and every member of their results. The raw lines of
// the server itself are the measure.
func TestBytes(t *testing.T) {
	packages := tsclient.Install(t, "interop/"+*set, os.DirFS(filepath.Join("packages", *set)))
	client := startFleet(t)
	for _, s := range readServers(t) {
		if s.Fails != "" || *set == "short" && !s.Short {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "home")
			command, err := s.command(packages, dir)
			if err != nil {
				t.Fatal(err)
			}
			env := s.expand(dir)
			s.prepare(t, dir)
			want := s.elements(t, stdio(t, command, env, dir))

			for _, revision := range []string{legacy, modern} {
				s.prepare(t, dir)
				s.deploy(t, client, command, env, dir)
				got := s.elements(t, overHTTP(t, client.Address()+"/"+s.Name+"/mcp", revision))
				for _, e := range slices.Sorted(maps.Keys(want)) {
					if d := byteDifference(want[e], got[e], revision); d != "" {
						t.Errorf("%s, to a client of %s: %s", e, revision, d)
					}
				}
				s.remove(t, client)
			}
			t.Logf("%d elements", len(want))
		})
	}
}

// expand replaces the word DIR in the server's calls and returns its environment.
func (s *server) expand(dir string) map[string]string {
	env := map[string]string{"HOME": dir}
	for k, v := range s.Env {
		env[k] = strings.ReplaceAll(v, "DIR", dir)
	}
	for i := range s.Calls {
		s.Calls[i].Args = bytes.ReplaceAll(s.Calls[i].Args, []byte("DIR"), []byte(dir))
	}
	return env
}

// deploy deploys the server and waits until it is ready.
func (s *server) deploy(t *testing.T, client *api.Client, command []string, env map[string]string, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	spec, err := json.Marshal(map[string]any{"command": command, "env": env, "cwd": dir, "replicas": 1})
	if err == nil {
		_, err = client.PutServer(ctx, fleet.ServerName(s.Name), spec, api.WriteOptions{})
	}
	if err != nil {
		t.Fatalf("deploy: %v", err)
	}
	harness.Eventually(t, patience, func() error {
		found, err := client.GetServer(ctx, fleet.ServerName(s.Name), api.ReadOptions{})
		if err == nil && found.State != fleet.StateReady {
			err = fmt.Errorf("%s is %s: %s", s.Name, found.State, found.Reason)
		}
		return err
	})
}

// lists are the members of the results of list methods, and the capabilities for them.
var lists = []struct{ capability, method, member string }{
	{"tools", "tools/list", "tools"},
	{"prompts", "prompts/list", "prompts"},
	{"resources", "resources/list", "resources"},
	{"resources", "resources/templates/list", "resourceTemplates"},
}

// elements asks for everything that the server has.
func (s *server) elements(t *testing.T, ask ask) elements {
	t.Helper()
	all := elements{}
	hello, err := ask("initialize", "")
	if err != nil {
		t.Fatal(err)
	}
	var about struct {
		Capabilities map[string]json.RawMessage
		Instructions json.RawMessage
		ServerInfo   json.RawMessage
		Meta         map[string]json.RawMessage `json:"_meta"`
	}
	if err := json.Unmarshal(hello, &about); err != nil {
		t.Fatal(err)
	}
	if about.ServerInfo == nil {
		about.ServerInfo = about.Meta["io.modelcontextprotocol/serverInfo"]
	}
	all["serverInfo"] = about.ServerInfo
	if about.Instructions != nil {
		all["instructions"] = about.Instructions
	}
	var prompts, resources []json.RawMessage
	for _, l := range lists {
		if about.Capabilities[l.capability] == nil {
			continue
		}
		items := listAll(t, ask, l.method, l.member)
		for i, item := range items {
			all[fmt.Sprintf("%s %d", l.member, i)] = item
		}
		switch l.member {
		case "prompts":
			prompts = items
		case "resources":
			resources = items
		}
	}
	result := func(name, method, params string) {
		r, err := ask(method, params)
		if refused := new(refusal); errors.As(err, &refused) {
			r, err = refused.raw, nil
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = r
	}
	for i, c := range s.Calls {
		if !c.Outcome && !c.Environment {
			result(fmt.Sprintf("call %d", i), "tools/call", fmt.Sprintf(`{"name":%q,"arguments":%s}`, c.Tool, c.Args))
		}
	}
	for i, raw := range prompts {
		var p struct {
			Name      string
			Arguments []struct{ Required bool }
		}
		if json.Unmarshal(raw, &p) == nil && !slices.ContainsFunc(p.Arguments, func(a struct{ Required bool }) bool { return a.Required }) {
			result(fmt.Sprintf("prompt %d", i), "prompts/get", fmt.Sprintf(`{"name":%q}`, p.Name))
		}
	}
	for i, raw := range resources[:min(3, len(resources))] {
		var r struct{ URI string }
		if json.Unmarshal(raw, &r) == nil {
			result(fmt.Sprintf("resource %d", i), "resources/read", fmt.Sprintf(`{"uri":%q}`, r.URI))
		}
	}
	return all
}

// listAll returns the elements of all pages of a list.
func listAll(t *testing.T, ask ask, method, member string) (items []json.RawMessage) {
	t.Helper()
	params := "{}"
	for {
		r, err := ask(method, params)
		var page map[string]json.RawMessage
		if err == nil {
			err = json.Unmarshal(r, &page)
		}
		var some []json.RawMessage
		if err == nil {
			err = json.Unmarshal(page[member], &some)
		}
		if err != nil {
			t.Fatalf("%s: %v in %s", method, err, r)
		}
		items = append(items, some...)
		if page["nextCursor"] == nil {
			return items
		}
		params = fmt.Sprintf(`{"cursor":%s}`, page["nextCursor"])
	}
}

// added are the members that the fleet adds to results and their _meta for modern
// clients.
var added = []string{"resultType", "ttlMs", "cacheScope", "_meta"}

// byteDifference returns how what the fleet's client got differs from what the server
// said. A modern client gets the same members and some more.
func byteDifference(want, got json.RawMessage, revision string) string {
	if bytes.Equal(want, got) {
		return ""
	}
	var w, g map[string]json.RawMessage
	if revision == modern && json.Unmarshal(want, &w) == nil && json.Unmarshal(got, &g) == nil {
		for name, value := range w {
			if !bytes.Equal(value, g[name]) && name != "_meta" {
				return fmt.Sprintf("member %s is\n%s\nwant\n%s", name, short(g[name]), short(value))
			}
		}
		for name := range g {
			if w[name] == nil && !slices.Contains(added, name) {
				return fmt.Sprintf("there is a member %s more", name)
			}
		}
		return ""
	}
	return fmt.Sprintf("got\n%s\nwant\n%s", short(got), short(want))
}

func short(b []byte) []byte { return b[:min(len(b), 500)] }

// refusal is a JSON-RPC error.
type refusal struct{ raw json.RawMessage }

func (r *refusal) Error() string { return "the answer is the error " + string(r.raw) }

// responseTo returns the result of a message, if it is the response with this id.
func responseTo(message []byte, id int) (json.RawMessage, bool, error) {
	var m struct {
		ID            json.RawMessage
		Method        string
		Result, Error json.RawMessage
	}
	if json.Unmarshal(message, &m) != nil || m.Method != "" || string(m.ID) != fmt.Sprint(id) {
		return nil, false, nil
	}
	if m.Error != nil {
		return nil, true, &refusal{m.Error}
	}
	return m.Result, true, nil
}

const client = `"clientInfo":{"name":"bytes","version":"1"},"capabilities":{}`

// stdio starts a server and speaks with it as the fleet does, until the end of the
// test.
func stdio(t *testing.T, command []string, env map[string]string, dir string) ask {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, os.Environ()
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() { late.Stop() })
	r, id := bufio.NewReader(stdout), 0
	return func(method, params string) (json.RawMessage, error) {
		id++
		if method == "initialize" {
			params = fmt.Sprintf(`{"protocolVersion":%q,%s}`, legacy, client)
		}
		if _, err := fmt.Fprintf(stdin, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`+"\n", id, method, params); err != nil {
			return nil, err
		}
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return nil, fmt.Errorf("the server said no more: %w", err)
			}
			result, ok, err := responseTo(line, id)
			if ok && method == "initialize" {
				_, err = fmt.Fprintln(stdin, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
			}
			if ok {
				return result, err
			}
		}
	}
}

// overHTTP speaks MCP Streamable HTTP, in the era of the revision.
func overHTTP(t *testing.T, url, revision string) ask {
	t.Helper()
	id, session := 0, ""
	post := func(body, method, params string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		if session != "" {
			req.Header.Set("Mcp-Session-Id", session)
		}
		if method != "initialize" {
			req.Header.Set("MCP-Protocol-Version", revision)
		}
		if revision == modern {
			req.Header.Set("Mcp-Method", method)
			var p struct{ Name, URI string }
			if json.Unmarshal([]byte(params), &p) == nil && p.Name+p.URI != "" {
				req.Header.Set("Mcp-Name", p.Name+p.URI)
			}
		}
		return http.DefaultClient.Do(req)
	}
	return func(method, params string) (json.RawMessage, error) {
		id++
		switch {
		case method == "initialize" && revision == modern:
			method, params = "server/discover", "{}"
			fallthrough
		case revision == modern:
			meta := fmt.Sprintf(`{"_meta":{"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientCapabilities":{}}`, revision)
			if params != "{}" {
				meta += ","
			}
			params = meta + params[1:]
		case method == "initialize":
			params = fmt.Sprintf(`{"protocolVersion":%q,%s}`, legacy, client)
		}
		resp, err := post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, id, method, params), method, params)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if method == "initialize" {
			session = resp.Header.Get("Mcp-Session-Id")
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(body) {
			line = bytes.TrimPrefix(bytes.TrimSpace(line), []byte("data: "))
			if result, ok, err := responseTo(line, id); ok {
				if method != "initialize" {
					return result, err
				}
				resp, err := post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, "notifications/initialized", "")
				if err == nil {
					resp.Body.Close()
				}
				return result, err
			}
		}
		return nil, fmt.Errorf("no answer to %s: %s %s", method, resp.Status, body)
	}
}
