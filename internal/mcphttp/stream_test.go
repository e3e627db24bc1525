package mcphttp

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// serve answers a request in a goroutine of its own. The client leaves at leave; done
// waits for the end.
func (f *fixture) serve(t *testing.T, method, path, body string, headers ...string) (w *httptest.ResponseRecorder, leave func(), done func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w = httptest.NewRecorder()
	var served sync.WaitGroup
	served.Go(func() { f.handler.ServeHTTP(w, newRequest(method, path, body, headers...).WithContext(ctx)) })
	return w, cancel, served.Wait
}

// sleepy is a call that takes a while, reports progress in the middle, and answers.
func sleepy(before, after time.Duration) func(context.Context, fleet.Call) (fleet.CallResult, error) {
	return func(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
		time.Sleep(before)
		if c.Message != nil {
			c.Message(fleet.Message{Kind: fleet.MessageNotification, Method: "notifications/progress", Params: []byte(`{"progressToken":"t","progress":1}`)})
		} else if c.Notification != nil {
			c.Notification("notifications/progress", []byte(`{"progressToken":"t","progress":1}`))
		}
		select {
		case <-time.After(after):
			return fleet.CallResult{Result: []byte("{\"late\":\n1}")}, nil
		case <-ctx.Done():
			return fleet.CallResult{}, context.Cause(ctx)
		}
	}
}

const (
	slowCall   = `{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"echo","_meta":{"progressToken":"t"}}}`
	progressed = "event: message\ndata: " + `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1}}` + "\n\n"
	late       = "event: message\ndata: " + `{"jsonrpc":"2.0","id":"c","result":{"late": 1}}` + "\n\n"
)

func TestCallBecomesStream(t *testing.T) {
	for _, c := range []struct {
		name, accept  string
		before, after time.Duration
		want          string
	}{
		{"at once", "", 0, 0, progressed + late},
		{"after a while", "", 50 * time.Millisecond, 0, progressed + late},
		{"quiet", "", 200 * time.Millisecond, 20 * time.Second, progressed + ": keep-alive\n\n" + late},
		{"JSON only", "application/json", 200 * time.Millisecond, 0, "{\"jsonrpc\":\"2.0\",\"id\":\"c\",\"result\":{\"late\":\n1}}"},
		{"SSE only", "text/event-stream", 0, 0, progressed + late},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture()
				id := f.open(t, "/old/mcp", "2025-11-25")
				f.router.f = sleepy(c.before, c.after)
				headers := []string{"Mcp-Session-Id", id}
				if c.accept != "" {
					headers = append(headers, "Accept", c.accept)
				}
				w := f.do("POST", "/old/mcp", slowCall, headers...)
				if got := w.Body.String(); w.Code != 200 || got != c.want {
					t.Errorf("got %d\n%s\nwant\n%s", w.Code, got, c.want)
				}
				if stream := strings.HasPrefix(c.want, "event"); stream != (w.Header().Get("Content-Type") == "text/event-stream") || stream != (w.Header().Get("X-Accel-Buffering") == "no") {
					t.Errorf("headers %v", w.Header())
				}
			})
		})
	}
}

// before0 is the progress that the fleet tells of.
var before0 = [...]string{"-1", "-0.5", "-0.3333333333333333"}

// While a call waits for a replica its client hears why, until the server has the call.
func TestProgressOfTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.router.f = func(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
			c.Queued(2, "")
			c.Queued(0, "")
			c.Queued(0, "image is being pulled")
			c.Sent("w1")
			c.Queued(1, "")
			return fleet.CallResult{Result: []byte(`{}`)}, nil
		}
		id := f.open(t, "/old/mcp", "2025-06-18")
		w := f.do("POST", "/old/mcp", slowCall, "Mcp-Session-Id", id)
		var all string
		for i, why := range []string{"waiting for a free replica (2 before it)", "waiting for a free replica", "waiting for a replica: image is being pulled"} {
			all += "event: message\ndata: " + fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":%s,"message":%q}}`, before0[i], why) + "\n\n"
		}
		want(t, w, 200, all+"event: message\ndata: "+`{"jsonrpc":"2.0","id":"c","result":{}}`)
	})
}

