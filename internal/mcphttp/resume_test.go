package mcphttp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

func TestEventIDs(t *testing.T) {
	for _, request := range []string{`7`, `"a.b"`, `-1.5e3`, `"` + strings.Repeat("x", 300) + `"`} {
		id := eventID{EventID: fleet.EventID{Life: "w1", Stream: "abc", Seq: 3}, request: []byte(request), from: origin{"s", "tools/call", "r1"}}
		got, err := parseEventID(id.String())
		if len(request) > maxRequestID {
			request = ""
		}
		if err != nil || got.EventID != id.EventID || got.from != id.from || string(got.request) != request {
			t.Errorf("%s: got %+v, %v", request, got, err)
		}
	}
	for _, bad := range []string{"", "x", "w1.abc.3", "w1.abc.3.!", "w1.abc.3.e30", "w1.abc.x.Nw", "w1..3.Nw", strings.Repeat("w", 1200) + ".abc.3.Nw"} {
		if id, err := parseEventID(bad); err == nil {
			t.Errorf("%q: got %+v", bad, id)
		}
	}
}

// sentAfter is a call that waits, is then sent to worker w1, reports progress, and ends.
func sentAfter(wait, run time.Duration) func(context.Context, fleet.Call) (fleet.CallResult, error) {
	return func(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
		time.Sleep(wait)
		c.Sent("w1")
		c.Message(fleet.Message{Seq: 1, Kind: fleet.MessageNotification, Method: "notifications/progress", Params: []byte(`{}`)})
		c.Message(fleet.Message{Seq: 2, Kind: fleet.MessageRequest, Method: "roots/list", ID: []byte(`"w1.abc.1"`)})
		select {
		case <-time.After(run):
			return fleet.CallResult{Result: []byte(`{}`), Seq: 3}, nil
		case <-ctx.Done():
			return fleet.CallResult{}, context.Cause(ctx)
		}
	}
}

// A legacy client gets the ids of events, and that of the beginning if its version has it.
func TestEventsHaveIDs(t *testing.T) {
	for _, version := range []string{"2025-06-18", "2025-11-25"} {
		t.Run(version, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture()
				id := f.open(t, "/old/mcp", version)
				f.router.f = sentAfter(time.Second, time.Second)
				w := f.do("POST", "/old/mcp", slowCall, "Mcp-Session-Id", id)
				stream := f.router.last.Stream
				if stream.ID == "" || stream.Owner == "" || stream.Keep {
					t.Errorf("got %+v", stream)
				}
				at := func(n int) string { return fmt.Sprintf("id: w1.%s.%d.ImMi\n", stream.ID, n) }
				begin := ""
				if version == "2025-11-25" {
					begin = at(0) + "retry: 1000\ndata: \n\n"
				}
				want(t, w, 200, strings.TrimSpace(begin+
					"event: message\n"+at(1)+`data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}`+"\n\n"+
					"event: message\n"+at(2)+`data: {"jsonrpc":"2.0","id":"w1.abc.1","method":"roots/list"}`+"\n\n"+
					"event: message\n"+at(3)+`data: {"jsonrpc":"2.0","id":"c","result":{}}`))
			})
		})
	}
}

// When the controller leaves, clients that can come back are sent away at once.
func TestCallWhenControllerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		id := f.open(t, "/old/mcp", "2025-11-25")
		f.router.f = sentAfter(0, time.Hour)
		w, _, done := f.serve(t, "POST", "/old/mcp", slowCall, "Mcp-Session-Id", id)
		time.Sleep(time.Second)
		start := time.Now()
		close(f.leaving)
		done()
		if took := time.Since(start); took > 0 || strings.Contains(w.Body.String(), "error") || !strings.Contains(w.Body.String(), "retry:") {
			t.Errorf("after %v: %s", took, w.Body)
		}
	})
}

