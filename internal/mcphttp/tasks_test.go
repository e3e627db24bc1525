package mcphttp

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// tasking are servers whose calls all become the task t1, at the replica r1. Requests
// about it are answered with their params, so that they show what the server gets.
func tasking(f *fixture, created string) {
	f.router.f = func(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
		switch {
		case c.Replica == "" && c.Session == "":
			c.Replica = "r1"
		case c.Replica != "r1" && c.Session == "":
			return fleet.CallResult{}, fmt.Errorf("server: %w", fleet.ErrTaskLost)
		}
		if c.Placed != nil {
			c.Placed(c.Replica)
		}
		result := c.Params
		if c.Method == mcp.MethodToolsCall {
			result = []byte(created)
		}
		return fleet.CallResult{Result: result, Replica: c.Replica}, nil
	}
	for scope, e := range f.offers.all {
		e.info.Capabilities = []byte(`{"tools":{},"tasks":{"cancel":{}},"extensions":{"a/b":{},"io.modelcontextprotocol/tasks":{}}}`)
		if scope == "" {
			e.info.ServerInfo = nil
			e.tools["own__echo"] = f.offers.all["own"].tools["echo"]
			e.tools["new__echo"] = f.offers.all["new"].tools["echo"]
		}
	}
}

const createdCore = `{"task":{"taskId":"t1","status":"working","ttl":9007199254740993}}`