// So it does while an idle server is started whose tools are not known yet.
func TestProgressOfStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		id := f.open(t, "/old/mcp", "2025-06-18")
		f.offers.setIdle(true)
		f.router.start = func() {
			time.Sleep(2500 * time.Millisecond)
			f.offers.setIdle(false)
		}
		f.router.f = func(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
			c.Queued(0, "")
			return fleet.CallResult{Result: []byte(`{}`)}, nil
		}
		w := f.do("POST", "/old/mcp", slowCall, "Mcp-Session-Id", id)
		var all string
		for i, why := range []string{"waiting for the server to start", "waiting for the server to start", "waiting for a free replica"} {
			all += "event: message\ndata: " + fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":%s,"message":%q}}`, before0[i], why) + "\n\n"
		}
		want(t, w, 200, all+"event: message\ndata: "+`{"jsonrpc":"2.0","id":"c","result":{}}`)
	})
}

// The progress of a request goes on from the wait for its session's replica to the wait in
// the queue, and never back.
func TestProgressOnlyGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.owning(func(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
			c.Message(fleet.Message{Kind: fleet.MessageNotification, Method: "notifications/progress", Params: []byte(`{"progressToken":"t","progress":0}`)})
			return fleet.CallResult{Result: []byte(`{}`)}, nil
		})
		id := f.open(t, "/own/mcp", "2025-06-18")
		f.known.lose()
		f.known.takes = 2500 * time.Millisecond
		queued := f.router.f
		f.router.f = func(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
			if f.known.has(c.Session) {
				c.Queued(1, "")
			}
			return queued(ctx, c)
		}
		w := f.do("POST", "/own/mcp", slowCall, "Mcp-Session-Id", id)
		var got []string
		for _, part := range strings.Split(w.Body.String(), `"progress":`)[1:] {
			got = append(got, part[:strings.IndexAny(part, ",}")])
		}
		if all := strings.Join(got, " "); all != "-1 -0.5 -0.3333333333333333 0" {
			t.Errorf("progress %s in\n%s", all, w.Body)
		}

		tries := 0
		f.router.f = func(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
			if tries++; tries == 1 {
				c.Message(fleet.Message{Kind: fleet.MessageNotification, Method: "notifications/progress", Params: []byte(`{"progressToken":"t","progress":0}`)})
				f.known.lose()
				return fleet.CallResult{}, fleet.ErrSessionLost
			}
			return fleet.CallResult{Result: []byte(`{}`)}, nil
		}
		if w := f.do("POST", "/own/mcp", slowCall, "Mcp-Session-Id", id); strings.Count(w.Body.String(), `"progress":`) != 1 || tries != 2 {
			t.Errorf("the fleet goes on after the server, in %d tries:\n%s", tries, w.Body)
		}
	})
}

// A failure on a stream is its last message.
func TestErrorOnStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		id := f.open(t, "/old/mcp", "2025-11-25")
		f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
			time.Sleep(2 * patient)
			return fleet.CallResult{}, fleet.ErrReplicaLost
		}
		w := f.do("POST", "/old/mcp", slowCall, "Mcp-Session-Id", id, "X-Request-Id", "r")
		want(t, w, 200, "event: message\ndata: "+`{"jsonrpc":"2.0","id":"c","error":{"code":-31003,"message":"replica lost during the call","data":{"code":"replica_lost","request_id":"r"}}}`)
	})
}

func TestCancel(t *testing.T) {
	for name, c := range map[string]struct {
		accept string
		after  time.Duration
		stream bool // the answer is a stream, with nothing but progress
		body   string
	}{
		"before there is an answer": {"", 0, true, ""},
		"on a stream":               {"", time.Second, true, ""},
		"JSON only":                 {"application/json", time.Second, false, "-31014"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture()
				id, other := f.open(t, "/old/mcp", "2025-11-25"), f.open(t, "/old/mcp", "2025-11-25")
				f.router.f = func(ctx context.Context, _ fleet.Call) (fleet.CallResult, error) {
					<-ctx.Done()
					return fleet.CallResult{}, context.Cause(ctx)
				}
				headers := []string{"Mcp-Session-Id", id}
				if c.accept != "" {
					headers = append(headers, "Accept", c.accept)
				}
				w, _, done := f.serve(t, "POST", "/old/mcp", slowCall, headers...)
				synctest.Wait()
				cancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c","reason":"too \"slow\""}}`
				if got := f.do("POST", "/old/mcp", cancel, "Mcp-Session-Id", other); got.Code != 202 {
					t.Errorf("got %d", got.Code)
				}
				time.Sleep(c.after) // another session's request: nothing happens
				f.do("POST", "/old/mcp", cancel, "Mcp-Session-Id", id)
				start := time.Now()
				done()
				stream := w.Header().Get("Content-Type") == "text/event-stream"
				if took := time.Since(start); took > 0 || w.Code != 200 || stream != c.stream || !strings.Contains(w.Body.String(), c.body) || stream && w.Body.Len() > 0 {
					t.Errorf("after %v: %d %s", took, w.Code, w.Body)
				}
				if f.kept.reason != `too "slow"` {
					t.Errorf("the server is told %q", f.kept.reason)
				}
			})
		})
	}
}

// Reasons are cut where a character ends, and what is no text is none.
func TestReasons(t *testing.T) {
	f := newFixture()
	id := f.open(t, "/old/mcp", "2025-11-25")
	for sent, want := range map[string]string{
		`7`: "", `null`: "", `"why"`: "why",
		`"` + strings.Repeat("ä", maxReason) + `"`:  strings.Repeat("ä", maxReason/2),
		`"x` + strings.Repeat("ä", maxReason) + `"`: "x" + strings.Repeat("ä", maxReason/2-1),
	} {
		f.do("POST", "/old/mcp", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":`+sent+`}}`, "Mcp-Session-Id", id)
		if f.kept.reason != want {
			t.Errorf("%.20s: told %.20q of %d bytes", sent, f.kept.reason, len(f.kept.reason))
		}
	}
}

