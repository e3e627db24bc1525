package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// curious asks for input as the tool's name says, and then answers with its params.
func curious() agenttest.Server {
	rounds := 0 // of "for ever"
	return scripted(`{"tools":{}}`, func(m scriptedMessage, write func(string, ...any)) {
		if m.Method != "tools/call" {
			return
		}
		params, result := string(m.Params), func(result string) { write(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result) }
		const twice = `{"resultType":"input_required","requestState":"one","inputRequests":{` +
			`"who":{"method":"elicitation/create","params":{"message":"Who?"}},"roots":{"method":"roots/list"}}}`
		answered := strings.Contains(params, "inputResponses")
		switch {
		case strings.Contains(params, `"name":"for ever"`):
			if rounds++; rounds > maxRounds+1 {
				result(`{}`)
				return
			}
			result(`{"resultType":"input_required","requestState":"again"}`)
		case strings.Contains(params, `"name":"many"`):
			requests := make([]string, maxAsks+1)
			for i := range requests {
				requests[i] = fmt.Sprintf(`"%d":{"method":"roots/list"}`, i)
			}
			result(`{"resultType":"input_required","inputRequests":{` + strings.Join(requests, ",") + `}}`)
		case strings.Contains(params, `"name":"bad"`):
			result(`{"resultType":"input_required"}`)
		case strings.Contains(params, `"name":"rounds"`) && strings.Contains(params, `"requestState":"one"`):
			result(`{"resultType":"input_required","inputRequests":{"more":{"method":"elicitation/create","params":{"mode":"url"}}}}`)
		case answered && !strings.Contains(params, `"name":"hang"`):
			result(`{"got":` + params + `}`)
		case !answered:
			result(twice)
		}
	})
}

func (r *rig) asking(tool string, edit func(*fleet.CallRequest)) *caller {
	return r.streamed("s", tool, `{}`, func(req *fleet.CallRequest) {
		req.Ask = true
		if edit != nil {
			edit(req)
		}
	})
}

// asks returns the requests that the caller was sent so far.
func (c *caller) asks() (all []string) {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if e.Kind == fleet.CallAsk {
			all = append(all, fmt.Sprintf("%d %s %s %s", e.Seq, e.ID, e.Method, e.Params))
		}
	}
	return all
}

func (r *rig) say(n uint64, result, err string) error {
	a := fleet.Answer{Stream: "s", Owner: owner, N: n}
	if a.Result = []byte(result); err != "" {
		a.Result, a.Error = nil, []byte(err)
	}
	return r.Answer(a)
}

func TestAsking(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		rt.Handle("a", curious())
		r := newRig(t, rt, nil)
		r.ready("a", nil)
		c := r.asking("rounds", nil)
		asks := strings.Join(c.asks(), "; ")
		if want := `1 "l1.s.1" elicitation/create {"message":"Who?"}; 2 "l1.s.2" roots/list `; asks != want {
			t.Errorf("asked %s, want %s", asks, want)
		}
		for _, wrong := range []struct {
			n           uint64
			owner       string
			result      string
			wantInvalid bool
		}{{3, owner, `{}`, false}, {1, "somebody", `{}`, false}, {1, owner, `[]`, true}, {1, owner, `{`, true}} {
			err := r.Answer(fleet.Answer{Stream: "s", Owner: wrong.owner, N: wrong.n, Result: []byte(wrong.result)})
			if errors.Is(err, fleet.ErrInvalid) != wrong.wantInvalid || errors.Is(err, fleet.ErrNotAsked) == wrong.wantInvalid {
				t.Errorf("%+v: %v", wrong, err)
			}
		}
		if err := r.say(2, `{"roots":[]}`, ""); err != nil {
			t.Fatal(err)
		}
		if err := r.say(2, `{"roots":[]}`, ""); !errors.Is(err, fleet.ErrNotAsked) {
			t.Errorf("answered twice: %v", err)
		}
		if err := r.say(1, `{"action":"accept","content":{"n":9007199254740993}}`, ""); err != nil {
			t.Fatal(err)
		}
		if asks := c.asks(); len(asks) != 3 || asks[2] != `3 "l1.s.3" elicitation/create {"elicitationId":"l1.s.3","mode":"url"}` {
			t.Errorf("asked %q", asks)
		}
		if err := r.say(3, `{"action":"accept"}`, ""); err != nil {
			t.Fatal(err)
		}
		e := c.reply(t)
		contains(t, string(e.Result), `"inputResponses":{"more":{"action":"accept"}}`, `"name":"rounds"`)
		if strings.Contains(string(e.Result), "requestState") || e.Seq != 4 || e.Ongoing != 0 {
			t.Errorf("replied %d %s, ongoing %d", e.Seq, e.Result, e.Ongoing)
		}
		if n := c.count(fleet.CallResumed); n != 2 {
			t.Errorf("it went on %d times", n)
		}
	})
}

