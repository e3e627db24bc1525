package agent

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// talkative is a server whose tool "ask" asks the client, and "say" notifies it, before they
// answer with what came back. The tool "leave" asks, answers, and gives the request up.
// "think" asks, and never ends.
func talkative() agenttest.Server {
	var mu sync.Mutex
	waiting := map[string]string{} // by the id of our request: that of the call
	return scripted(`{"tools":{}}`, func(m scriptedMessage, write func(string, ...any)) {
		mu.Lock()
		defer mu.Unlock()
		call := func(name string) bool { return strings.Contains(string(m.Params), `"name":"`+name+`"`) }
		switch {
		case m.Method == "tools/call" && (call("ask") || call("leave")):
			id := fmt.Sprintf(`"q%s"`, m.ID)
			write(`{"jsonrpc":"2.0","id":%s,"method":"sampling/createMessage","params":{"n":9007199254740993}}`, id)
			if waiting[id] = string(m.ID); call("leave") {
				write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, id)
				write(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
			}
		case m.Method == "tools/call" && call("think"):
			write(`{"jsonrpc":"2.0","id":"t","method":"roots/list"}`)
		case m.Method == "tools/call" && call("say"):
			write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}`)
			write(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
			write(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
		case m.Method == "" && m.ID != nil:
			write(`{"jsonrpc":"2.0","id":%s,"result":{"answer":%s}}`, waiting[string(m.ID)], string(m.Result)+string(m.Error))
		case m.Method == "notifications/roots/list_changed":
			write(`{"jsonrpc":"2.0","id":7,"method":"roots/list"}`)
		}
	})
}

func newSessionRig(t *testing.T) *rig {
	return newRigOfSession(t, fleet.SessionStart{})
}

// newRigOfSession has a session that begins like this one.
func newRigOfSession(t *testing.T, start fleet.SessionStart) *rig {
	rt := agenttest.New()
	rt.Handle("a", talkative())
	r := newRig(t, rt, nil)
	r.raw("a", nil)
	r.until("a", fleet.PhaseReady)
	start.Replica, start.Session, start.Initialize = "a", "session-1", []byte(initialize)
	if _, err := r.OpenSession(t.Context(), order, start); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) tellServer(format string, args ...any) error {
	return r.SendToSession("session-1", "a", fmt.Appendf(nil, format, args...))
}

func TestHubAsksTheClientOfTheCall(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newSessionRig(t)
		c := r.streamed("s", "ask", `{}`, nil)
		asks := c.asks()
		if len(asks) != 1 || !strings.HasSuffix(asks[0], ` sampling/createMessage {"n":9007199254740993}`) {
			t.Fatalf("asked %q", asks)
		}
		id := strings.Fields(asks[0])[1]
		if err := r.SendToSession("session-2", "a", []byte(`{"jsonrpc":"2.0","id":1,"result":{}}`)); !errors.Is(err, fleet.ErrUnknownReplica) {
			t.Errorf("another session: %v", err)
		}
		if err := r.tellServer(`{"jsonrpc":"2.0","id":"other","result":{}}`); !errors.Is(err, fleet.ErrNotAsked) {
			t.Errorf("another id: %v", err)
		}
		if err := r.tellServer(`{"jsonrpc":"2.0","id":1,"method":"ping"}`); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("a request: %v", err)
		}
		if err := r.tellServer(`{"jsonrpc":"2.0","id":%s,"result":{"n":9007199254740993}}`, id); err != nil {
			t.Fatal(err)
		}
		if e := c.reply(t); string(e.Result) != `{"answer":{"n":9007199254740993}}` || c.count(fleet.CallResumed) != 1 {
			t.Errorf("replied %s %v", e.Result, e.Err)
		}
		if err := r.tellServer(`{"jsonrpc":"2.0","id":%s,"result":{}}`, id); !errors.Is(err, fleet.ErrNotAsked) {
			t.Errorf("answered twice: %v", err)
		}
	})
}

// A call without a stream has nobody who could answer.
func TestHubRefusesForCallsWithoutStream(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newSessionRig(t)
		c := r.call("a", "ask", `{}`)
		synctest.Wait()
		if result := string(c.reply(t).Result); !strings.Contains(result, `"code":-32601`) {
			t.Errorf("got %s", result)
		}
		s := r.streamed("s", "ask", `{}`, nil) // the next call of the session has somebody
		synctest.Wait()
		if asks := s.asks(); len(asks) != 1 {
			t.Errorf("asked %q", asks)
		}
	})
}

func TestHubPassesRefusals(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newSessionRig(t)
		c := r.streamed("s", "ask", `{}`, nil)
		id := strings.Fields(c.asks()[0])[1]
		if err := r.tellServer(`{"jsonrpc":"2.0","id":%s,"error":{"code":-1,"message":"no","data":{"x":1.0}}}`, id); err != nil {
			t.Fatal(err)
		}
		if e := c.reply(t); string(e.Result) != `{"answer":{"code":-1,"message":"no","data":{"x":1.0}}}` {
			t.Errorf("replied %s %v", e.Result, e.Err)
		}
	})
}

func TestHubPassesCancelledRequests(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newSessionRig(t)
		c := r.streamed("s", "leave", `{}`, nil)
		c.reply(t)
		got, err := r.read("s", 0, false).end()
		if want := "2 cancelled, 3 {}"; err != nil || got != want { // the request is of no use any more
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
		id := strings.Fields(c.asks()[0])[1]
		if err := r.tellServer(`{"jsonrpc":"2.0","id":%s,"result":{}}`, id); !errors.Is(err, fleet.ErrNotAsked) {
			t.Errorf("a late answer: %v", err)
		}
	})
}

// Messages go to the latest call, and to the session's own stream if there is none or if
// they belong to no call.
func TestHubStreams(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newSessionRig(t)
		session := r.read(fleet.SessionStream("session-1", "a"), 0, false)
		<-session.found
		first := r.streamed("s1", "ask", `{}`, nil)
		synctest.Wait()
		c := r.streamed("s2", "say", `{}`, nil)
		c.reply(t)
		if n := c.count(fleet.CallNotification); n != 1 || first.count(fleet.CallNotification) != 0 {
			t.Errorf("the latest call got %d notifications", n)
		}
		first.cancel(true)
		first.reply(t)
		if err := r.tellServer(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		session.stop()
		if got, _ := session.end(); got != "1 tools/list_changed, 2 roots/list" {
			t.Errorf("the session's stream has %q", got)
		}
		// What a reader was sent is kept for one that resumes, and not for a new one.
		unread := func() string {
			rd := r.startReading(fleet.ReadRequest{Stream: fleet.SessionStream("session-1", "a"), Owner: owner, Unread: true})
			synctest.Wait()
			rd.stop()
			got, _ := rd.end()
			return got
		}
		if got := unread(); got != "" {
			t.Errorf("a new reader got %q", got)
		}
		r.streamed("s3", "say", `{}`, nil).reply(t)
		if got := unread(); got != "3 tools/list_changed" {
			t.Errorf("a new reader got %q", got)
		}
		last := r.startReading(fleet.ReadRequest{Stream: fleet.SessionStream("session-1", "a"), Owner: owner, After: 1})
		<-last.found
		r.rt.Kill("a")
		if got, err := last.end(); err != nil || got != "2 roots/list, 3 tools/list_changed" {
			t.Errorf("the last reader got %q, %v", got, err)
		}
		if got, err := r.read(fleet.SessionStream("session-1", "a"), 0, false).end(); !errors.Is(err, fleet.ErrUnknownStream) {
			t.Errorf("after the end: %q, %v", got, err)
		}
	})
}

// A session's stream is kept however long nobody reads it.
func TestSessionStreamLasts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newSessionRig(t)
		time.Sleep(time.Hour)
		rd := r.read(fleet.SessionStream("session-1", "a"), 0, false)
		<-rd.found
		rd.stop()
		<-rd.ended
		time.Sleep(time.Hour)
		r.streamed("s", "say", `{}`, nil).reply(t)
		rd = r.read(fleet.SessionStream("session-1", "a"), 0, false)
		synctest.Wait()
		rd.stop()
		if got, _ := rd.end(); got != "1 tools/list_changed" {
			t.Errorf("read %q", got)
		}
	})
}

// A session that moves to another replica of the worker has a stream of the same name. Who
// has read of the one before misses nothing.
func TestSessionStreamMoves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newSessionRig(t)
		for range 3 {
			r.streamed("s", "say", `{}`, nil).reply(t)
		}
		r.rt.Handle("b", talkative())
		r.rawOf("b", "a", nil)
		r.until("b", fleet.PhaseReady)
		r.rt.Kill("a")
		if _, err := r.open("b", "session-1"); err != nil {
			t.Fatal(err)
		}
		r.streamed("t", "say", `{}`, func(req *fleet.CallRequest) { req.Replica = "b" }).reply(t)
		rd := r.startReading(fleet.ReadRequest{Stream: fleet.SessionStream("session-1", "a"), Owner: owner, After: 3})
		synctest.Wait()
		rd.stop()
		if got, _ := rd.end(); got != fmt.Sprintf("%d tools/list_changed", 1<<32+1) {
			t.Errorf("read %q", got)
		}
	})
}

// A session with replicas of two servers has a stream of each.
func TestSessionStreamsOfTwoServers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newSessionRig(t)
		r.rt.Handle("b", talkative())
		r.raw("b", nil)
		r.until("b", fleet.PhaseReady)
		if _, err := r.open("b", "session-1"); err != nil {
			t.Fatal(err)
		}
		for _, id := range []fleet.ReplicaID{"a", "b"} {
			rd := r.startReading(fleet.ReadRequest{Stream: fleet.SessionStream("session-1", fleet.ServerName(id)), Owner: owner, Unread: true})
			<-rd.found
			r.streamed("s", "say", `{}`, func(req *fleet.CallRequest) { req.Replica = id }).reply(t)
			synctest.Wait()
			rd.stop()
			if got, _ := rd.end(); !strings.HasSuffix(got, " tools/list_changed") || strings.Contains(got, ",") {
				t.Errorf("replica %s: read %q", id, got)
			}
		}
	})
}

// The replica of a session with only one call is freed as soon as the call has ended, also
// if whoever began it is gone.
func TestSessionOfOneCall(t *testing.T) {
	only := func(req *fleet.CallRequest) { req.Stream.Keep = true }
	for name, end := range map[string]func(t *testing.T, r *rig, c *caller){
		"answered":       func(_ *testing.T, r *rig, c *caller) { r.answer(c) },
		"timed out":      func(_ *testing.T, _ *rig, c *caller) { c.cancel(true) },
		"sent again":     func(_ *testing.T, r *rig, _ *caller) { r.answer(r.streamed("s", "ask", `{}`, only)) },
		"answered later": func(_ *testing.T, r *rig, c *caller) { c.cancel(false); r.answer(c) },
		"nobody came back": func(t *testing.T, r *rig, c *caller) {
			c.cancel(false)
			time.Sleep(time.Minute - time.Millisecond) // the window of the stream
			if got := r.view.snapshot().replicas["a"]; got.Phase != fleet.PhaseReady {
				t.Errorf("ended too soon: %+v", got)
			}
			time.Sleep(time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRigOfSession(t, fleet.SessionStart{Once: true})
				c := r.streamed("s", "ask", `{}`, only)
				synctest.Wait()
				began := time.Now()
				end(t, r, c)
				if got := r.until("a", fleet.PhaseStopped); !strings.Contains(got.Reason, "its session was for one call") || time.Since(began) > time.Minute+2*cancelGrace {
					t.Errorf("ended after %v as %+v", time.Since(began), got)
				}
				got, err := r.read("s", 0, false).end()
				if kept := name != "nobody came back"; kept && err != nil || !kept && !errors.Is(err, fleet.ErrUnknownStream) {
					t.Errorf("read %q, %v", got, err)
				}
			})
		})
	}
}

// The call of such a session is for nobody as soon as its caller or its reader has gone,
// unless it waits for what the client was asked.
func TestAbandonedCallOfASession(t *testing.T) {
	for name, abandon := range map[string]func(t *testing.T, r *rig){
		"by its caller":          func(_ *testing.T, r *rig) { r.streamed("s", "hang", `{}`, nil).cancel(false) },
		"by REST":                func(_ *testing.T, r *rig) { r.call("a", "hang", `{}`).cancel(false) },
		"before it came":         func(*testing.T, *rig) { time.Sleep(onceWait) },
		"by the reader who came": abandonedByReader,
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRigOfSession(t, fleet.SessionStart{Once: true})
				abandon(t, r)
				began := time.Now()
				if got := r.until("a", fleet.PhaseStopped); !strings.Contains(got.Reason, "its session was for one call") || time.Since(began) > 2*cancelGrace {
					t.Errorf("ended after %v as %+v", time.Since(began), got)
				}
				if _, err := r.read("s", 0, false).end(); !errors.Is(err, fleet.ErrUnknownStream) {
					t.Errorf("its stream is kept: %v", err)
				}
			})
		})
	}
}

func abandonedByReader(t *testing.T, r *rig) {
	c := r.streamed("s", "think", `{}`, nil)
	synctest.Wait()
	c.cancel(false)
	rd := r.startReading(fleet.ReadRequest{Stream: "s", Owner: owner, After: 1, Claim: true})
	<-rd.found
	if err := r.tellServer(`{"jsonrpc":"2.0","id":"t","result":{}}`); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute) // longer than the stream is kept for readers
	if got := r.view.snapshot().replicas["a"]; got.Phase != fleet.PhaseReady {
		t.Errorf("ended too soon: %+v", got)
	}
	rd.stop()
	_, _ = rd.end()
}

// answer answers what the server asks during a call.
func (r *rig) answer(c *caller) {
	r.t.Helper()
	synctest.Wait()
	if err := r.tellServer(`{"jsonrpc":"2.0","id":%s,"result":{}}`, strings.Fields(c.asks()[0])[1]); err != nil {
		r.t.Error(err)
	}
}
