package mcphttp

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

func updatedEvent(params string) string {
	return "event: message\ndata: " + `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":` + params + "}\n\n"
}

// A session hears of the resources that it subscribed to, on one of its streams, and
// nobody else does.
func TestLegacySubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		id, other := f.open(t, "/old/mcp", "2025-11-25"), f.open(t, "/old/mcp", "2025-11-25")
		subscribe := func(session, method, uri string) {
			f.do("POST", "/old/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"resources/%s","params":{"uri":%q}}`, method, uri), "Mcp-Session-Id", session)
			synctest.Wait() // its stream has looked
		}
		subscribe(id, "subscribe", "x:/1")
		first, leave, done := f.serve(t, "GET", "/old/mcp", "", "Mcp-Session-Id", id)
		synctest.Wait()
		second, leaveSecond, doneSecond := f.serve(t, "GET", "/old/mcp", "", "Mcp-Session-Id", id)
		foreign, leaveForeign, doneForeign := f.serve(t, "GET", "/old/mcp", "", "Mcp-Session-Id", other)
		synctest.Wait()
		f.news.updated("old", "x:/1")
		subscribe(id, "subscribe", "x:/2")
		f.news.updated("old", "x:/2")
		subscribe(id, "unsubscribe", "x:/1")
		f.news.updated("old", "x:/1")
		f.offers.change("old", mcp.MethodToolsList, `[]`)
		synctest.Wait() // it has told of that: the next stream need not
		leave()
		done()
		synctest.Wait()
		f.news.updated("old", "x:/2/part")
		synctest.Wait()
		leaveSecond()
		leaveForeign()
		doneSecond()
		doneForeign()
		changed := "event: message\ndata: " + `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}` + "\n\n"
		want(t, first, 200, strings.TrimSpace(updatedEvent(`{"uri":"x:/1"}`)+updatedEvent(`{"uri":"x:/2"}`)+changed))
		want(t, second, 200, strings.TrimSpace(updatedEvent(`{"uri":"x:/2/part"}`)))
		want(t, foreign, 200, strings.TrimSpace(changed))
		if n := len(f.front.streams.streams); n != 0 {
			t.Errorf("%d streams", n)
		}
	})
}

// Of the controllers with streams of a session, the one with the newest sends what belongs
// to no request, unless it has ended.
func TestNewestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.peers["c2"] = "127.0.0.1:1"
		id := f.open(t, "/old/mcp", "2025-11-25")
		f.do("POST", "/old/mcp", `{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"x:/1"}}`, "Mcp-Session-Id", id)
		w, leave, done := f.serve(t, "GET", "/old/mcp", "", "Mcp-Session-Id", id)
		synctest.Wait()
		var session fleet.SessionID
		for session = range f.known.listens {
		}
		f.news.updated("old", "x:/1/1")
		f.known.SetListener(session, time.Time{}, "c2", true)
		f.news.updated("old", "x:/1/2")
		f.offers.change("old", mcp.MethodToolsList, `[]`)
		synctest.Wait()
		f.known.SetListener(session, time.Time{}, "c2", false)
		f.news.updated("old", "x:/1/3")
		f.known.SetListener(session, time.Time{}, "c2", true)
		delete(f.peers, "c2") // it has ended
		f.news.updated("old", "x:/1/4")
		f.known.SetListener(session, time.Time{}, "c1", true)
		synctest.Wait()
		leave()
		done()
		want(t, w, 200, strings.TrimSpace(updatedEvent(`{"uri":"x:/1/1"}`)+updatedEvent(`{"uri":"x:/1/3"}`)+updatedEvent(`{"uri":"x:/1/4"}`)))
		if len(f.known.listens) != 0 {
			t.Errorf("listens at %v after the end of the stream", f.known.listens)
		}
	})
}

// A subscription of a modern client has the names of its endpoint, and its id.
func TestModernSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.offers.all[""].only = fleet.Destination{Server: "old"}
		f.offers.all[""].prefix = "r+"
		body := modernBody("subscriptions/listen", `"notifications":{"resourceSubscriptions":["r+x:/1","r+x:/2"]}`)
		w, leave, done := f.serve(t, "POST", "/mcp", body, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen")
		synctest.Wait()
		f.news.updated("old", "x:/2/part")
		f.news.updated("old", "x:/3")
		f.news.changed("old", mcp.MethodToolsListChanged) // nobody asked for it
		synctest.Wait()
		leave()
		done()
		want(t, w, 200, "event: message\ndata: "+`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"q"},"notifications":{"resourceSubscriptions":["r+x:/1","r+x:/2"]}}}`+"\n\n"+
			strings.TrimSpace(updatedEvent(`{"_meta":{"io.modelcontextprotocol/subscriptionId":"q"},"uri":"r+x:/2/part"}`)))
	})
}