// taskID returns the id of a task in a result.
func taskID(t *testing.T, body string) string {
	t.Helper()
	var m struct {
		Result struct {
			TaskID string
			Task   struct{ TaskID string }
		}
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return m.Result.TaskID + m.Result.Task.TaskID
}

func TestCoreTasks(t *testing.T) {
	for _, c := range []struct{ path, tool string }{{"/old/mcp", "echo"}, {"/mcp", "old__echo"}} {
		t.Run(c.path, func(t *testing.T) {
			f := newFixture()
			tasking(f, createdCore)
			session := f.open(t, c.path, mcp.Version20251125)
			ask := func(method, params string) (body string) {
				return strings.TrimSpace(f.do("POST", c.path, fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":%q,"params":%s}`, method, params), "Mcp-Session-Id", session).Body.String())
			}
			if body := ask("tools/call", fmt.Sprintf(`{"name":%q}`, c.tool)); !strings.Contains(body, createdCore) {
				t.Errorf("a call without a task: got %s", body)
			}
			create := fmt.Sprintf(`{"name":%q,"task":{"ttl":1}}`, c.tool)
			body := ask("tools/call", create)
			id := taskID(t, body)
			if want := `{"jsonrpc":"2.0","id":2,"result":` + strings.Replace(createdCore, "t1", id, 1) + `}`; body != want || !strings.HasPrefix(id, "task-") {
				t.Errorf("got %s, want %s", body, want)
			}
			if again := taskID(t, ask("tools/call", create)); again != id {
				t.Errorf("one task has the ids %s and %s", id, again)
			}
			for _, method := range []string{mcp.MethodTaskGet, mcp.MethodTaskCancel} {
				if got, want := ask(method, `{"x":1e400,"taskId":"`+id+`"}`), `{"jsonrpc":"2.0","id":2,"result":{"x":1e400,"taskId":"`+id+`"}}`; got != want {
					t.Errorf("%s: got %s, want %s", method, got, want)
				}
				if last := f.router.last; last.Replica != "r1" || last.Server != "old" || string(last.Params) != `{"x":1e400,"taskId":"t1"}` {
					t.Errorf("%s: sent to %s: %s", method, last.Replica, last.Params)
				}
			}
			related := func(id string) string {
				return `"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"` + id + `"}}`
			}
			if got, want := ask(mcp.MethodTaskResult, `{"taskId":"`+id+`",`+related("t1")+`}`), `{"jsonrpc":"2.0","id":2,"result":{"taskId":"t1",`+related(id)+`}}`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if body := ask(mcp.MethodTasksList, `{}`); !strings.Contains(body, "-32601") {
				t.Errorf("tasks/list: got %s", body)
			}
			lost, _ := plain{}.Seal(taskPurpose, (&taskRoute{server: "old", replica: "r9", caller: fleet.Anonymous, own: "t1"}).encode())
			others, _ := plain{}.Seal(taskPurpose, (&taskRoute{server: "old", replica: "r1", caller: "somebody", own: "t1"}).encode())
			elsewhere, _ := plain{}.Seal(taskPurpose, (&taskRoute{server: "zoo", replica: "r1", caller: fleet.Anonymous, own: "t1"}).encode())
			modern, _ := plain{}.Seal(taskPurpose, (&taskRoute{server: "new", replica: "r1", caller: fleet.Anonymous, own: "t1"}).encode())
			for _, unknown := range []string{"t1", "", lost, others, elsewhere, modern, "task-00", "task-01", strings.Replace(id, "task", "session", 1)} {
				w := f.do("POST", c.path, fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tasks/get","params":{"taskId":%q}}`, unknown), "Mcp-Session-Id", session, "Accept", "application/json")
				if data := wantError(t, w, 200, "2", mcp.CodeInvalidParams, "unknown task"); data["code"] != nameUnknownTask {
					t.Errorf("%q: got data %v", unknown, data)
				}
			}
		})
	}
}

const declaredTasks = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}`

func TestTasksExtension(t *testing.T) {
	for _, c := range []struct{ path, tool string }{{"/new/mcp", "echo"}, {"/mcp", "new__echo"}} {
		t.Run(c.path, func(t *testing.T) {
			f := newFixture()
			tasking(f, `{"resultType":"task","taskId":"t1","status":"working","ttlMs":null}`)
			w := f.modern(c.path, "tools/call", fmt.Sprintf(`"name":%q`, c.tool), "Mcp-Name", c.tool)
			wantError(t, w, 400, `"q"`, mcp.CodeMissingCapability, mcp.TasksExtension)
			if last := f.router.last; last.Method != mcp.MethodTaskCancel || last.Replica != "r1" || !strings.Contains(string(last.Params), `"taskId":"t1"`) || !mcp.DeclaresTasks(capabilitiesIn(t, last.Params)) {
				t.Errorf("the task that the client cannot use: last sent %s to %s: %s", last.Method, last.Replica, last.Params)
			}
			ask := func(method, params, name string) string {
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"q","method":%q,"params":{%s,%s}}`, method, params, declaredTasks)
				w := f.do("POST", c.path, body, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", method, "Mcp-Name", name)
				return strings.TrimSpace(w.Body.String())
			}
			id := taskID(t, ask("tools/call", fmt.Sprintf(`"name":%q`, c.tool), c.tool))
			if !strings.HasPrefix(id, "task-") {
				t.Fatalf("id %q", id)
			}
			for _, method := range []string{mcp.MethodTaskGet, mcp.MethodTaskUpdate, mcp.MethodTaskCancel} {
				body := ask(method, `"taskId":"`+id+`"`, id)
				want := id
				if method == mcp.MethodTaskUpdate {
					want = "t1" // its answer names no task
				}
				if got := taskID(t, body); got != want {
					t.Errorf("%s: got %s", method, body)
				}
				if last := f.router.last; last.Replica != "r1" || last.Server != "new" || !strings.Contains(string(last.Params), `"taskId":"t1"`) {
					t.Errorf("%s: sent to %s: %s", method, last.Replica, last.Params)
				}
			}
			wantError(t, f.modern(c.path, mcp.MethodTaskGet, `"taskId":"`+id+`"`, "Mcp-Name", "t1"), 400, `"q"`, mcp.CodeHeaderMismatch, "")
			for _, method := range []string{mcp.MethodTaskGet, mcp.MethodTaskUpdate, mcp.MethodTaskCancel} {
				wantError(t, f.modern(c.path, method, `"taskId":"t1"`, "Mcp-Name", "t1"), 400, `"q"`, mcp.CodeMissingCapability, mcp.TasksExtension)
				if body := ask(method, `"taskId":"t1"`, "t1"); !strings.Contains(body, `"code":-32602`) || !strings.Contains(body, nameUnknownTask) {
					t.Errorf("%s of an unknown task: got %s", method, body)
				}
			}
			wantError(t, f.modern(c.path, mcp.MethodListen, `"notifications":{"taskIds":["`+id+`"]}`), 400, `"q"`, mcp.CodeMissingCapability, mcp.TasksExtension)
		})
	}
}

