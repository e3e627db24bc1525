package mcphttp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// owning makes the router refuse calls of sessions that have no replica, and run f for all
// others.
func (f *fixture) owning(run func(ctx context.Context, c fleet.Call) (fleet.CallResult, error)) {
	f.router.f = func(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
		if !f.known.has(c.Session) {
			return fleet.CallResult{}, fmt.Errorf("server: %w", fleet.ErrSessionLost)
		}
		c.Sent("w1")
		return run(ctx, c)
	}
}

func echoes(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
	return fleet.CallResult{Result: c.Params}, nil
}

func TestOwnedSession(t *testing.T) {
	f := newFixture()
	f.owning(echoes)
	w := f.do("POST", "/own/mcp", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"sampling":{}}}}`)
	want(t, w, 200, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"own","version":"1"}}}`)
	id := w.Header().Get("Mcp-Session-Id")
	if o := f.known.opens; len(o) != 1 || o[0].Server != "own" || string(o[0].Initialize) != `{"protocolVersion":"2025-11-25","capabilities":{"sampling":{}}}` {
		t.Errorf("opened %+v", o)
	}
	call := `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo"}}`
	want(t, f.do("POST", "/own/mcp", call, "Mcp-Session-Id", id), 200, `{"jsonrpc":"2.0","id":2,"result":{"name":"echo"}}`)
	for _, method := range []string{"tools/list", "logging/setLevel", "resources/subscribe"} {
		params := `{"level":"info","uri":"x:/1"}`
		want(t, f.do("POST", "/own/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":%q,"params":%s}`, method, params), "Mcp-Session-Id", id), 200, `{"jsonrpc":"2.0","id":2,"result":`+params+`}`)
	}
	session := f.known.opens[0].Session
	if f.known.Level(session) != "info" || len(f.known.Subscriptions(session)) != 1 {
		t.Error("level and subscription are not known")
	}
	f.do("POST", "/own/mcp", `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`, "Mcp-Session-Id", id)
	f.do("POST", "/own/mcp", `{"jsonrpc":"2.0","id":44,"result":{"roots":[]}}`, "Mcp-Session-Id", id)
	f.do("POST", "/own/mcp", `{"jsonrpc":"2.0","id":"s","error":{"code":1,"message":"m"}}`, "Mcp-Session-Id", id)
	if got := strings.Join(f.kept.sent, "\n"); got != `r1 {"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`+"\n"+`r1 {"jsonrpc":"2.0","id":44,"result":{"roots":[]}}`+"\n"+`r1 {"jsonrpc":"2.0","id":"s","error":{"code":1,"message":"m"}}` {
		t.Errorf("sent\n%s", got)
	}
	f.known.lose() // it gets a fresh replica
	want(t, f.do("POST", "/own/mcp", call, "Mcp-Session-Id", id), 200, `{"jsonrpc":"2.0","id":2,"result":{"name":"echo"}}`)
	f.known.lose()
	f.known.err = fmt.Errorf("open: %w", fleet.ErrSessionLost) // the server does not forgive it
	wantError(t, f.do("POST", "/own/mcp", call, "Mcp-Session-Id", id), 404, "2", codeSessionNotFound, "")
	f.known.err = nil
	f.do("DELETE", "/own/mcp", "", "Mcp-Session-Id", id)
	wantError(t, f.do("POST", "/own/mcp", call, "Mcp-Session-Id", id), 404, "2", codeSessionNotFound, "")

	f.known.refused = []byte(`{"code":-32602,"message":"no"}`)
	w = f.do("POST", "/own/mcp", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`)
	if want(t, w, 200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}`); w.Header().Get("Mcp-Session-Id") != "" {
		t.Error("a session id with the refusal")
	}
}

// The GET stream of an owned session has what its replica says, and survives the replica,
// whichever controller replaces that.
func TestOwnedStream(t *testing.T) {
	t.Run("replaced by itself", func(t *testing.T) { ownedStream(t, func(*fixture, string) {}) })
	t.Run("replaced for a request here", func(t *testing.T) {
		ownedStream(t, func(f *fixture, id string) {
			f.do("POST", "/own/mcp", `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo"}}`, "Mcp-Session-Id", id)
		})
	})
	t.Run("replaced elsewhere", func(t *testing.T) {
		ownedStream(t, func(f *fixture, _ string) {
			if given, err := f.known.Open(t.Context(), f.known.opens[0]); err != nil || !given.Healed {
				t.Errorf("opened elsewhere: %+v, %v", given, err)
			}
		})
	})
}

func ownedStream(t *testing.T, replace func(f *fixture, id string)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.owning(echoes)
		id := f.open(t, "/own/mcp", "2025-11-25")
		session := f.known.opens[0].Session
		stream := fleet.SessionStream(session, "own")
		f.kept.owner = string(session)
		f.kept.messages[stream] = []fleet.Message{{Seq: 1, Kind: fleet.MessageRequest, ID: []byte(`5`), Method: "roots/list"}}
		w, leave, done := f.serve(t, "GET", "/own/mcp", "", "Mcp-Session-Id", id)
		synctest.Wait()
		f.kept.more <- fleet.Message{Seq: 2, Kind: fleet.MessageNotification, Method: "x"}
		synctest.Wait()
		f.known.lose()
		f.kept.messages[stream] = []fleet.Message{}
		f.kept.end <- struct{}{}
		replace(f, id)
		time.Sleep(time.Second)
		leave()
		done()
		want(t, w, 200, fmt.Sprintf("event: message\nid: w1.%[1]s.1.\ndata: %[2]s\n\nevent: message\nid: w1.%[1]s.2.\ndata: %[3]s\n\nevent: message\ndata: %[4]s",
			stream, `{"jsonrpc":"2.0","id":5,"method":"roots/list"}`, `{"jsonrpc":"2.0","method":"x"}`, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`))
	})
}

// Where servers are merged, the GET stream has what all replicas of the session say, as the
// endpoint calls it.
func TestOwnedStreamsAreMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.owning(echoes)
		id := f.open(t, "/mcp", "2025-11-25")
		w, leave, done := f.serve(t, "GET", "/mcp", "", "Mcp-Session-Id", id)
		synctest.Wait()
		text, err := f.front.cfg.Sealer.Open(sessionPurpose, id)
		if err != nil {
			t.Fatal(err)
		}
		s, err := decodeSession(text)
		if err != nil {
			t.Fatal(err)
		}
		f.kept.mu.Lock()
		f.kept.owner = s.owner()
		one, two := fleet.SessionStream(s.id(), "old"), fleet.SessionStream(s.id(), "own")
		f.kept.messages[one] = []fleet.Message{
			{Seq: 1, Kind: fleet.MessageRequest, ID: []byte(`5`), Method: "roots/list"},
			{Seq: 2, Kind: fleet.MessageNotification, Method: "notifications/cancelled", Params: []byte(`{"requestId":5}`)},
		}
		f.kept.messages[two] = []fleet.Message{{Seq: 7, Kind: fleet.MessageNotification, Method: "x", Params: []byte(`{"n":1.0}`)}}
		f.kept.mu.Unlock()
		for _, server := range []fleet.ServerName{"old", "own"} {
			if _, err := f.known.Open(t.Context(), fleet.SessionRequest{Session: s.id(), Server: server}); err != nil {
				t.Fatal(err)
			}
			f.known.Post()
			synctest.Wait()
		}
		leave()
		done()
		want(t, w, 200, fmt.Sprintf("event: message\nid: w1.%[1]s.1.\ndata: %[2]s\n\nevent: message\nid: w1.%[1]s.2.\ndata: %[3]s\n\nevent: message\nid: w1.%[4]s.7.\ndata: %[5]s",
			one, `{"jsonrpc":"2.0","id":"old~5","method":"roots/list"}`, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"old~5"}}`,
			two, `{"jsonrpc":"2.0","method":"x","params":{"n":1.0}}`))
	})
}