// flushed is an answer that knows whether it has begun.
type flushed struct {
	*httptest.ResponseRecorder
	yes  atomic.Bool
	end  func()
	done sync.WaitGroup
}

func (w *flushed) Flush() {
	w.yes.Store(true)
	w.ResponseRecorder.Flush()
}

// streams serves a request in the background until end is called.
func (f *fixture) streams(t *testing.T, r *http.Request) *flushed {
	ctx, cancel := context.WithCancel(t.Context())
	w := &flushed{ResponseRecorder: httptest.NewRecorder()}
	w.done.Go(func() { f.handler.ServeHTTP(w, r.WithContext(ctx)) })
	w.end = func() {
		synctest.Wait()
		cancel()
		w.done.Wait()
	}
	synctest.Wait()
	return w
}

// A subscription is answered, and a stream begins, when no change is missed any more. What
// happens meanwhile comes after the acknowledgement.
func TestSubscriptionsTakeEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		id := f.open(t, "/old/mcp", "2025-11-25")
		const lag = time.Second
		f.news.lag = lag
		took := func(what string, from time.Time, least, most time.Duration) {
			t.Helper()
			if d := time.Since(from); d < least || d > most {
				t.Errorf("%s after %v", what, d)
			}
		}
		subscribe := func(method, uri string) {
			body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"resources/%s","params":{"uri":%q}}`, method, uri)
			want(t, f.do("POST", "/old/mcp", body, "Mcp-Session-Id", id), 200, `{"jsonrpc":"2.0","id":1,"result":{}}`)
		}
		from := time.Now()
		subscribe("subscribe", "x:/1")
		took("subscribed without a stream", from, lag, lag)
		get := f.streams(t, newRequest("GET", "/old/mcp", "", "Mcp-Session-Id", id))
		if f.news.updated("old", "x:/1"); get.yes.Load() {
			t.Error("the stream began at once")
		}
		time.Sleep(lag)
		synctest.Wait()
		if !get.yes.Load() {
			t.Error("the stream did not begin")
		}
		from = time.Now()
		subscribe("subscribe", "x:/2")
		took("subscribed with a stream", from, lag, lag)
		f.news.updated("old", "x:/2")
		from = time.Now()
		subscribe("unsubscribe", "x:/1")
		took("unsubscribed", from, 0, 0)
		get.end()
		want(t, get.ResponseRecorder, 200, strings.TrimSpace(updatedEvent(`{"uri":"x:/1"}`)+updatedEvent(`{"uri":"x:/2"}`)))

		body := modernBody("subscriptions/listen", `"notifications":{"toolsListChanged":true}`)
		w := f.streams(t, newRequest("POST", "/old/mcp", body, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen"))
		if f.news.changed("old", mcp.MethodToolsListChanged); w.yes.Load() {
			t.Error("acknowledged at once")
		}
		time.Sleep(lag)
		w.end()
		const tag = `"_meta":{"io.modelcontextprotocol/subscriptionId":"q"}`
		want(t, w.ResponseRecorder, 200, "event: message\ndata: "+`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{`+tag+`,"notifications":{"toolsListChanged":true}}}`+"\n\n"+
			"event: message\ndata: "+`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{`+tag+`}}`)
	})
}

// A modern client has no replica of a server whose sessions have one each, so that it cannot
// hear of resources. Changes of lists are those of what the fleet knows.
func TestListenWherePerSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		body := modernBody("subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourceSubscriptions":["x:/1"]}`)
		w, leave, done := f.serve(t, "POST", "/own/mcp", body, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen")
		synctest.Wait()
		f.news.updated("own", "x:/1")
		f.offers.change("own", mcp.MethodToolsList, `[]`)
		synctest.Wait()
		leave()
		done()
		const tag = `"_meta":{"io.modelcontextprotocol/subscriptionId":"q"}`
		want(t, w, 200, "event: message\ndata: "+`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{`+tag+`,"notifications":{"toolsListChanged":true}}}`+"\n\n"+
			"event: message\ndata: "+`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{`+tag+`}}`)
	})
}
