package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// tasked is a server whose calls become tasks, named and described by the arguments of the
// call. Other requests are answered with their params.
func tasked(m scriptedMessage, write func(format string, args ...any)) {
	switch {
	case strings.Contains(string(m.Params), `"hang":true`):
		return // it answers never
	case m.Method != "tools/call":
		result, _ := mcp.Edit(m.Params, mcp.Remove("_meta"))
		write(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
		return
	}
	var p struct{ Arguments json.RawMessage }
	_ = json.Unmarshal(m.Params, &p)
	write(`{"jsonrpc":"2.0","id":%s,"result":{"task":%s}}`, m.ID, p.Arguments)
}

// A live task counts as a running call, and a drain waits for it.
func TestLiveTasks(t *testing.T) {
	for _, c := range []struct {
		name, created string
		method, said  string        // then the client asks; "": it does not
		takes         time.Duration // of the drain
	}{
		{"no task", `{"text":"x"}`, "", "", 0},
		{"it has ended at once", `{"taskId":"t","status":"completed"}`, "", "", 0},
		{"its ttl ends", `{"taskId":"t","status":"working","ttl":7000}`, "", "", 7 * time.Second},
		{"its ttl is endless", `{"taskId":"t","status":"working","ttl":null}`, "", "", time.Minute},
		{"it works", `{"taskId":"t","status":"working"}`, "tasks/get", `{"taskId":"t","status":"working"}`, time.Minute},
		{"its ttl ends though it works", `{"taskId":"t","status":"working","ttl":7000}`, "tasks/get", `{"taskId":"t","status":"working"}`, 7 * time.Second},
		{"it was cancelled", `{"taskId":"t","status":"working"}`, "tasks/cancel", `{"taskId":"t","status":"cancelled"}`, 0},
		{"it is seen as cancelled", `{"taskId":"t","status":"working"}`, "tasks/get", `{"taskId":"t","status":"cancelled"}`, 0},
		{"nobody fetches its result", `{"taskId":"t","status":"working"}`, "tasks/get", `{"taskId":"t","status":"completed"}`, resultWait},
		{"its result was fetched", `{"taskId":"t","status":"working"}`, "tasks/result", `{"taskId":"t"}`, 0},
		{"another one ends", `{"taskId":"t","status":"working"}`, "tasks/get", `{"taskId":"u","status":"cancelled"}`, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				rt := agenttest.New()
				rt.Handle("a", scripted(`{"tools":{},"tasks":{}}`, tasked))
				r := newRig(t, rt, nil)
				r.ready("a", func(tpl *fleet.Template) { tpl.Era, tpl.DrainTimeout = fleet.EraLegacy, time.Minute })
				r.call("a", "x", c.created).reply(t)
				began := time.Now()
				r.order("a", "test")
				synctest.Wait()
				if c.method != "" {
					if e := r.ask("a", c.method, c.said).reply(t); string(e.Result) != c.said {
						t.Errorf("the draining replica answered %s, %v", e.Result, e.Err)
					}
				}
				if e := r.ask("a", "tools/call", `{}`).reply(t); !errors.Is(e.Err, fleet.ErrNotDelivered) {
					t.Errorf("the draining replica took a call: %v", e.Err)
				}
				r.until("a", fleet.PhaseStopped)
				if took := time.Since(began); took < c.takes || took > c.takes+2*time.Second {
					t.Errorf("the drain took %v, want %v", took, c.takes)
				}
			})
		})
	}
}

// What a replica reports of its load has its live tasks in it. They are gone with it.
func TestTasksInTheLoad(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		rt.Handle("a", scripted(`{"tools":{},"tasks":{}}`, tasked))
		r := newRig(t, rt, nil)
		r.ready("a", legacy)
		for i := range 3 {
			r.call("a", "x", fmt.Sprintf(`{"taskId":"t%d","status":"working"}`, i)).reply(t)
		}
		ongoing := func(want int) {
			t.Helper()
			r.view.until(t, fmt.Sprintf("the load is %d", want), func(v *view) (bool, any) {
				return v.replicas["a"].Load.Ongoing == want, v.replicas["a"].Load
			})
		}
		ongoing(3)
		for i := range maxTasks {
			r.call("a", "x", fmt.Sprintf(`{"taskId":"more%d","status":"working"}`, i)).reply(t)
		}
		ongoing(maxTasks)
		for i := range maxTasks {
			r.ask("a", "tasks/cancel", fmt.Sprintf(`{"taskId":"more%d"}`, i)).reply(t)
		}
		ongoing(3)
		r.ask("a", "tasks/cancel", `{"taskId":"t1"}`).reply(t)
		ongoing(2)
		late := r.ask("a", "tasks/result", `{"taskId":"t2","hang":true}`)
		ongoing(3)
		late.cancel(true)
		<-late.released
		ongoing(2) // the task works on
		rt.Kill("a")
		ended := r.until("a", fleet.PhaseFailed)
		if ended.Load.Ongoing > 2 {
			t.Errorf("load %+v", ended.Load)
		}
	})
}
