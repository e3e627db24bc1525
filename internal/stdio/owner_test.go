package stdio_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// owner collects what the server sends.
type owner struct {
	requests []*stdio.ServerRequest
	notes    []string
}

func (o *owner) Request(r *stdio.ServerRequest) { o.requests = append(o.requests, r) }

func (o *owner) Notification(method string, params []byte) {
	o.notes = append(o.notes, method+string(params))
}

const refusal = `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":"%s"}}`

func own(t *testing.T, c *conversation, o stdio.Owner) (release func()) {
	t.Helper()
	release, err := c.Own(o)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

// A server asks its client in mid-call, and goes on when it has the answers.
func TestOwnerAnswersInMidCall(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var all []string
		c, server := withPeer(t, stdio.Config{OnNotification: func(method string, _ []byte) { all = append(all, method) }})
		o := new(owner)
		release := own(t, c, o)
		if _, err := c.Own(new(owner)); !errors.Is(err, stdio.ErrOwned) {
			t.Errorf("a second owner: %v", err)
		}
		var call record
		start(t, c, call.call("tools/call", "{}"))
		server.gets(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`)
		server.says(`{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{ "a" : 1.0 }}`) // its ids are its own
		server.says(`{"jsonrpc":"2.0","id":"e","method":"elicitation/create"}`)
		server.says(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}`)
		server.says(`{"jsonrpc":"2.0","id":3,"method":"ping"}`)
		server.gets(`{"jsonrpc":"2.0","id":3,"result":{}}`)
		call.waits(t)
		if len(o.requests) != 2 || len(o.notes) != 1 {
			t.Fatalf("the owner got %d requests and %q", len(o.requests), o.notes)
		}
		first, second := o.requests[0], o.requests[1]
		if first.Method != "sampling/createMessage" || string(first.Params) != `{ "a" : 1.0 }` || string(second.ID) != `"e"` || second.Params != nil {
			t.Errorf("requests %+v and %+v", first, second)
		}
		if got := `notifications/message{"level":"info"}`; o.notes[0] != got || fmt.Sprint(all) != "[notifications/message]" {
			t.Errorf("notifications %q and %q", o.notes, all)
		}
		if err := second.Fail([]byte(`{"code":}`)); !errors.As(err, new(*mcp.SyntaxError)) {
			t.Errorf("an error that is no JSON: %v", err)
		}
		if err := second.Fail(fmt.Appendf(nil, "{\"code\":%d,\n\"message\":\"no\"}", mcp.CodeInvalidParams)); err != nil {
			t.Error(err)
		}
		server.gets(fmt.Sprintf(`{"jsonrpc":"2.0","id":"e","error":{"code":%d, "message":"no"}}`, mcp.CodeInvalidParams))
		var syntax *mcp.SyntaxError
		if err := first.Answer([]byte(`{"b":}`)); !errors.As(err, &syntax) {
			t.Errorf("an answer that is no JSON: %v", err)
		}
		if err := first.Answer([]byte("{\"b\":\n2}")); err != nil {
			t.Error(err)
		}
		server.gets(`{"jsonrpc":"2.0","id":1,"result":{"b": 2}}`)
		if err := first.Answer([]byte("{}")); !errors.Is(err, stdio.ErrClosed) {
			t.Errorf("a second answer: %v", err)
		}
		server.says(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		call.wants(t, nil, true, 1)

		server.says(`{"jsonrpc":"2.0","id":4,"method":"roots/list"}`)
		release()
		server.gets(fmt.Sprintf(refusal, "4", mcp.CodeInternalError, "the client is gone"))
		if err := o.requests[2].Answer([]byte("{}")); !errors.Is(err, stdio.ErrClosed) {
			t.Errorf("an answer after the ownership: %v", err)
		}
		server.says(`{"jsonrpc":"2.0","id":5,"method":"roots/list"}`)
		server.gets(fmt.Sprintf(refusal, "5", mcp.CodeMethodNotFound, "method not found: roots/list"))
		next := new(owner)
		own(t, c, next)
		release() // again: it is another's now
		server.says(`{"jsonrpc":"2.0","id":6,"method":"roots/list"}`)
		if len(o.requests) != 3 || len(next.requests) != 1 {
			t.Errorf("the owners have %d and %d requests", len(o.requests), len(next.requests))
		}
	})
}

// A server that asks without end fills neither the owner nor the memory.
func TestOwnersRequestsAreBounded(t *testing.T) {
	for _, tc := range []struct {
		name   string
		budget int64
		params string
		taken  int
	}{
		{"many", 1 << 20, `{}`, 64},
		{"large", 100_000, `{"x":"` + strings.Repeat("x", 30_000) + `"}`, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				budget := stdio.NewBudget(tc.budget)
				c, server := withPeer(t, stdio.Config{Budget: budget})
				o := new(owner)
				own(t, c, o)
				ask := func(id int) {
					server.says(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"m","params":%s}`, id, tc.params))
				}
				for id := range tc.taken {
					ask(id)
				}
				ask(1000)
				server.gets(fmt.Sprintf(refusal, "1000", mcp.CodeInternalError, "too many requests wait for an answer"))
				if len(o.requests) != tc.taken || budget.Used() != int64(tc.taken*len(tc.params)) {
					t.Errorf("%d requests wait, and %d bytes", len(o.requests), budget.Used())
				}
				if err := o.requests[0].Answer([]byte("{}")); err != nil {
					t.Error(err)
				}
				server.gets(`{"jsonrpc":"2.0","id":0,"result":{}}`)
				o.requests[1].Forget()
				o.requests[1].Forget()
				if err := o.requests[1].Answer([]byte("{}")); !errors.Is(err, stdio.ErrClosed) {
					t.Errorf("the answer to a request that was forgotten: %v", err)
				}
				ask(1001)
				ask(1002)
				if len(o.requests) != tc.taken+2 || budget.Used() != int64(tc.taken*len(tc.params)) {
					t.Errorf("%d requests, want two more; %d bytes", len(o.requests), budget.Used())
				}
				if err := c.stop(); err != nil || budget.Used() != 0 {
					t.Errorf("%v; %d bytes are held after the end", err, budget.Used())
				}
			})
		})
	}
}
