package mcphttp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// task says something of a task to those that want to hear of it.
func (n *told) task(news fleet.News) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, on := range n.on {
		if fleet.CoveringURI(n.wants[key][news.Server], news.Task) != "" {
			on(news)
		}
	}
}

// sessions returns what stands for the sessions that want to hear of their tasks at a server.
func (n *told) sessions(server fleet.ServerName) (ids []fleet.SessionID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, wants := range n.wants {
		for _, uri := range wants[server] {
			if id, is := strings.CutPrefix(uri, fleet.SessionTasksURI("")); is {
				ids = append(ids, fleet.SessionID(id))
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// A session hears of its own core tasks, by the ids that it knows, on one of its streams.
func TestStatusOfCoreTasks(t *testing.T) {
	for _, path := range []string{"/old/mcp", "/mcp"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture()
			tasking(f, createdCore)
			session, other := f.open(t, path, mcp.Version20251125), f.open(t, path, mcp.Version20251125)
			tool := map[string]string{"/old/mcp": "echo", "/mcp": "old__echo"}[path]
			create := fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":%q,"task":{}}}`, tool)
			id := taskID(t, f.do("POST", path, create, "Mcp-Session-Id", session).Body.String())
			mine, leave, done := f.serve(t, "GET", path, "", "Mcp-Session-Id", session)
			synctest.Wait()
			owners := f.news.sessions("old")
			if len(owners) != 1 {
				t.Fatalf("sessions %v", owners)
			}
			second, leaveSecond, doneSecond := f.serve(t, "GET", path, "", "Mcp-Session-Id", session)
			// Who subscribes to what stands for another session's tasks hears of none.
			subscribe := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":%q}}`, fleet.SessionTasksURI(owners[0]))
			f.do("POST", "/old/mcp", subscribe, "Mcp-Session-Id", f.open(t, "/old/mcp", mcp.Version20251125))
			f.do("POST", path, subscribe, "Mcp-Session-Id", other)
			foreign, leaveForeign, doneForeign := f.serve(t, "GET", path, "", "Mcp-Session-Id", other)
			synctest.Wait()
			uri := fleet.SessionTaskURI(owners[0], "r1", "t1")
			params := `{"taskId":%q,"status":"completed","x":1e400,"_meta":{"io.modelcontextprotocol/related-task":{"taskId":%q}}}`
			f.news.task(fleet.News{Server: "old", Replica: "r1", Method: mcp.MethodTaskStatus, Params: fmt.Appendf(nil, params, "t1", "t1"), Task: uri})
			f.news.updated("old", fleet.SessionTasksURI(owners[0])) // from a server that lies
			synctest.Wait()
			for _, end := range []func(){leave, leaveSecond, leaveForeign, done, doneSecond, doneForeign} {
				end()
			}
			want(t, mine, 200, "event: message\ndata: "+`{"jsonrpc":"2.0","method":"notifications/tasks/status","params":`+fmt.Sprintf(params, id, id)+"}")
			want(t, second, 200, "")
			want(t, foreign, 200, "")
		})
	}
}

// A subscription of a modern client is told of the tasks that it names, by these names.
func TestStatusOfTheTasksExtension(t *testing.T) {
	for path, tool := range map[string]string{"/new/mcp": "echo", "/mcp": "new__echo"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture()
			tasking(f, `{"resultType":"task","taskId":"t1","status":"working"}`)
			body := func(method, params string) string {
				return fmt.Sprintf(`{"jsonrpc":"2.0","id":"q","method":%q,"params":{%s,%s}}`, method, params, declaredTasks)
			}
			header := []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method"}
			created := f.do("POST", path, body("tools/call", fmt.Sprintf(`"name":%q`, tool)), append(header, "tools/call", "Mcp-Name", tool)...)
			id := taskID(t, created.Body.String())
			w, leave, done := f.serve(t, "POST", path, body("subscriptions/listen", fmt.Sprintf(`"notifications":{"taskIds":["t1",%q,"task-00"]}`, id)), append(header, "subscriptions/listen")...)
			synctest.Wait()
			for _, own := range []string{"t1", "t2"} {
				f.news.task(fleet.News{Server: "new", Replica: "r1", Method: mcp.MethodTaskChanged, Params: fmt.Appendf(nil, `{"taskId":%q,"status":"failed"}`, own), Task: fleet.TaskURI("r1", own)})
			}
			synctest.Wait()
			leave()
			done()
			event := func(method, params string) string {
				return fmt.Sprintf("event: message\ndata: "+`{"jsonrpc":"2.0","method":%q,"params":{%s}}`+"\n\n", method, params)
			}
			tag := `"_meta":{"io.modelcontextprotocol/subscriptionId":"q"},`
			want(t, w, 200, strings.TrimSpace(event(mcp.MethodAcknowledged, fmt.Sprintf(`%s"notifications":{"taskIds":[%q]}`, tag, id))+
				event(mcp.MethodTaskChanged, fmt.Sprintf(`%s"taskId":%q,"status":"failed"`, tag, id))))
		})
	}
}
