package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The status of a core task is news for the session that began it only.
func TestNewsOfCoreTasks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt, w := agenttest.New(), new(wire)
		rt.Handle("a", scripted(`{"tools":{},"tasks":{},"resources":{"subscribe":true}}`, func(m scriptedMessage, write func(string, ...any)) {
			if m.Method == "tools/call" {
				tasked(m, write)
			} else {
				w.handle(m, write)
			}
		}))
		r := newRig(t, rt, nil)
		mine, other := r.listen(), r.listen()
		defer mine.stop()
		defer other.stop()
		r.ready("a", legacy)
		mine.want(fleet.SessionTasksURI(owner), "x:1")
		other.want(fleet.SessionTasksURI("another"))
		is(t, "subscriptions", w.sent(), `resources/subscribe {"uri":"x:1"}`)
		if !mine.settled() || !other.settled() {
			t.Error("not in effect")
		}
		status := func(id, status string) {
			w.says(`{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":%q,"status":%q}}`, id, status)
		}
		said := func(id, status string) string {
			return fmt.Sprintf(`a tasks/status {"taskId":%q,"status":%q}`, id, status)
		}
		status("t", "working") // nobody began it
		r.streamed("s1", "x", `{"taskId":"t","status":"working"}`, nil).reply(t)
		r.streamed("s2", "x", `{"taskId":"u","status":"working"}`, func(req *fleet.CallRequest) { req.Stream.Owner = "another" }).reply(t)
		r.call("a", "x", `{"taskId":"v","status":"working"}`).reply(t)
		for _, id := range []string{"t", "u", "v"} {
			status(id, "input_required")
		}
		is(t, "the owner", mine.heard(), said("t", "input_required"))
		is(t, "another one", other.heard(), said("u", "input_required"))
		status("t", "working")
		status("t", "cancelled")
		is(t, "the latest", mine.heard(), said("t", "cancelled"))
		status("t", "completed")
		is(t, "after its end", mine.heard(), "")
		r.order("a", "enough")
		r.ask("a", "tasks/cancel", `{"taskId":"u"}`)
		r.ask("a", "tasks/cancel", `{"taskId":"v"}`)
		r.until("a", fleet.PhaseStopped)
	})
}

// A modern server is asked for the tasks of its own replica that somebody wants to hear of.
func TestNewsOfTheTasksExtension(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt, w := agenttest.New(), new(wire)
		rt.Handle("a", scripted(`modern {"tools":{"listChanged":true},"extensions":{"io.modelcontextprotocol/tasks":{}}}`, w.handle))
		r := newRig(t, rt, nil)
		l, other := r.listen(), r.listen()
		defer l.stop()
		defer other.stop()
		r.ready("a", nil)
		if sent := w.sent(); strings.Contains(sent, "taskIds") || strings.Contains(sent, "io.modelcontextprotocol/tasks") {
			t.Errorf("at first: sent %s", sent)
		}
		other.want()
		l.want(fleet.TaskURI("a", "t/1"), fleet.TaskURI("b", "t2"), fleet.SessionTasksURI("u"), "x:1")
		sent := w.sent()
		contains(t, sent, `"notifications":{"toolsListChanged":true,"taskIds":["t/1"]}`, `"extensions":{"io.modelcontextprotocol/tasks":{}}`)
		if !l.settled() {
			t.Error("not in effect")
		}
		changed := func(id string) {
			w.says(`{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":%q,"status":"completed","result":{"n":1e400},"_meta":{"io.modelcontextprotocol/subscriptionId":2}}}`, id)
		}
		changed("t/1")
		changed("t2") // nobody asked for it
		is(t, "the task", l.heard(), `a tasks {"taskId":"t/1","status":"completed","result":{"n":1e400}}`)
		is(t, "who wants lists only", other.heard(), "")
		r.order("a", "enough")
		r.until("a", fleet.PhaseStopped)
	})
}