// Where servers are merged, all replicas of a session hear that its client has other roots.
func TestRootsReachOwnReplicas(t *testing.T) {
	f := newFixture()
	root := f.offers.all[""]
	root.tools["own__echo"] = fleet.Destination{Server: "own", PerSession: true}
	id := f.open(t, "/mcp", "2025-11-25")
	text, _ := f.front.cfg.Sealer.Open(sessionPurpose, id)
	s, err := decodeSession(text)
	if err != nil {
		t.Fatal(err)
	}
	say := func(method string) {
		t.Helper()
		want(t, f.do("POST", "/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","method":%q}`, method), "Mcp-Session-Id", id), 202, "")
	}
	say("notifications/roots/list_changed")                   // nobody has heard of the client yet
	for _, server := range []fleet.ServerName{"own", "old"} { // old is not of that kind any more
		if _, err := f.known.Open(t.Context(), fleet.SessionRequest{Session: s.id(), Server: server}); err != nil {
			t.Fatal(err)
		}
	}
	say("notifications/roots/list_changed")
	say("notifications/other")
	if got := strings.Join(f.kept.sent, "\n"); got != `r1 {"jsonrpc":"2.0","method":"notifications/roots/list_changed"}` {
		t.Errorf("sent\n%s", got)
	}
}

// Where servers are merged, a level or a subscription reaches the replica that a session
// has already.
func TestSettingsReachOwnReplicas(t *testing.T) {
	tests := []struct {
		name, method, params string
		opened               bool  // the session has a replica
		answer               error // of the router
		refusal              string
		want                 string   // that the replica is sent
		code                 mcp.Code // of the answer; 0: none
	}{
		{name: "a level", method: "logging/setLevel", params: `{"level":"error"}`, opened: true, want: `logging/setLevel {"level":"error"}`},
		{name: "a subscription", method: "resources/subscribe", params: `{"n":1.0,"uri":"r+x:/1"}`, opened: true, want: `resources/subscribe {"n":1.0,"uri":"x:/1"}`},
		{name: "its end", method: "resources/unsubscribe", params: `{"uri":"r+x:/1"}`, opened: true, want: `resources/unsubscribe {"uri":"x:/1"}`},
		{name: "a level, before the first use", method: "logging/setLevel", params: `{"level":"error"}`},
		{name: "a subscription, before the first use", method: "resources/subscribe", params: `{"uri":"r+x:/1"}`},
		{name: "a replica that is lost", method: "logging/setLevel", params: `{"level":"error"}`, opened: true, answer: fleet.ErrSessionLost, want: `logging/setLevel {"level":"error"}`},
		{name: "a refusal", method: "resources/subscribe", params: `{"uri":"r+x:/1"}`, opened: true, refusal: `{"code":-32602,"message":"no"}`, want: `resources/subscribe {"uri":"x:/1"}`, code: -32602},
		{name: "a level that is none", method: "logging/setLevel", params: `{"level":"loud"}`, opened: true, code: -32602},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture()
			root := f.offers.all[""]
			root.prefix, root.at = "r+", fleet.Destination{Server: "own", PerSession: true}
			root.tools["own__echo"] = root.at
			id := f.open(t, "/mcp", "2025-11-25")
			text, _ := f.front.cfg.Sealer.Open(sessionPurpose, id)
			s, err := decodeSession(text)
			if err != nil {
				t.Fatal(err)
			}
			if test.opened {
				for _, server := range []fleet.ServerName{"own", "old"} { // old is not of that kind any more
					if _, err := f.known.Open(t.Context(), fleet.SessionRequest{Session: s.id(), Server: server}); err != nil {
						t.Fatal(err)
					}
				}
			}
			var sent []string
			f.router.f = func(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
				if c.Server != "own" || c.Session != s.id() || c.Caller != fleet.Anonymous {
					t.Errorf("call %+v", c)
				}
				sent = append(sent, c.Method+" "+string(c.Params))
				res := fleet.CallResult{Result: []byte(`{}`)}
				if test.refusal != "" {
					res = fleet.CallResult{Error: []byte(test.refusal)}
				}
				return res, test.answer
			}
			w := f.do("POST", "/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":%q,"params":%s}`, test.method, test.params), "Mcp-Session-Id", id)
			if test.code != 0 {
				wantError(t, w, 200, "2", test.code, "")
			} else {
				want(t, w, 200, `{"jsonrpc":"2.0","id":2,"result":{}}`)
			}
			if got := strings.Join(sent, "; "); got != test.want {
				t.Errorf("sent %q, want %q", got, test.want)
			}
		})
	}
}