// capabilitiesIn returns those of the client in the params of a modern request.
func capabilitiesIn(t *testing.T, params []byte) []byte {
	t.Helper()
	meta, err := mcp.ParseMeta(params)
	if err != nil {
		t.Fatal(err)
	}
	return meta.Capabilities
}

// Neither protocol is translated into the other one, nor offered in its place.
func TestTasksOfTheOtherEra(t *testing.T) {
	f := newFixture()
	tasking(f, `{"resultType":"task","taskId":"t1"}`)
	for path, want := range map[string]string{
		"/old/mcp": `{"tools":{},"tasks":{"cancel":{}},"extensions":{"a/b":{}}}`,
		"/new/mcp": `{"tools":{},"extensions":{"a/b":{}}}`,
		"/mcp":     `{"tools":{},"tasks":{"cancel":{}},"extensions":{"a/b":{}}}`,
	} {
		w := f.do("POST", path, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}}`)
		if !strings.Contains(w.Body.String(), `"capabilities":`+want+`,`) {
			t.Errorf("%s: got %s", path, w.Body)
		}
	}
	for path, want := range map[string]string{
		"/old/mcp": `{"tools":{},"extensions":{"a/b":{}}}`,
		"/new/mcp": `{"tools":{},"tasks":{"cancel":{}},"extensions":{"a/b":{},"io.modelcontextprotocol/tasks":{}}}`,
		"/mcp":     `{"tools":{},"extensions":{"a/b":{},"io.modelcontextprotocol/tasks":{}}}`,
	} {
		if w := f.modern(path, "server/discover", ``); !strings.Contains(w.Body.String(), `"capabilities":`+want+`,`) {
			t.Errorf("%s: got %s", path, w.Body)
		}
	}
	session := f.open(t, "/new/mcp", mcp.Version20251125)
	for _, c := range []struct {
		body string
		code mcp.Code
	}{
		{`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo"}}`, mcp.CodeInternalError},
		{`{"jsonrpc":"2.0","id":2,"method":"tasks/get","params":{"taskId":"x"}}`, mcp.CodeMethodNotFound},
		{`{"jsonrpc":"2.0","id":2,"method":"tasks/result","params":{"taskId":"x"}}`, mcp.CodeMethodNotFound},
		{`{"jsonrpc":"2.0","id":2,"method":"tasks/list"}`, mcp.CodeMethodNotFound},
		{`{"jsonrpc":"2.0","id":2,"method":"tasks/update","params":{"taskId":"x"}}`, mcp.CodeMethodNotFound},
	} {
		wantError(t, f.do("POST", "/new/mcp", c.body, "Mcp-Session-Id", session), 200, "2", c.code, "")
	}
	wantError(t, f.modern("/old/mcp", mcp.MethodTaskGet, `"taskId":"x"`, "Mcp-Name", "x"), 404, `"q"`, mcp.CodeMethodNotFound, "")
	f.modern("/old/mcp", "tools/call", `"name":"echo","task":{}`, "Mcp-Name", "echo")
	if got := string(f.router.last.Params); strings.Contains(got, "task") {
		t.Errorf("the server got %s", got)
	}
}

