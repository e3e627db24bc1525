package stdio_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

func TestRequestGivesUpWithItsContext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		got := make(chan stdio.Reply)
		go func() { got <- c.Request(ctx, "slow", nil) }()
		server.gets(`{"jsonrpc":"2.0","id":1,"method":"slow"}`)
		r := <-got
		if !errors.Is(r.Err, context.DeadlineExceeded) || !errors.Is(r.Err, stdio.ErrCancelled) || !r.Delivered {
			t.Errorf("reply %+v, want a delivered call that ran into its deadline", r)
		}
		if d := time.Since(begun); d != 3*time.Second {
			t.Errorf("took %v", d)
		}
		server.gets(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"the caller gave up"}}`)
		server.gets(`{"jsonrpc":"2.0","id":2,"method":"ping"}`)
	})
}

// Any message that names the request is an answer, and shows that the server
// lives.
func TestCheckTakesAnyAnswer(t *testing.T) {
	for answer, alive := range map[string]bool{
		`{"jsonrpc":"2.0","id":1}`:                                           true,
		`{"jsonrpc":"2.0","id":"1"}`:                                         true,
		`{"id":1}`:                                                           true,
		`{"id":1,"result":{}}`:                                               true,
		`{"jsonrpc":"2.0","id":1,"result":null}`:                             true,
		`{"jsonrpc":"2.0","id":1,"error":null}`:                              true,
		`{"jsonrpc":"2.0","id":1,"error":"what?"}`:                           true,
		`{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`:               true,
		`{"jsonrpc":"2.0","id":1,"ok":true}`:                                 true,
		`{"level":"info","id":1,"error":"boom"}`:                             false,
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`:                           false,
		`{"jsonrpc":"2.0","id":5,"result":{}}`:                               false,
		`{"jsonrpc":"2.0","id":1,"result":{}}`:                               true,
		`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"what?"}}`: true,
		`{"jsonrpc":"2.0","id":1,"result":"` + "\xff" + `"}`:                 true,
		`{"jsonrpc":"2.0","method":"notifications/message","params":{}}`:     false,
	} {
		bubble.Test(t, func(t *testing.T) {
			c, server := withPeer(t, stdio.Config{})
			got := make(chan error)
			go func() { got <- c.Check(t.Context(), 5*time.Second, false) }()
			server.gets(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
			server.says(answer)
			if strings.Contains(answer, `"method":"ping"}`) {
				server.gets(`{"jsonrpc":"2.0","id":1,"result":{}}`)
			}
			if !alive {
				server.gets(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
			}
			if err := <-got; (err == nil) != alive {
				t.Errorf("%s: Check = %v, want alive %v", answer, err, alive)
			}
			next := 2
			if !alive {
				next++
			}
			// A question is given up without a word.
			var r record
			start(t, c, r.call("next", ""))
			server.gets(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"next"}`, next))
			if n := c.Stats().Outstanding; n != 1 {
				t.Errorf("%d outstanding, want 1", n)
			}
		})
	}
}

// Silence to ping is followed by a question that the server must know, unless it has answered pings
// and its life does not depend on this one.
func TestCheckAsksASecondQuestion(t *testing.T) {
	const ping, list = "ping", "tools/list"
	type step struct {
		last    bool
		asked   []string // what the server is asked; it answers what is in knows
		knows   string
		alive   bool
		seconds int
	}
	for name, steps := range map[string][]step{
		"ignores ping": {
			{asked: []string{ping, list}, knows: list, alive: true, seconds: 5},
			{asked: []string{list}, knows: list, alive: true},
			{asked: []string{list}, seconds: 5},
			{last: true, asked: []string{list}, seconds: 5},
		},
		"answers ping": {
			{asked: []string{ping}, knows: ping, alive: true},
			{asked: []string{ping}, seconds: 5},
			{last: true, asked: []string{ping, list}, seconds: 10},
			{last: true, asked: []string{ping, list}, knows: list, alive: true, seconds: 5},
			{asked: []string{ping}, knows: ping, alive: true},
		},
		"dead at once": {{asked: []string{ping, list}, seconds: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c, server := withPeer(t, stdio.Config{})
				id := 0
				for i, s := range steps {
					began := time.Now()
					got := make(chan error, 1)
					go func() { got <- c.Check(t.Context(), 5*time.Second, s.last) }()
					for _, method := range s.asked {
						id++
						server.gets(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q}`, id, method))
						if method == s.knows {
							server.says(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{}}`, id))
						}
					}
					if err := <-got; (err == nil) != s.alive {
						t.Errorf("step %d: Check = %v, want alive %v", i, err, s.alive)
					}
					if took := time.Since(began); took != time.Duration(s.seconds)*time.Second {
						t.Errorf("step %d took %s, want %d s", i, took, s.seconds)
					}
				}
			})
		})
	}
}

func TestNoPingMeansNone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{NoPing: true})
		var r record
		p := start(t, c, r.call("slow", ""))
		server.gets(`{"jsonrpc":"2.0","id":1,"method":"slow"}`)
		c.Cancel(p, "")
		server.gets(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
		server.gets(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
		r.wants(t, stdio.ErrCancelled, true, 0)
		server.says(`{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}`)
		r.wants(t, stdio.ErrCancelled, true, 1)
	})
}

func TestHandshake(t *testing.T) {
	const request = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcpfleet","version":"1"}}}`
	result := func(version string) string {
		return `"result":{"protocolVersion":"` + version + `","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"2"},"instructions":"be kind"}`
	}
	cases := map[string]struct{ answer, fault string }{
		"newest":         {result("2025-11-25"), ""},
		"oldest":         {result("2024-10-07"), ""},
		"as a string":    {`"id":"1",` + result("2025-06-18"), ""}, // the last id counts
		"unknown":        {result("1999-01-01"), `"1999-01-01"`},
		"none":           {`"result":{}`, `initialize: result without "protocolVersion"`},
		"no string":      {`"result":{"protocolVersion":1}`, "initialize: protocolVersion: must be a string, not a number"},
		"no object":      {`"result":3`, "initialize: result: must be an object, not a number"},
		"error":          {`"error":{"code":-32602,"message":"bad version"}`, "bad version"},
		"modern refusal": {`"error":{"code":-32601,"message":"Method not found"}`, "-32601"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c, server := withPeer(t, stdio.Config{ClientInfo: mcp.Implementation{Name: "mcpfleet", Version: "1"}})
				type outcome struct {
					result *mcp.InitializeResult
					err    error
				}
				got := make(chan outcome, 1)
				go func() {
					r, err := c.Handshake(t.Context())
					got <- outcome{r, err}
				}()
				server.gets(request)
				server.says(`{"jsonrpc":"2.0","id":1,` + tc.answer + `}`)
				if tc.fault == "" {
					server.gets(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
				}
				o := <-got
				if tc.fault != "" {
					if o.err == nil || !strings.Contains(o.err.Error(), tc.fault) {
						t.Errorf("error %v, want one with %s", o.err, tc.fault)
					}
					return
				}
				if o.err != nil {
					t.Fatal(o.err)
				}
				if !o.result.Has("tools") || o.result.Has("prompts") || !strings.Contains(string(o.result.ServerInfo), `"name":"s"`) || o.result.Instructions != "be kind" {
					t.Errorf("result %+v", o.result)
				}
			})
		})
	}
}

// A server may refuse the version it was offered, and say what it speaks.
func TestHandshakeOffersAnotherVersionOnce(t *testing.T) {
	const refusal = `"error":{"code":-32602,"message":"Unsupported protocol version","data":{"supported":%s,"requested":"2025-11-25"}}`
	for name, tc := range map[string]struct{ supported, offer string }{
		"newest of those":        {`["2024-11-05","2025-06-18","2099-01-01","2025-03-26"]`, "2025-06-18"},
		"none that we know":      {`["1999-01-01"]`, ""},
		"the one it was offered": {`["2025-11-25","2024-11-05"]`, ""},
		"no list":                {`"2024-11-05"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c, server := withPeer(t, stdio.Config{Log: discard()})
				got := make(chan error, 1)
				go func() {
					_, err := c.Handshake(t.Context())
					got <- err
				}()
				gets := func(version string) {
					line, err := server.buf.ReadString('\n')
					if err != nil || !strings.Contains(line, `"protocolVersion":"`+version+`"`) {
						t.Errorf("the server got %s, %v; want version %s", line, err, version)
					}
				}
				gets("2025-11-25")
				server.says(`{"jsonrpc":"2.0","id":1,` + fmt.Sprintf(refusal, tc.supported) + `}`)
				if tc.offer != "" {
					gets(tc.offer)
					server.says(`{"jsonrpc":"2.0","id":2,` + fmt.Sprintf(refusal, `["2024-11-05"]`) + `}`)
				}
				if err := <-got; err == nil || !strings.Contains(err.Error(), "Unsupported protocol version") {
					t.Errorf("Handshake gave %v", err)
				}
			})
		})
	}
}

func TestListTools(t *testing.T) {
	cases := map[string]struct {
		pages []string
		names string
		fault string
	}{
		"one page":     {[]string{`{"tools":[{"name":"a","x":1.0,"annotations":{"readOnlyHint":true}},{"name":"b"}]}`}, "a b", ""},
		"three pages":  {[]string{`{"tools":[{"name":"a"}],"nextCursor":"1"}`, `{"tools":[],"nextCursor":"2"}`, `{"tools":[{"name":"b"}],"nextCursor":null}`}, "a b", ""},
		"cursor loop":  {[]string{`{"tools":[{"name":"a"}],"nextCursor":"1"}`, `{"tools":[{"name":"a"},{"name":"b"}],"nextCursor":"1"}`}, "a b", ""},
		"cursors loop": {[]string{`{"tools":[{"name":"a"}],"nextCursor":"1"}`, `{"tools":[{"name":"b"}],"nextCursor":"2"}`, `{"tools":[{"name":"a"}],"nextCursor":"1"}`}, "a b", ""},
		"null":         {[]string{`{"tools":null}`}, "", ""},
		"null at last": {[]string{`{"tools":[{"name":"a"}],"nextCursor":"1"}`, `{"tools":null}`}, "a", ""},
		"no name":      {[]string{`{"tools":[{"title":"a"},{"name":"b"},3,{"name":""},{"name":7},{"name":"c"}]}`}, "b c", ""},
		"no tools":     {[]string{`{}`}, "", `without "tools"`},
		"tools object": {[]string{`{"tools":{}}`}, "", "must be an array, not an object"},
		"cursor 3":     {[]string{`{"tools":[],"nextCursor":3}`}, "", "must be a string, not a number"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c, server := withPeer(t, stdio.Config{})
				type outcome struct {
					tools stdio.Listing
					err   error
				}
				got := make(chan outcome, 1)
				go func() {
					tools, err := c.ListTools(t.Context())
					got <- outcome{tools, err}
				}()
				for i, page := range tc.pages {
					if _, err := server.buf.ReadString('\n'); err != nil {
						t.Fatal(err)
					}
					server.says(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":%s}`, i+1, page))
				}
				o := <-got
				if tc.fault != "" {
					if o.err == nil || !strings.Contains(o.err.Error(), tc.fault) {
						t.Errorf("error %v, want one with %q", o.err, tc.fault)
					}
					return
				}
				if o.err != nil {
					t.Fatal(o.err)
				}
				var names []string
				for _, raw := range o.tools.Elements {
					tool, err := mcp.ParseTool(raw)
					if err != nil {
						t.Fatal(err)
					}
					names = append(names, tool.Name)
				}
				if strings.Join(names, " ") != tc.names {
					t.Fatalf("tools %v, want %s", names, tc.names)
				}
				if len(names) == 0 {
					return
				}
				if raw := string(o.tools.Elements[0]); name == "one page" && raw != `{"name":"a","x":1.0,"annotations":{"readOnlyHint":true}}` {
					t.Errorf("first tool %s", raw)
				}
			})
		})
	}
}
