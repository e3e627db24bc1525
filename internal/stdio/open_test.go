package stdio_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

const (
	meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"mcpfleet","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{}}`
	askDiscover = `"method":"server/discover","params":{` + meta + `}}`
	askInit     = `"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcpfleet","version":"1"}}}`
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`

	discovered = `"result":{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{"tools":{}},` +
		`"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"2"}},"instructions":"be kind","ttlMs":3000,"cacheScope":"public"}`
	welcomed  = `"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"2"}}`
	notFound  = `"error":{"code":-32601,"message":"Method not found"}`
	notBefore = `"error":{"code":-32602,"message":"Received request before initialization was complete"}`
)

// Each step of a script is what the server gets (>), what it answers to the request with the id (1, 2),
// or how long it does nothing (a duration).
func TestOpen(t *testing.T) {
	const patience = 2 * time.Second
	discover, welcome := "> 1 "+askDiscover, "> 2 "+askInit
	for _, tt := range []struct {
		name    string
		opening stdio.Opening
		script  []string
		era     fleet.Era
		fault   error
		says    string
	}{
		{name: "modern", script: []string{discover, "1 " + discovered}, era: fleet.EraModern},
		{name: "legacy", script: []string{discover, "1 " + notFound, welcome, "2 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
		{name: "legacy that names another fault", script: []string{discover, "1 " + notBefore, welcome, "2 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
		{name: "answers everything with an empty result", script: []string{discover, `1 "result":{}`, welcome, "2 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
		{name: "a malformed answer", script: []string{discover, `1 "result":`, welcome, "2 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
		{name: "silent on discover", script: []string{discover, "2s", welcome, "2 " + welcomed, "> " + initialized, "250ms"}, era: fleet.EraLegacy},
		{name: "a slow start", script: []string{discover, "2s", welcome, "5s", "1 " + notFound, "2 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
		{name: "a slow start of a modern server", script: []string{discover, "2s", welcome, "5s", "1 " + discovered, "2 " + notFound}, era: fleet.EraModern},
		{name: "the same, in another order", script: []string{discover, "2s", welcome, "5s", `2 "error":{"code":-32022,"message":"m","data":{"supported":["2026-07-28"]}}`, "7ms", "1 " + discovered}, era: fleet.EraModern},
		{name: "a slow start of a server of both eras", script: []string{discover, "2s", welcome, "5s", "1 " + discovered, "2 " + welcomed, "> " + initialized}, fault: stdio.ErrLateDiscover},
		{name: "the same, in the order of initialize", script: []string{discover, "2s", welcome, "5s", "2 " + welcomed, "> " + initialized, "10ms", "1 " + discovered}, fault: stdio.ErrLateDiscover},
		{name: "late, and silent on initialize", script: []string{discover, "2s", welcome, "5s", "1 " + discovered, "2s"}, fault: stdio.ErrLateDiscover},
		{name: "dies of it", script: []string{discover, "end"}, fault: stdio.ErrDiedOfDiscover},
		{name: "dies of it later", script: []string{discover, "2s", welcome, "end"}, fault: stdio.ErrDiedOfDiscover},
		{name: "dies of initialize", script: []string{discover, "1 " + notFound, welcome, "end"}, fault: stdio.ErrLost},
		{name: "wants an unknown version", script: []string{discover, `1 "error":{"code":-32022,"message":"no","data":{"supported":["2099-01-01"]}}`}, says: "cannot be used"},
		{name: "has an unknown version", script: []string{discover, `1 "result":{"supportedVersions":["2099-01-01"],"capabilities":{}}`}, says: `"2099-01-01"`},
		{name: "a later one that speaks the legacy era too", script: []string{discover, `1 "error":{"code":-32022,"message":"no","data":{"supported":["2099-01-01","2025-11-25"]}}`,
			welcome, "2 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
		{name: "wants a capability", script: []string{discover, `1 "error":{"code":-32021,"message":"sampling wanted","data":{"requiredCapabilities":{"sampling":{}}}}`}, says: "sampling wanted"},
		{name: "a code of its own, that of versions", script: []string{discover, `1 "error":{"code":-32022,"message":"not initialized"}`, welcome, "2 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
		{name: "a code of its own, that of capabilities", script: []string{discover, `1 "error":{"code":-32021,"message":"not initialized"}`, welcome, "2 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
		{name: "a code of its own, that of headers", script: []string{discover, `1 "error":{"code":-32020,"message":"not initialized"}`, welcome, "2 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
		{name: "refuses both", script: []string{discover, "1 " + notFound, welcome, `2 "error":{"code":-32000,"message":"broken"}`}, says: "broken"},
		{name: "no answer at all", script: []string{discover, "2s", welcome}, fault: context.DeadlineExceeded},

		{name: "legacy by order", opening: stdio.Opening{Era: fleet.EraLegacy}, script: []string{"> 1 " + askInit, "1 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
		{name: "modern by order", opening: stdio.Opening{Era: fleet.EraModern}, script: []string{discover, "5s", "1 " + discovered}, era: fleet.EraModern},
		{name: "modern by order, which it is not", opening: stdio.Opening{Era: fleet.EraModern}, script: []string{discover, "1 " + notFound}, fault: stdio.ErrNotModern},
		{name: "modern by order, no answer", opening: stdio.Opening{Era: fleet.EraModern}, script: []string{discover}, fault: context.DeadlineExceeded},
		{name: "known as legacy", opening: stdio.Opening{Known: fleet.EraLegacy}, script: []string{"> 1 " + askInit, "1 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
		{name: "known as legacy, but modern now", opening: stdio.Opening{Known: fleet.EraLegacy},
			script: []string{"> 1 " + askInit, "1 " + notFound, "> 2 " + askDiscover, "2 " + discovered}, era: fleet.EraModern},
		{name: "known as legacy, but broken now", opening: stdio.Opening{Known: fleet.EraLegacy},
			script: []string{"> 1 " + askInit, `1 "error":{"code":-32603,"message":"broken"}`, "> 2 " + askDiscover, "2s"}, says: "broken"},
		{name: "known as modern, but legacy now", opening: stdio.Opening{Known: fleet.EraModern},
			script: []string{discover, "1 " + notFound, welcome, "2 " + welcomed, "> " + initialized}, era: fleet.EraLegacy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c, server := withPeer(t, stdio.Config{Log: discard(), ClientInfo: mcp.Implementation{Name: "mcpfleet", Version: "1"}})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				tt.opening.Wait = patience
				var opened *stdio.Server
				var err error
				done := make(chan struct{})
				go func() {
					defer close(done)
					opened, err = c.Open(ctx, tt.opening)
				}()
				server.plays(tt.script)
				<-done
				switch {
				case tt.era != "":
					if err != nil {
						t.Fatal(err)
					}
					if opened.Era != tt.era || !opened.Has("tools") || opened.Has("prompts") || !strings.Contains(string(opened.Info), `"name":"s"`) {
						t.Errorf("opened as %+v, want era %s", opened, tt.era)
					}
				case err == nil || !errors.Is(err, tt.fault) && tt.fault != nil || !strings.Contains(err.Error(), tt.says):
					t.Errorf("error %v, want %v that says %q", err, tt.fault, tt.says)
				}
			})
		})
	}
}

// plays follows a script; see TestOpen.
func (p *peer) plays(script []string) {
	p.t.Helper()
	for _, step := range script {
		what, rest, _ := strings.Cut(step, " ")
		switch {
		case what == ">" && rest[0] != '{':
			id, request, _ := strings.Cut(rest, " ")
			p.gets(`{"jsonrpc":"2.0","id":` + id + `,` + request)
		case what == ">":
			p.gets(rest)
		case what == "end":
			p.in.Close()
			p.out.Close()
		case rest == "":
			d, err := time.ParseDuration(what)
			if err != nil {
				p.t.Fatal(err)
			}
			time.Sleep(d) // of the bubble's clock
		default:
			p.says(`{"jsonrpc":"2.0","id":` + what + `,` + rest + `}`)
		}
	}
}

// modern opens a conversation of the modern era, whose first request had the id 1.
func modern(t *testing.T) (*conversation, *peer) {
	t.Helper()
	c, server := withPeer(t, stdio.Config{ClientInfo: mcp.Implementation{Name: "mcpfleet", Version: "1"}})
	done := make(chan error, 1)
	go func() {
		_, err := c.Open(t.Context(), stdio.Opening{Wait: time.Second})
		done <- err
	}()
	server.plays([]string{"> 1 " + askDiscover, "1 " + discovered})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return c, server
}

// Every request of our own in the modern era says who asks, and there is no ping.
func TestModernRequests(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, server := modern(t)
		var listing stdio.Listing
		done := make(chan error, 1)
		go func() {
			var err error
			listing, err = c.List(t.Context(), mcp.MethodPromptsList, "prompts")
			done <- err
		}()
		server.plays([]string{
			`> 2 "method":"prompts/list","params":{` + meta + `}}`,
			`2 "result":{"resultType":"complete","prompts":[{"name":"a"}],"nextCursor":"n","ttlMs":5000,"cacheScope":"public"}`,
			`> 3 "method":"prompts/list","params":{` + meta + `,"cursor":"n"}}`,
			`3 "result":{"resultType":"complete","prompts":[{"name":"b"}],"ttlMs":3000,"cacheScope":"private"}`,
		})
		if err := <-done; err != nil || len(listing.Elements) != 2 || listing.Hint != (mcp.CacheHint{TTL: 3000, Scope: "private"}) {
			t.Errorf("listed %+v, %v", listing, err)
		}

		go func() { done <- c.Check(t.Context(), time.Second, true) }()
		server.plays([]string{"> 4 " + askDiscover, "4 " + notFound})
		if err := <-done; err != nil {
			t.Errorf("a check that was answered gave %v", err)
		}
		go func() { done <- c.Check(t.Context(), time.Second, true) }()
		server.plays([]string{"> 5 " + askDiscover, "1s"})
		if err := <-done; err == nil || strings.Contains(err.Error(), "tools/list") {
			t.Errorf("a check without an answer gave %v", err)
		}
	})
}

// A call whose client says no version, because it is of the legacy era, gets ours. What its client
// says stays.
func TestModernCalls(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, server := modern(t)
		const version = `"io.modelcontextprotocol/protocolVersion":"2026-07-28"`
		for i, tt := range []struct {
			params string
			noMeta bool
			want   []string
		}{
			{`{"name":"t"}`, true, []string{version, `"name":"t"`}},
			{`{"name":"t"}`, false, []string{version, `"name":"t"`}},
			{`{"name":"t","_meta":{"a/b":1}}`, false, []string{version, `"a/b":1`}},
			{`{"_meta":{"io.modelcontextprotocol/protocolVersion":"2027-01-01","io.modelcontextprotocol/clientCapabilities":{}}}`, false, []string{`"2027-01-01"`}},
		} {
			if _, err := c.Start(&stdio.Call{Method: mcp.MethodToolsCall, Params: []byte(tt.params), NoMeta: tt.noMeta, Progress: true, Done: func(r stdio.Reply) { r.Release() }}); err != nil {
				t.Fatal(err)
			}
			line, err := server.buf.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range append(tt.want, fmt.Sprintf(`"progressToken":%d`, i+2)) {
				if strings.Count(line, want) != 1 {
					t.Errorf("%s: sent %s, want %s in it", tt.params, line, want)
				}
			}
			server.says(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{}}`, i+2))
		}
	})
}

// A cancelled call gets no reply in the modern era. It holds its slot until the question after it is
// answered.
func TestModernCancel(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, server := modern(t)
		var r record
		p := start(t, c, r.call("tools/call", `{"name":"slow"}`))
		server.gets(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"slow"}}`)
		c.Cancel(p, "")
		server.plays([]string{
			`> {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`,
			"> 3 " + askDiscover,
		})
		r.wants(t, stdio.ErrCancelled, true, 0)
		server.plays([]string{"3 " + discovered})
		r.wants(t, stdio.ErrCancelled, true, 1)
		if s := c.Stats(); s.Outstanding != 0 {
			t.Errorf("%d calls outstanding", s.Outstanding)
		}
	})
}

// A server that ends without having read anything did not end because of server/discover.
func TestOpenOfAServerThatReadsNothing(t *testing.T) {
	for _, reads := range []bool{false, true} {
		childIn, in := pipe(t)
		out, childOut := pipe(t)
		c := run(t, stdio.Config{Log: discard(), In: in, Out: out})
		done := make(chan error, 1)
		go func() {
			_, err := c.Open(t.Context(), stdio.Opening{Wait: time.Minute})
			done <- err
		}()
		for c.Stats().BytesOut == 0 {
			time.Sleep(time.Millisecond)
		}
		if reads {
			if _, err := childIn.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		childIn.Close()
		childOut.Close()
		if err := <-done; !errors.Is(err, stdio.ErrLost) || errors.Is(err, stdio.ErrDiedOfDiscover) != reads {
			t.Errorf("read any of it: %t; error %v", reads, err)
		}
	}
}