// asking is a call that asks the client twice at once, and then waits.
func asking(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
	c.Message(fleet.Message{Seq: 1, Kind: fleet.MessageNotification, Method: "notifications/progress", Params: []byte(`{"progressToken":"t"}`)})
	c.Message(fleet.Message{Seq: 2, Kind: fleet.MessageRequest, ID: []byte(`7`), Method: "elicitation/create", Params: []byte(`{"message":"name?"}`)})
	c.Message(fleet.Message{Seq: 3, Kind: fleet.MessageRequest, ID: []byte(`"b"`), Method: "roots/list"})
	<-ctx.Done()
	return fleet.CallResult{}, context.Cause(ctx)
}

func (f *fixture) alone(capabilities, more string) string {
	body := modernBody("tools/call", `"name":"echo"`+more)
	return strings.Replace(body, `Capabilities":{}`, `Capabilities":`+capabilities, 1)
}

func TestParkedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const both = `{"elicitation":{},"roots":{}}`
		headers := []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "echo", "Accept", "application/json"}
		f := newFixture()
		f.owning(asking)
		do := func(capabilities, more string) (map[string]any, string) {
			t.Helper()
			w := f.do("POST", "/own/mcp", f.alone(capabilities, more), headers...)
			var m struct {
				Result map[string]any
				Error  map[string]any
			}
			if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
				t.Fatalf("%d %s: %v", w.Code, w.Body, err)
			}
			return m.Result, w.Body.String()
		}
		result, body := do(both, "")
		requests, _ := json.Marshal(result["inputRequests"])
		if result["resultType"] != "input_required" || string(requests) != `{"input-2":{"method":"elicitation/create","params":{"message":"name?"}},"input-3":{"method":"roots/list","params":{}}}` {
			t.Fatalf("got %s", body)
		}
		state := result["requestState"].(string)
		call := f.router.last
		session := f.known.opens[0]
		if string(session.Initialize) != `{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{},"roots":{}},"clientInfo":{"name":"mcpfleet","version":""}}` || !f.known.has(session.Session) {
			t.Errorf("opened %+v", session)
		}
		f.kept.owner = string(session.Session)
		f.kept.messages[call.Stream.ID] = []fleet.Message{
			{Seq: 2, Kind: fleet.MessageRequest, ID: []byte(`7`), Method: "elicitation/create", Params: []byte(`{"message":"name?"}`)},
			{Seq: 3, Kind: fleet.MessageRequest, ID: []byte(`"b"`), Method: "roots/list"},
			{Seq: 4, Kind: fleet.MessageReply, Result: []byte(`{"content":[]}`)},
		}
		retry := func(responses, state string) string {
			return fmt.Sprintf(`,"inputResponses":{%s},"requestState":%q`, responses, state)
		}
		const elicited, roots = `"input-2":{"action":"accept"}`, `"input-3":{"roots":[]}`
		for name, c := range map[string]string{
			"tampered":        retry(elicited+","+roots, "x"+state),
			"another request": strings.Replace(retry(elicited+","+roots, state), ",", `,"arguments":{},`, 1),
			"no string":       `,"inputResponses":{},"requestState":5`,
		} {
			if _, body := do(both, c); !strings.Contains(body, `"code":-32602`) {
				t.Errorf("%s: %s", name, body)
			}
		}
		f.kept.messages[call.Stream.ID] = f.kept.messages[call.Stream.ID][:2]
		result, body = do(both, retry(elicited, state)) // an answer is missing: it is asked again
		if again, _ := json.Marshal(result["inputRequests"]); string(again) != string(requests) || len(f.kept.sent) > 0 {
			t.Errorf("got %s, sent %v", body, f.kept.sent)
		}
		f.kept.messages[call.Stream.ID] = append(f.kept.messages[call.Stream.ID], fleet.Message{Seq: 4, Kind: fleet.MessageReply, Result: []byte(`{"content":[]}`)})
		_, body = do(both, retry(elicited+","+roots, state))
		if !strings.Contains(body, `"result":{"resultType":"complete",`) || !strings.Contains(body, `"content":[]`) {
			t.Errorf("got %s", body)
		}
		if got := strings.Join(f.kept.sent, "\n"); got != `r1 {"jsonrpc":"2.0","id":7,"result":{"action":"accept"}}`+"\n"+`r1 {"jsonrpc":"2.0","id":"b","result":{"roots":[]}}` {
			t.Errorf("sent %s", got)
		}
		if f.known.has(session.Session) || !session.Once {
			t.Error("the session of the call lives on")
		}
		if _, body = do(both, retry(elicited+","+roots, state)); !strings.Contains(body, "used before") {
			t.Errorf("a second time: %s", body)
		}
		time.Sleep(parkWindow + time.Minute)
		if _, body = do(both, retry(elicited+","+roots, state)); !strings.Contains(body, "expired") {
			t.Errorf("late: %s", body)
		}
		// A call that ended before its answers came, with its replica, and one that is lost.
		for reply, want := range map[string]string{`{"content":[]}`: `"content":[]`, ``: `"code":-31003`} {
			result, _ := do(both, "")
			call, session := f.router.last, f.known.opens[len(f.known.opens)-1].Session
			f.kept.owner, f.kept.gone, f.kept.claimed = string(session), true, 0
			f.kept.messages[call.Stream.ID] = []fleet.Message{}
			if reply != "" {
				f.kept.messages[call.Stream.ID] = []fleet.Message{{Seq: 4, Kind: fleet.MessageReply, Result: []byte(reply)}}
			}
			if _, body := do(both, retry(elicited+","+roots, result["requestState"].(string))); !strings.Contains(body, want) {
				t.Errorf("its replica is gone: %s, want %s", body, want)
			}
			f.kept.gone = false
		}
		if _, body := do(`{"roots":{}}`, ""); !strings.Contains(body, `"code":-32021`) || !strings.Contains(body, "elicitation") {
			t.Errorf("without the capability: %s", body)
		}
		if open := len(f.known.given); open != 0 {
			t.Errorf("%d sessions live on", open)
		}
	})
}