// A request that another controller has cancelled is not answered either.
func TestCancelledElsewhere(t *testing.T) {
	f := newFixture()
	id := f.open(t, "/old/mcp", "2025-11-25")
	f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
		return fleet.CallResult{}, fmt.Errorf("replica: %w", context.Canceled)
	}
	w := f.do("POST", "/old/mcp", slowCall, "Mcp-Session-Id", id)
	want(t, w, 200, "")
	if got := w.Header().Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("got %s", got)
	}
	batch := f.open(t, "/old/mcp", "2025-03-26")
	want(t, f.do("POST", "/old/mcp", `[{"jsonrpc":"2.0","id":1,"method":"ping"},`+slowCall+`]`, "Mcp-Session-Id", batch), 200, `[{"jsonrpc":"2.0","id":1,"result":{}}]`)
}

// A legacy client whose session lives on is never told 404, also if a server of a merged
// endpoint goes away.
func TestServerIsRemoved(t *testing.T) {
	f := newFixture()
	id := f.open(t, "/mcp", "2025-11-25")
	f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
		return fleet.CallResult{}, fmt.Errorf("%w %q", fleet.ErrUnknownServer, "old")
	}
	w := f.do("POST", "/mcp", strings.Replace(slowCall, "echo", "old__echo", 1), "Mcp-Session-Id", id)
	wantError(t, w, 503, `"c"`, codeNoReplica, `unknown server "old": it was removed`)

	id = f.open(t, "/old/mcp", "2025-11-25") // an endpoint that is gone has no sessions
	f.offers.mu.Lock()
	delete(f.offers.all, "old")
	f.offers.mu.Unlock()
	wantError(t, f.do("POST", "/old/mcp", slowCall, "Mcp-Session-Id", id), 404, `"c"`, codeUnknownServer, "old")
}

// The end of a session, at whichever controller, ends its requests.
func TestEndsWithSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		id := f.open(t, "/old/mcp", "2025-11-25")
		f.router.f = sleepy(0, time.Hour)
		w, _, done := f.serve(t, "POST", "/old/mcp", slowCall, "Mcp-Session-Id", id)
		time.Sleep(time.Second)
		start := time.Now()
		f.do("DELETE", "/old/mcp", "", "Mcp-Session-Id", id)
		done()
		if took := time.Since(start); took > 0 || !strings.Contains(w.Body.String(), "session_not_found") {
			t.Errorf("after %v: %s", took, w.Body)
		}
		if got := f.kept.cancelled; len(got) != 1 || got[0] != f.router.last.Stream.ID {
			t.Errorf("cancelled %v, want %s", got, f.router.last.Stream.ID)
		}
	})
}

// A modern client that leaves has cancelled.
func TestModernLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.router.f = sleepy(0, time.Hour)
		_, leave, done := f.serve(t, "POST", "/new/mcp", modernBody("tools/call", `"name":"echo"`), "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "echo")
		time.Sleep(time.Second)
		start := time.Now()
		leave()
		done()
		if took := time.Since(start); took > 0 {
			t.Errorf("ended after %v", took)
		}
	})
}

func TestGetStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		id := f.open(t, "/old/mcp", "2025-11-25")
		w, leave, done := f.serve(t, "GET", "/old/mcp", "", "Mcp-Session-Id", id)
		synctest.Wait()
		f.offers.change("old", mcp.MethodToolsList, `[{"name":"other"}]`)
		synctest.Wait()
		f.offers.change("old", mcp.MethodPromptsList, `[{"name":"p"}]`) // prompts.listChanged is not declared
		f.offers.Post()
		time.Sleep(20 * time.Second)
		leave()
		done()
		want(t, w, 200, "event: message\ndata: "+`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`+"\n\n: keep-alive")
	})
}