// The replica of a session knows only the session's tasks. So ids pass as they are, unless
// they have to say which server they are of.
func TestTasksOfSessions(t *testing.T) {
	for _, c := range []struct{ path, tool, id string }{{"/own/mcp", "echo", "t1"}, {"/mcp", "own__echo", ""}} {
		t.Run(c.path, func(t *testing.T) {
			f := newFixture()
			tasking(f, createdCore)
			answer := f.router.f
			f.owning(func(ctx context.Context, call fleet.Call) (fleet.CallResult, error) {
				related := []byte(`{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t1"}}}`)
				call.Message(fleet.Message{Seq: 1, Kind: fleet.MessageNotification, Method: mcp.MethodTaskStatus, Params: []byte(`{"taskId":"t1"}`)})
				call.Message(fleet.Message{Seq: 2, Kind: fleet.MessageRequest, Method: mcp.MethodElicit, ID: []byte(`5`), Params: related})
				call.Message(fleet.Message{Seq: 3, Kind: fleet.MessageRequest, Method: mcp.MethodTaskGet, ID: []byte(`6`), Params: []byte(`{"taskId":"the client's own"}`)})
				return answer(ctx, call)
			})
			session := f.open(t, c.path, mcp.Version20251125)
			w := f.do("POST", c.path, fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":%q,"task":{}}}`, c.tool), "Mcp-Session-Id", session)
			events := strings.Split(w.Body.String(), "\n")
			var data []string
			for _, line := range events {
				if text, ok := strings.CutPrefix(line, "data: "); ok && text != "" {
					data = append(data, text)
				}
			}
			if len(data) != 4 {
				t.Fatalf("got %s", w.Body)
			}
			if !strings.Contains(data[2], `"taskId":"the client's own"`) {
				t.Errorf("got %s", data[2])
			}
			id := taskID(t, data[3])
			if c.id != "" && id != c.id || c.id == "" && !strings.HasPrefix(id, "task-") {
				t.Errorf("the task has the id %s", id)
			}
			for _, text := range data[:2] {
				if !strings.Contains(text, `"taskId":"`+id+`"`) {
					t.Errorf("got %s", text)
				}
			}
			asked := `5`
			if c.id == "" {
				asked = `"own~5"`
			}
			f.do("POST", c.path, `{"jsonrpc":"2.0","id":`+asked+`,"result":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"`+id+`"}}}}`, "Mcp-Session-Id", session)
			if len(f.kept.sent) != 1 || !strings.Contains(f.kept.sent[0], `"taskId":"t1"`) {
				t.Errorf("the replica got %s", f.kept.sent)
			}
			w = f.do("POST", c.path, `{"jsonrpc":"2.0","id":3,"method":"tasks/get","params":{"taskId":"`+id+`"}}`, "Mcp-Session-Id", session)
			if !strings.Contains(w.Body.String(), `"result":{"taskId":"`+id+`"}`) || string(f.router.last.Params) != `{"taskId":"t1"}` || f.router.last.Session == "" {
				t.Errorf("got %s, sent %s", w.Body, f.router.last.Params)
			}
		})
	}
}

// A client that comes back to the answer gets the id by which it will find the task.
func TestTaskAfterResumption(t *testing.T) {
	f := newFixture()
	tasking(f, createdCore)
	session := f.open(t, "/old/mcp", mcp.Version20251125)
	create := `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","task":{}}}`
	id := taskID(t, f.do("POST", "/old/mcp", create, "Mcp-Session-Id", session).Body.String())
	f.router.f = func(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
		c.Placed("r1")
		c.Sent("w1")
		c.Message(fleet.Message{Seq: 1, Kind: fleet.MessageNotification, Method: "notifications/progress", Params: []byte(`{}`)})
		return fleet.CallResult{Result: []byte(createdCore), Replica: "r1", Seq: 2}, nil
	}
	w := f.do("POST", "/old/mcp", create, "Mcp-Session-Id", session)
	var last string
	for _, line := range strings.Split(w.Body.String(), "\n") {
		if text, ok := strings.CutPrefix(line, "id: "); ok && last == "" {
			last = text
		}
	}
	stream := f.router.last.Stream
	f.kept.owner = stream.Owner
	f.kept.messages[stream.ID] = []fleet.Message{{Seq: 2, Kind: fleet.MessageReply, Result: []byte(createdCore)}}
	w = f.do("GET", "/old/mcp", "", "Mcp-Session-Id", session, "Last-Event-ID", last)
	if !strings.Contains(w.Body.String(), `"result":{"task":{"taskId":"`+id+`"`) {
		t.Errorf("got %s, want the task %s", w.Body, id)
	}
}