func TestAskingEnds(t *testing.T) {
	is := func(want error) func(fleet.CallEvent) bool {
		return func(e fleet.CallEvent) bool { return errors.Is(e.Err, want) }
	}
	failed := func(text string) func(fleet.CallEvent) bool {
		return func(e fleet.CallEvent) bool { return strings.Contains(string(e.Error), text) }
	}
	tests := []struct {
		name, tool string
		edit       func(*fleet.CallRequest)
		then       func(*rig, *caller)
		want       func(fleet.CallEvent) bool
		holding    bool
	}{
		{"the client refuses", "one", nil, func(r *rig, _ *caller) {
			_ = r.say(1, "", `{"code":-1,"message":"no"}`)
		}, failed(`"the client refused elicitation/create","data":{"code":-1,"message":"no"}`), false},
		{"its deadline passes while it waits", "one", nil, func(_ *rig, c *caller) { c.cancel(true) }, is(fleet.ErrTimeout), false},
		{"it is cancelled while it waits", "one", nil, func(r *rig, _ *caller) { _ = r.CancelCall("s", owner, "") }, is(context.Canceled), false},
		{"it is cancelled in a later round", "hang", nil, func(r *rig, _ *caller) {
			_ = r.say(1, `{}`, "")
			_ = r.say(2, `{}`, "")
			synctest.Wait()
			_ = r.CancelCall("s", owner, "")
		}, is(context.Canceled), true},
		{"its server dies while it waits", "one", nil, func(r *rig, _ *caller) {
			r.rt.Kill("a")
		}, is(fleet.ErrReplicaLost), false},
		{"too many rounds", "for ever", nil, func(*rig, *caller) {}, failed("more than 16 times"), false},
		{"too many requests at once", "many", nil, func(*rig, *caller) {}, is(fleet.ErrBadReply), false},
		{"malformed", "bad", nil, func(*rig, *caller) {}, is(fleet.ErrBadReply), false},
		{"its client cannot be asked", "one", func(req *fleet.CallRequest) { req.Ask = false }, func(*rig, *caller) {},
			func(e fleet.CallEvent) bool { return strings.Contains(string(e.Result), "input_required") }, false},
		{"the method may not ask", "one", func(req *fleet.CallRequest) { req.Method = "completion/complete" },
			func(_ *rig, c *caller) { c.cancel(true) }, is(fleet.ErrTimeout), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				rt := agenttest.New()
				rt.Handle("a", curious())
				r := newRig(t, rt, nil)
				r.ready("a", nil)
				c := r.asking(test.tool, test.edit)
				synctest.Wait()
				test.then(r, c)
				if e := c.reply(t); !test.want(e) || e.Holding != test.holding {
					t.Errorf("ended with %s %s %v, holding %v", e.Result, e.Error, e.Err, e.Holding)
				}
				if test.holding {
					<-c.released
				}
				if err := r.say(1, `{}`, ""); !errors.Is(err, fleet.ErrNotAsked) {
					t.Errorf("a late answer: %v", err)
				}
			})
		})
	}
}

// While a call without its caller waits for its client, only its limit bounds it.
func TestDeadlineStandsStillWhileAsking(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		rt.Handle("a", curious())
		r := newRig(t, rt, nil)
		r.ready("a", nil)
		began := time.Now()
		c := r.asking("one", func(req *fleet.CallRequest) { req.Timeout, req.Limit = time.Second, 50*time.Second })
		synctest.Wait()
		c.cancel(false)
		rd := r.read("s", 0, false)
		got, err := rd.end()
		if took := time.Since(began); err != nil || took != 50*time.Second || !strings.Contains(got, fleet.ErrTimeout.Error()) {
			t.Errorf("ended after %v: %s, %v", took, got, err)
		}
	})
}

// A server that answers nothing any more is unhealthy, although a call waits for its
// client meanwhile: the server is not busy with that.
func TestAskingIsNoExcuse(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt, deaf := agenttest.New(), make(chan struct{})
		serve := curious()
		rt.Handle("a", func(ctx context.Context, s *agenttest.Stdio) int {
			s.In = &stuck{s.In, deaf}
			return serve(ctx, s)
		})
		r := newRig(t, rt, nil)
		r.ready("a", nil)
		c := r.asking("one", nil)
		if len(c.asks()) != 2 {
			t.Fatalf("asked %q", c.asks())
		}
		close(deaf)
		r.view.until(t, "it is unhealthy", func(v *view) (bool, any) { return v.replicas["a"].Unhealthy, v.replicas["a"] })
		c.cancel(true)
		if e := c.reply(t); !errors.Is(e.Err, fleet.ErrTimeout) {
			t.Errorf("ended with %v", e.Err)
		}
		r.rt.Kill("a")
	})
}

// stuck is a stdin that is read no more once deaf is closed.
type stuck struct {
	io.Reader
	deaf chan struct{}
}

func (s *stuck) Read(b []byte) (int, error) {
	for {
		n, err := s.Reader.Read(b)
		select {
		case <-s.deaf:
			if err != nil {
				return 0, err
			}
			continue // it is lost on the server
		default:
			return n, err
		}
	}
}
