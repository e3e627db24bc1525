package mcp

import (
	"testing"
	"time"
)

func TestMapTaskIDs(t *testing.T) {
	for _, c := range []struct{ name, method, raw, want string }{
		{"a core task begins", MethodToolsCall, `{ "task" : {"taskId":"t", "ttl":9007199254740993},"_meta":{"a":1e400}}`, `{ "task" : {"taskId":"<t>", "ttl":9007199254740993},"_meta":{"a":1e400}}`},
		{"a task of the extension begins", MethodToolsCall, `{"resultType":"task","taskId":"t","ttlMs":null}`, `{"resultType":"task","taskId":"<t>","ttlMs":null}`},
		{"no task begins", MethodToolsCall, `{"content":[{"taskId":"t"}],"taskId":"t"}`, `{"content":[{"taskId":"t"}],"taskId":"t"}`},
		{"a state", MethodTaskGet, `{"status":"working","taskId":"t"}`, `{"status":"working","taskId":"<t>"}`},
		{"a state with a result", MethodTaskGet, `{"taskId":"t","status":"completed","result":{"structuredContent":{"taskId":"t"}}}`, `{"taskId":"<t>","status":"completed","result":{"structuredContent":{"taskId":"t"}}}`},
		{"escaped", MethodTaskGet, `{"taskId":"\u0074\n"}`, `{"taskId":"<t\n>"}`},
		{"cancelled", MethodTaskCancel, `{"taskId":"t","status":"cancelled"}`, `{"taskId":"<t>","status":"cancelled"}`},
		{"a result", MethodTaskResult, `{"content":[],"taskId":"t","_meta":{"x":2,"io.modelcontextprotocol/related-task":{"taskId":"t","y":3}}}`, `{"content":[],"taskId":"t","_meta":{"x":2,"io.modelcontextprotocol/related-task":{"taskId":"<t>","y":3}}}`},
		{"a notification", MethodTaskStatus, `{"taskId":"t","status":"working"}`, `{"taskId":"<t>","status":"working"}`},
		{"a request to the client", MethodElicit, `{"message":"m","taskId":"t","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}`, `{"message":"m","taskId":"t","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"<t>"}}}`},
		{"an id that is no string", MethodTaskGet, `{"taskId":7}`, `{"taskId":7}`},
		{"no object", MethodTaskGet, `["taskId"]`, `["taskId"]`},
		{"a related task that is no object", MethodTaskResult, `{"_meta":{"io.modelcontextprotocol/related-task":"taskId"}}`, `{"_meta":{"io.modelcontextprotocol/related-task":"taskId"}}`},
		{"another object", MethodTaskResult, `{"_meta":"x","y":{"taskId":"t"}}`, `{"_meta":"x","y":{"taskId":"t"}}`},
		{"not JSON", MethodTaskGet, `{"taskId":"t"`, `{"taskId":"t"`},
		{"nothing", MethodTaskGet, ``, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := []byte(c.raw)
			if got := string(MapTaskIDs(c.method, raw, func(id string) string { return "<" + id + ">" })); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if string(raw) != c.raw {
				t.Errorf("written to: %s", raw)
			}
			if got := string(MapTaskIDs(c.method, raw, func(id string) string { return id })); got != c.raw {
				t.Errorf("changed without a change: %s", got)
			}
		})
	}
}

func TestWantsTask(t *testing.T) {
	for params, want := range map[string]bool{
		`{"name":"x","task":{}}`:             true,
		`{"task":{"ttl":1},"name":"x"}`:      true,
		`{"name":"x"}`:                       false,
		`{"name":"x","task":null}`:           false,
		`{"arguments":{"task":{}}}`:          false,
		`{"name":"task","arguments":["task"`: false,
		``:                                   false,
	} {
		p, _, _ := ReadParams(MethodToolsCall, []byte(params))
		if got := p.WantsTask(); got != want {
			t.Errorf("%s: got %v", params, got)
		}
	}
	if got, err := ParamsToLegacy(MethodToolsCall, []byte(`{"name":"x","task":{"ttl":1},"arguments":{"task":1}}`)); err != nil || string(got) != `{"name":"x","arguments":{"task":1}}` {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestDeclaresTasks(t *testing.T) {
	for capabilities, want := range map[string]bool{
		`{"extensions":{"io.modelcontextprotocol/tasks":{}}}`:   true,
		`{"extensions":{"io.modelcontextprotocol/tasks":null}}`: false,
		`{"extensions":{"a/b":{}}}`:                             false,
		`{"extensions":[],"tasks":{}}`:                          false,
		``:                                                      false,
	} {
		if got := DeclaresTasks([]byte(capabilities)); got != want {
			t.Errorf("%s: got %v", capabilities, got)
		}
	}
}

func TestReadTask(t *testing.T) {
	for _, c := range []struct {
		method, raw string
		want        Task
		ok          bool
	}{
		{MethodToolsCall, `{"task":{"taskId":"t","status":"working","ttl":60000}}`, Task{ID: "t", Status: "working", TTL: time.Minute, Core: true}, true},
		{MethodToolsCall, `{"resultType":"task","taskId":"t","status":"working","ttlMs":1500}`, Task{ID: "t", Status: "working", TTL: 1500 * time.Millisecond}, true},
		{MethodToolsCall, `{"resultType":"task","taskId":"t","status":"input_required","ttlMs":null}`, Task{ID: "t", Status: "input_required"}, true},
		{MethodToolsCall, `{"content":[],"structuredContent":{"task":{"taskId":"t","status":"working"}}}`, Task{}, false},
		{MethodToolsCall, `{"content":[],"task":"taskId"}`, Task{}, false},
		{MethodTaskGet, `{"taskId":"t","status":"completed","ttl":1e99}`, Task{ID: "t", Status: "completed"}, true},
		{MethodTaskGet, `{"taskId":"t"}`, Task{}, false},
		{MethodTaskCancel, `{"taskId":"t","status":"cancelled","ttl":-1}`, Task{ID: "t", Status: "cancelled"}, true},
		{MethodTaskStatus, `{"taskId":"t","status":"failed"}`, Task{ID: "t", Status: "failed"}, true},
		{MethodTaskChanged, `{"taskId":"t","status":"working"}`, Task{ID: "t", Status: "working"}, true},
		{MethodTaskResult, `{"taskId":"t","status":"working"}`, Task{}, false},
		{MethodTaskGet, `{"taskId":"t","status":"working"`, Task{}, false},
	} {
		got, ok := ReadTask(c.method, []byte(c.raw))
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s %s: got %+v, %v", c.method, c.raw, got, ok)
		}
		if ended := got.Status == "completed" || got.Status == "failed" || got.Status == "cancelled"; got.Ended() != ended {
			t.Errorf("%s: ended %v", c.raw, got.Ended())
		}
	}
}