// A GET stream ends with its session, and when the controller leaves.
func TestGetStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		id := f.open(t, "/old/mcp", "2025-11-25")
		_, _, done := f.serve(t, "GET", "/old/mcp", "", "Mcp-Session-Id", id)
		synctest.Wait()
		f.do("DELETE", "/old/mcp", "", "Mcp-Session-Id", id)
		done()
		id = f.open(t, "/old/mcp", "2025-11-25")
		_, _, done = f.serve(t, "GET", "/old/mcp", "", "Mcp-Session-Id", id)
		synctest.Wait()
		close(f.leaving)
		done()
	})
}

func TestListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		body := modernBody("subscriptions/listen", `"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["x:/y"]}`)
		w, _, done := f.serve(t, "POST", "/old/mcp", body, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen")
		synctest.Wait()
		f.news.changed("old", mcp.MethodToolsListChanged)
		f.news.changed("old", mcp.MethodPromptsListChanged)
		synctest.Wait()
		close(f.leaving)
		done()
		var all []string
		for _, data := range []string{
			`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"q"},"notifications":{"toolsListChanged":true,"resourceSubscriptions":["x:/y"]}}}`,
			`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"q"}}}`,
			`{"jsonrpc":"2.0","id":"q","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"q"}}}`,
		} {
			all = append(all, "event: message\ndata: "+data+"\n\n")
		}
		want(t, w, 200, strings.TrimSpace(strings.Join(all, "")))
	})
}

// Streams of changes end with their endpoint, and cannot be had again.
func TestStreamsEndWithTheirEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		id := f.open(t, "/old/mcp", "2025-11-25")
		get, _, got := f.serve(t, "GET", "/old/mcp", "", "Mcp-Session-Id", id)
		body := modernBody("subscriptions/listen", `"notifications":{"toolsListChanged":true}`)
		listen, _, listened := f.serve(t, "POST", "/old/mcp", body, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen")
		synctest.Wait()
		f.offers.remove("old")
		got()
		listened()
		want(t, get, 200, "")
		if text := listen.Body.String(); !strings.Contains(text, `"id":"q","result":`) {
			t.Errorf("the subscription ended with %s", text)
		}
		wantError(t, f.do("GET", "/old/mcp", "", "Mcp-Session-Id", id), 404, "", codeUnknownServer, "old")
	})
}

// A slow client loses notifications, never the answer.
func TestEventBounds(t *testing.T) {
	s := newEvents(nil)
	added := 0
	for range 2 * maxQueued {
		if s.add(notification("x", nil)) {
			added++
		}
	}
	s.end(event{head: []byte("last")})
	queue, last := s.take()
	if added != maxQueued || !last || len(queue) != maxQueued+1 || string(queue[maxQueued].head) != "last" {
		t.Errorf("added %d, queue of %d, last %v", added, len(queue), last)
	}
	if s.add(notification("x", nil)) {
		t.Error("added after the end")
	}
	s = newEvents(nil)
	big := event{head: make([]byte, maxQueuedBytes)}
	if got := fmt.Sprint(s.add(big), s.add(notification("x", nil))); got != "true false" {
		t.Error(got)
	}
}

// A stream of a legacy client begins when it has an id to come back with, if a replica is
// free soon: without one, official clients wait for ever if the controller dies.
func TestStreamBeginsWithAnID(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo"}}`
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		id := f.open(t, "/old/mcp", "2025-11-25")
		wait, run := patient-time.Second, time.Duration(0)
		f.router.f = func(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
			time.Sleep(wait)
			c.Sent("w1")
			time.Sleep(run)
			return fleet.CallResult{Result: []byte(`{}`)}, nil
		}
		if w := f.do("POST", "/old/mcp", call, "Mcp-Session-Id", id); w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("answered as soon as it was sent: %s\n%s", w.Header().Get("Content-Type"), w.Body)
		}
		run = 2 * quick
		if w := f.do("POST", "/old/mcp", call, "Mcp-Session-Id", id); !strings.HasPrefix(w.Body.String(), "id: ") {
			t.Errorf("answered later: %s\n%s", w.Header().Get("Content-Type"), w.Body)
		}
		wait = 2 * patient
		if w := f.do("POST", "/old/mcp", call, "Mcp-Session-Id", id); w.Header().Get("Content-Type") != "text/event-stream" {
			t.Errorf("not sent for long: %s\n%s", w.Header().Get("Content-Type"), w.Body)
		}
	})
}
