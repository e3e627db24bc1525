package mcphttp

import (
	"fmt"
	"strings"
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
		synctest.Wait()
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

// A subscription of a modern client has the names of its endpoint, and its id.
func TestModernSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.offers.all[""].only = fleet.Destination{Server: "old"}
		f.offers.all[""].prefix = "r+"
		body := modernBody("subscriptions/listen", `"notifications":{"resourceSubscriptions":["r+x:/1","r+x:/2"]}`)
		w, leave, done := f.serve(t, "POST", "/mcp", body, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen")
		time.Sleep(2 * settleLag)
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