// A request whose client goes away is not cancelled, also if no worker has it yet.
func TestClientLeavesTheQueue(t *testing.T) {
	for name, c := range map[string]struct {
		wait, run time.Duration // before the call is sent, and after
		closes    bool          // the controller leaves
		took      time.Duration // since the client has left
		err       error         // of the call
	}{
		"it runs here":               {30 * time.Second, time.Second, false, 30 * time.Second, nil},
		"it waits for too long":      {time.Hour, 0, false, fleet.DefaultWindow, context.Canceled},
		"it runs for too long":       {30 * time.Second, time.Hour, false, fleet.DefaultWindow, context.Canceled},
		"a worker has it":            {0, time.Hour, false, 0, context.Canceled},
		"the controller leaves, too": {time.Hour, time.Hour, true, 0, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture()
				id := f.open(t, "/old/mcp", "2025-11-25")
				var got error
				f.router.f = func(ctx context.Context, call fleet.Call) (res fleet.CallResult, err error) {
					defer func() { got = err }()
					select {
					case <-time.After(c.wait):
					case <-ctx.Done():
						return res, context.Cause(ctx)
					}
					return sentAfter(0, c.run)(ctx, call)
				}
				_, leave, done := f.serve(t, "POST", "/old/mcp", slowCall, "Mcp-Session-Id", id)
				time.Sleep(time.Second)
				leave()
				if began := time.Now(); c.closes {
					close(f.leaving)
					done()
				} else if done(); time.Since(began) != c.took {
					t.Errorf("it took %v, want %v", time.Since(began), c.took)
				}
				if !errors.Is(got, c.err) {
					t.Errorf("got %v, want %v", got, c.err)
				}
			})
		})
	}
}

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		id := f.open(t, "/old/mcp", "2025-11-25")
		f.do("POST", "/old/mcp", slowCall, "Mcp-Session-Id", id)
		stream := f.router.last.Stream
		f.kept.owner = stream.Owner
		f.kept.messages[stream.ID] = []fleet.Message{
			{Seq: 1, Kind: fleet.MessageNotification, Method: "notifications/progress", Params: []byte(`{}`)},
			{Seq: 2, Kind: fleet.MessageNotification, Method: "notifications/progress", Params: []byte(`{"n":2}`)},
			{Seq: 3, Kind: fleet.MessageReply, Result: []byte(`{"x":1}`)},
		}
		last := eventID{EventID: fleet.EventID{Life: "w1", Stream: stream.ID, Seq: 1}, request: []byte(`"c"`)}.String()
		w := f.do("GET", "/old/mcp", "", "Mcp-Session-Id", id, "Last-Event-ID", last)
		want(t, w, 200, fmt.Sprintf("event: message\nid: w1.%s.2.ImMi\ndata: %s\n\nevent: message\nid: w1.%s.3.ImMi\ndata: %s",
			stream.ID, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"n":2}}`, stream.ID, `{"jsonrpc":"2.0","id":"c","result":{"x":1}}`))

		other := f.open(t, "/old/mcp", "2025-11-25")
		final := eventID{EventID: fleet.EventID{Life: "w1", Stream: stream.ID, Seq: overSeq}, request: []byte(`"c"`)}.String()
		lost := "event: message\nid: " + final + "\ndata: " + `{"jsonrpc":"2.0","id":"c","error":{"code":-31003,`
		for sent, session := range map[string]string{
			last: other, "x": id,
			"w1." + string(fleet.SessionStream("0123456789abcdef0123456789abcdef", "old")) + ".1.": id,
			"w1." + string(fleet.SessionStream(fleet.SessionID(stream.Owner), "old")) + ".1.":      other,
			strings.Replace(last, "ImMi", "ImQi", 1):                                               id, // of another request
		} {
			wantError(t, f.do("GET", "/old/mcp", "", "Mcp-Session-Id", session, "Last-Event-ID", sent), 400, "", mcp.CodeInvalidRequest, "Last-Event-ID")
		}

		f.kept.err = fmt.Errorf("read: %w", fleet.ErrWorkerLost)
		start := time.Now()
		go func() {
			time.Sleep(time.Second)
			f.kept.mu.Lock()
			f.kept.err = nil
			f.kept.mu.Unlock()
		}()
		if w := f.do("GET", "/old/mcp", "", "Mcp-Session-Id", id, "Last-Event-ID", last); !strings.Contains(w.Body.String(), `"x":1`) || time.Since(start) > 2*time.Second {
			t.Errorf("after %v: %s", time.Since(start), w.Body)
		}
		f.kept.err = fmt.Errorf("read: %w", fleet.ErrWorkerLost)
		if w := f.do("GET", "/old/mcp", "", "Mcp-Session-Id", id, "Last-Event-ID", last); !strings.HasPrefix(w.Body.String(), lost) {
			t.Errorf("worker lost: %s", w.Body)
		}
		f.kept.err = fmt.Errorf("read: %w", fleet.ErrUnknownStream)
		if w := f.do("GET", "/old/mcp", "", "Mcp-Session-Id", id, "Last-Event-ID", last); !strings.HasPrefix(w.Body.String(), lost) {
			t.Errorf("stream gone: %s", w.Body)
		}
		f.kept.err = errors.Join(fleet.ErrStreamTaken)
		if w := f.do("GET", "/old/mcp", "", "Mcp-Session-Id", id, "Last-Event-ID", last); w.Code != 200 || w.Body.Len() > 0 {
			t.Errorf("taken: %d %s", w.Code, w.Body)
		}
	})
}

// A client that comes back although nothing is left to say is told not to come again.
func TestResumeOfNothing(t *testing.T) {
	progress := fleet.Message{Seq: 1, Kind: fleet.MessageNotification, Method: "notifications/progress", Params: []byte(`{}`)}
	long := `"` + strings.Repeat("x", maxRequestID) + `"`
	for name, c := range map[string]struct {
		messages []fleet.Message
		request  string
		seq      uint64
		want     int
	}{
		"it has the answer":           {[]fleet.Message{progress, {Seq: 2, Kind: fleet.MessageReply, Error: []byte(`{}`)}}, `"c"`, 2, 204},
		"it has cancelled":            {[]fleet.Message{progress, {Seq: 2, Kind: fleet.MessageReply, Err: context.Canceled}}, `"c"`, 1, 204},
		"it has cancelled, with more": {[]fleet.Message{progress, {Seq: 2, Kind: fleet.MessageReply, Err: context.Canceled}}, `"c"`, 0, 200},
		"the answer was lost":         {nil, `"c"`, overSeq, 204},
		"lost, of a long id":          {nil, long, 1, 204},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture()
				id := f.open(t, "/old/mcp", "2025-11-25")
				f.do("POST", "/old/mcp", strings.Replace(slowCall, `"c"`, c.request, 1), "Mcp-Session-Id", id)
				stream := f.router.last.Stream
				f.kept.owner = stream.Owner
				f.kept.messages[stream.ID] = c.messages
				last := eventID{EventID: fleet.EventID{Life: "w1", Stream: stream.ID, Seq: c.seq}, request: []byte(c.request)}.String()
				w := f.do("GET", "/old/mcp", "", "Mcp-Session-Id", id, "Last-Event-ID", last)
				if w.Code != c.want || c.want == 204 && w.Body.Len() > 0 || c.want == 200 && strings.Count(w.Body.String(), "data: ") != 1 {
					t.Errorf("got %d %s", w.Code, w.Body)
				}
			})
		})
	}
}

// What a client gets when it comes back is translated as the rest was.
func TestResumeTranslates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		for name, d := range f.offers.all[""].tools {
			d.Result = func(method string, result []byte) []byte { return []byte(`{"of":"` + method + `"}`) }
			f.offers.all[""].tools[name] = d
		}
		id := f.open(t, "/mcp", "2025-11-25")
		f.router.f = sentAfter(time.Second, time.Second)
		w := f.do("POST", "/mcp", strings.Replace(slowCall, "echo", "old__echo", 1), "Mcp-Session-Id", id)
		_, rest, _ := strings.Cut(w.Body.String(), "id: ")
		last, _, _ := strings.Cut(rest, "\n")
		stream := f.router.last.Stream
		f.kept.owner = stream.Owner
		f.kept.messages[stream.ID] = []fleet.Message{{Seq: 1, Kind: fleet.MessageReply, Result: []byte(`{"x":1}`)}}
		w = f.do("GET", "/mcp", "", "Mcp-Session-Id", id, "Last-Event-ID", last)
		if !strings.Contains(w.Body.String(), `"result":{"of":"tools/call"}`) {
			t.Errorf("after %s: %s", last, w.Body)
		}
	})
}

// Answers reach the worker that asked.
func TestAnswers(t *testing.T) {
	f := newFixture()
	id := f.open(t, "/new/mcp", "2025-11-25")
	for _, c := range []struct {
		body   string
		status int
		asked  bool
	}{
		{`{"jsonrpc":"2.0","id":"w1.abc.4","result":{"roots":[]}}`, 202, true},
		{`{"jsonrpc":"2.0","id":"w1.abc.5","error":{"code":1,"message":"no"}}`, 202, true},
		{`{"jsonrpc":"2.0","id":"w2.abc.5","result":{}}`, 502, true},
		{`{"jsonrpc":"2.0","id":4,"result":{}}`, 202, false},
		{`{"jsonrpc":"2.0","id":"x","result":{}}`, 202, false},
	} {
		f.kept.answers = nil
		if w := f.do("POST", "/new/mcp", c.body, "Mcp-Session-Id", id); w.Code != c.status || (len(f.kept.answers) > 0) != c.asked {
			t.Errorf("%s: %d %s, %+v", c.body, w.Code, w.Body, f.kept.answers)
		}
	}
	f.do("POST", "/new/mcp", `{"jsonrpc":"2.0","id":"w1.abc.4","result":{"roots":[]}}`, "Mcp-Session-Id", id)
	if a := f.kept.answers; len(a) != 1 || a[0].Stream != "abc" || a[0].N != 4 || a[0].Owner == "" || string(a[0].Result) != `{"roots":[]}` {
		t.Errorf("got %+v", a)
	}
}

// A cancelled request is cancelled at its worker, wherever its answer is awaited.
func TestCancelElsewhere(t *testing.T) {
	f := newFixture()
	id := f.open(t, "/old/mcp", "2025-11-25")
	f.do("POST", "/old/mcp", slowCall, "Mcp-Session-Id", id)
	f.do("POST", "/old/mcp", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c"}}`, "Mcp-Session-Id", id)
	if got := f.kept.cancelled; len(got) != 1 || got[0] != f.router.last.Stream.ID {
		t.Errorf("cancelled %v, want %s", got, f.router.last.Stream.ID)
	}
}