// A call that asks nothing has a session of its own, too, which ends with it.
func TestCallAlone(t *testing.T) {
	f := newFixture()
	f.owning(echoes)
	w := f.modern("/own/mcp", "tools/call", `"name":"echo"`, "Mcp-Name", "echo")
	want(t, w, 200, `{"jsonrpc":"2.0","id":"q","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"srv","version":"1"}},"name":"echo"}}`)
	if len(f.known.opens) != 1 || len(f.known.given) != 0 || f.router.last.Session != f.known.opens[0].Session {
		t.Errorf("opened %+v, %d live on", f.known.opens, len(f.known.given))
	}
	if o := f.known.opens[0]; !o.Once || time.Until(o.Until) > fleet.OnceKept {
		t.Errorf("opened %+v, want it to be forgotten soon", o)
	}
	f.known.refused = []byte(`{"code":-32002,"message":"no"}`)
	wantError(t, f.modern("/own/mcp", "tools/call", `"name":"echo"`, "Mcp-Name", "echo"), 200, `"q"`, mcp.CodeInvalidParams, "no")
}

// A request that only reads is sent again, once, if the replica that has it is lost. Any
// other is not, since it may have run.
func TestOwnedRepeats(t *testing.T) {
	for _, c := range []struct {
		tool         string
		deaths, want int // want is how often the server is called
	}{{"read", 1, 2}, {"read", 2, 2}, {"echo", 1, 1}} {
		f := newFixture()
		calls := 0
		f.owning(func(_ context.Context, call fleet.Call) (fleet.CallResult, error) {
			if calls++; calls <= c.deaths {
				f.known.lose()
				return fleet.CallResult{}, fmt.Errorf("server: %w", fleet.ErrReplicaLost)
			}
			return fleet.CallResult{Result: call.Params}, nil
		})
		ok := c.want > c.deaths
		check := func(era string, w *httptest.ResponseRecorder) {
			t.Helper()
			if calls != c.want || (w.Code == 200) != ok {
				t.Errorf("%s: %s with %d deaths: called %d times, want %d; %d %s", era, c.tool, c.deaths, calls, c.want, w.Code, w.Body)
			}
			if !ok && !strings.Contains(w.Body.String(), `"code":-31003`) {
				t.Errorf("%s: %s", era, w.Body)
			}
		}
		id := f.open(t, "/own/mcp", "2025-11-25")
		check("legacy", f.do("POST", "/own/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":%q}}`, c.tool), "Mcp-Session-Id", id))
		f.do("DELETE", "/own/mcp", "", "Mcp-Session-Id", id)
		calls = 0
		check("modern", f.modern("/own/mcp", "tools/call", fmt.Sprintf(`"name":%q`, c.tool), "Mcp-Name", c.tool))
		if open := len(f.known.given); open != 0 {
			t.Errorf("%d sessions live on", open)
		}
	}
}

// A replica that ends before it has got the call costs a modern client nothing.
func TestAloneLostBefore(t *testing.T) {
	f := newFixture()
	f.owning(echoes)
	run, lost := f.router.f, false
	f.router.f = func(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
		if !lost {
			f.known.lose()
			lost = true
		}
		return run(ctx, c)
	}
	if w := f.modern("/own/mcp", "tools/call", `"name":"echo"`, "Mcp-Name", "echo"); w.Code != 200 || len(f.known.opens) != 2 {
		t.Errorf("%d openings, then %d %s", len(f.known.opens), w.Code, w.Body)
	}
}

// A modern client that leaves has cancelled, and the server is told so before it ends.
func TestAloneLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.owning(sleepy(0, time.Hour))
		_, leave, done := f.serve(t, "POST", "/own/mcp", f.alone(`{}`, ""), "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "echo")
		time.Sleep(time.Second)
		leave()
		done()
		if got := f.kept.cancelled; len(got) != 1 || got[0] != f.router.last.Stream.ID || len(f.known.given) != 0 {
			t.Errorf("cancelled %v, want %s; %d live on", got, f.router.last.Stream.ID, len(f.known.given))
		}
	})
}

// A retry has a progress token of its own. The server knows only that of the first
// request.
func TestParkedProgress(t *testing.T) {
	const params = `{"progress":0.50,"progressToken":"first","n":9007199254740993}`
	for token, want := range map[string]string{
		`"second"`: `{"progress":0.50,"progressToken":"second","n":9007199254740993}`,
		`7`:        `{"progress":0.50,"progressToken":7,"n":9007199254740993}`,
		``:         ``,
	} {
		g := gathering{}
		if token != "" {
			g.token = []byte(token)
		}
		if got := string(g.progress([]byte(params))); got != want {
			t.Errorf("token %s: got %s, want %s", token, got, want)
		}
		if got := g.progress([]byte(`{"progress":1}`)); got != nil {
			t.Errorf("without a token: got %s", got)
		}
	}
}

// No replica is given to a session only to ask it for a resource that its server does not
// list.
func TestGuessesOpenNothing(t *testing.T) {
	at := func(server fleet.ServerName, guess bool) fleet.Destination {
		return fleet.Destination{Server: server, Name: "x:/1", Guess: guess, PerSession: strings.HasPrefix(string(server), "own")}
	}
	for name, c := range map[string]struct {
		at    []fleet.Destination
		asked string // with a session that has no replica, and by a modern client
		after string // with one that has a replica of own
	}{
		"a template matches":    {[]fleet.Destination{at("own", false), at("own2", true), at("old", true)}, "own old", "own old"},
		"only guesses":          {[]fleet.Destination{at("own", true), at("own2", true), at("old", true)}, "old", "own old"},
		"guesses that are dear": {[]fleet.Destination{at("own", true), at("own2", true)}, "", "own"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			f.offers.all[""].resources = c.at
			var asked []string
			f.owning(nil)
			lost := f.router.f
			f.router.f = func(ctx context.Context, call fleet.Call) (fleet.CallResult, error) {
				if call.Session != "" && !f.known.has(call.Session) {
					return lost(ctx, call)
				}
				asked = append(asked, string(call.Server))
				return fleet.CallResult{Error: []byte(`{"code":-32002,"message":"not here"}`)}, nil
			}
			read := `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"x:/1"}}`
			check := func(who, want string, body string, code mcp.Code) {
				t.Helper()
				if got := strings.Join(asked, " "); got != want {
					t.Errorf("%s: asked %q, want %q", who, got, want)
				}
				if !strings.Contains(body, fmt.Sprintf(`"code":%d`, code)) {
					t.Errorf("%s: %s", who, body)
				}
				asked = nil
			}
			w := f.modern("/mcp", "resources/read", `"uri":"x:/1"`, "Mcp-Name", "x:/1")
			check("modern", c.asked, w.Body.String(), mcp.CodeInvalidParams)
			id := f.open(t, "/mcp", "2025-11-25")
			w = f.do("POST", "/mcp", read, "Mcp-Session-Id", id)
			check("legacy", c.asked, w.Body.String(), mcp.CodeResourceNotFound)
			f.do("POST", "/mcp", strings.Replace(slowCall, "echo", "old__echo", 1), "Mcp-Session-Id", id)
			asked = nil
			session := fleet.SessionID(f.router.last.Stream.Owner)
			if _, err := f.known.Open(t.Context(), fleet.SessionRequest{Session: session, Server: "own"}); err != nil {
				t.Fatal(err)
			}
			w = f.do("POST", "/mcp", read, "Mcp-Session-Id", id)
			check("a session with a replica", c.after, w.Body.String(), mcp.CodeResourceNotFound)
		})
	}
}
