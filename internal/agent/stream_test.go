package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const owner = "session-1"

// streamed begins a call with a stream.
func (r *rig) streamed(id fleet.StreamID, tool, args string, edit func(*fleet.CallRequest)) *caller {
	c := &caller{id: "a", replied: make(chan struct{}), released: make(chan struct{})}
	req := fleet.CallRequest{
		Replica: "a", Method: "tools/call", Notifications: true,
		Params: fmt.Appendf(nil, `{"name":%q,"arguments":%s,"_meta":{"progressToken":"t"}}`, tool, args),
		Stream: fleet.StreamRequest{ID: id, Owner: owner, Window: time.Minute},
	}
	if edit != nil {
		edit(&req)
	}
	c.cancel = r.Call(req, c.event)
	return c
}

// event collects an event.
func (c *caller) event(e fleet.CallEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
	switch e.Kind {
	case fleet.CallReply:
		close(c.replied)
	case fleet.CallReleased:
		close(c.released)
	case fleet.CallProgress, fleet.CallNotification, fleet.CallAsk, fleet.CallResumed:
	}
}

// reading is one reader of a stream.
type reading struct {
	mu       sync.Mutex
	messages []fleet.Message
	err      error
	found    chan struct{}
	ended    chan struct{}
	stop     context.CancelFunc
}

func (r *rig) read(id fleet.StreamID, after uint64, claim bool) *reading {
	return r.startReading(fleet.ReadRequest{Stream: id, Owner: owner, After: after, Claim: claim})
}

func (r *rig) startReading(req fleet.ReadRequest) *reading {
	ctx, stop := context.WithCancel(r.t.Context())
	rd := &reading{found: make(chan struct{}), ended: make(chan struct{}), stop: stop}
	go func() {
		defer close(rd.ended)
		err := r.ReadStream(ctx, req, func(ms []fleet.Message) error {
			if ms == nil {
				close(rd.found)
			}
			rd.mu.Lock()
			defer rd.mu.Unlock()
			rd.messages = append(rd.messages, ms...)
			return nil
		})
		rd.mu.Lock()
		defer rd.mu.Unlock()
		rd.err = err
	}()
	return rd
}

// end waits for the end of the reading, and describes what it has read: the number and the
// kind of each message.
func (rd *reading) end() (string, error) {
	<-rd.ended
	rd.mu.Lock()
	defer rd.mu.Unlock()
	var out []string
	for _, m := range rd.messages {
		what := m.Method
		if m.Kind == fleet.MessageReply {
			what = string(m.Result) + string(m.Error)
			if m.Err != nil {
				what = m.Err.Error()
			}
		}
		out = append(out, fmt.Sprintf("%d %s", m.Seq, strings.TrimPrefix(what, "notifications/")))
	}
	return strings.Join(out, ", "), rd.err
}

const slept = `{"content":[{"type":"text","text":"slept"}]}`

func TestStreamOutlivesItsCaller(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		c := r.streamed("s", "slow", `{"ms":3000}`, nil)
		time.Sleep(1500 * time.Millisecond) // one progress
		c.cancel(false)
		c.cancel(false)
		time.Sleep(time.Second) // a second one
		rd := r.read("s", 1, false)
		got, err := rd.end()
		if want := "2 progress, 3 " + slept; err != nil || got != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
		<-c.released
		if c.count(fleet.CallReply) != 0 || c.count(fleet.CallNotification) != 1 {
			t.Errorf("the caller that left got %+v", c.events)
		}
		// It is kept for further readers until the window has passed.
		time.Sleep(59 * time.Second)
		if got, err := r.read("s", 0, false).end(); err != nil || got != "1 progress, 2 progress, 3 "+slept {
			t.Errorf("read again %q, %v", got, err)
		}
		time.Sleep(62 * time.Second)
		if got, err := r.read("s", 0, false).end(); !errors.Is(err, fleet.ErrUnknownStream) {
			t.Errorf("after the window: %q, %v", got, err)
		}
		if s := r.streams.now(); s.Kept != 0 || s.Bytes != 0 || s.Resumed != 2 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestStreamWithoutReaderIsCancelled(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		c := r.streamed("s", "slow", `{"ms":600000}`, nil)
		c.cancel(false)
		time.Sleep(30 * time.Second)
		rd := r.read("s", 0, false)
		<-rd.found
		time.Sleep(2 * time.Minute) // it has a reader
		rd.stop()
		<-rd.ended
		left := time.Now()
		<-c.released
		if took := time.Since(left); took < time.Minute || took > 61*time.Second {
			t.Errorf("cancelled %v after the last reader left, want a minute", took)
		}
		if s := r.streams.now(); s.Kept != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestWhichStreamsAreKept(t *testing.T) {
	tests := []struct {
		name, tool, args string
		keep             bool
		want             string // "" if it is not kept
	}{
		{"short", "slow", `{"ms":0}`, false, "1 progress, 2 progress, 3 " + slept}, // it has messages
		{"short without messages", "error", `{}`, false, ""},
		{"short, but wanted", "error", `{}`, true, `1 {"code":-32000,"message":"as you wished"}`},
		{"50 ms", "freeze", `{"ms":50}`, false, `1 {"content":[{"type":"text","text":"thawed"}]}`},
		{"not delivered", "echo", `[`, true, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				r.ready("a", nil)
				c := r.streamed("s", test.tool, test.args, func(req *fleet.CallRequest) { req.Stream.Keep = test.keep })
				c.reply(t)
				got, err := r.read("s", 0, false).end()
				if test.want == "" {
					if !errors.Is(err, fleet.ErrUnknownStream) {
						t.Errorf("read %q, %v", got, err)
					}
				} else if err != nil || got != test.want {
					t.Errorf("read %q, %v; want %q", got, err, test.want)
				}
			})
		})
	}
}

func TestSecondReaderEndsTheFirst(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		c := r.streamed("s", "slow", `{"ms":3000}`, nil)
		first := r.read("s", 0, false)
		<-first.found
		if e := c.reply(t); !errors.Is(e.Err, fleet.ErrStreamTaken) || !e.Holding {
			t.Errorf("the caller got %+v", e)
		}
		second := r.read("s", 0, false)
		<-second.found
		if got, err := first.end(); !errors.Is(err, fleet.ErrStreamTaken) {
			t.Errorf("the first reader ended with %q, %v", got, err)
		}
		if got, err := second.end(); err != nil || got != "1 progress, 2 progress, 3 "+slept {
			t.Errorf("the second reader ended with %q, %v", got, err)
		}
		<-c.released
	})
}

func TestClaimSucceedsOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		c := r.streamed("s", "slow", `{"ms":60000}`, nil)
		time.Sleep(50 * time.Second)
		c.cancel(false)
		for i, try := range []struct {
			after uint64
			ok    bool
		}{{1, true}, {1, false}, {0, false}, {2, true}, {1, false}} {
			rd := r.read("s", try.after, true)
			synctest.Wait()
			rd.stop()
			if _, err := rd.end(); errors.Is(err, fleet.ErrClaimed) == try.ok {
				t.Errorf("claim %d of %d: %v", i, try.after, err)
			}
		}
	})
}

func TestForeignStream(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		r.streamed("s", "slow", `{"ms":1000}`, nil)
		err := r.ReadStream(t.Context(), fleet.ReadRequest{Stream: "s", Owner: "somebody"}, func([]fleet.Message) error { return nil })
		if !errors.Is(err, fleet.ErrUnknownStream) {
			t.Errorf("ReadStream: %v", err)
		}
		if err := r.CancelCall("s", "somebody", ""); !errors.Is(err, fleet.ErrUnknownStream) {
			t.Errorf("CancelCall: %v", err)
		}
	})
}

func TestCancelCall(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		c := r.streamed("s", "slow", `{"ms":60000}`, nil)
		c.cancel(false)
		rd := r.read("s", 0, false)
		<-rd.found
		if err := r.CancelCall("s", owner, ""); err != nil {
			t.Fatal(err)
		}
		if got, err := rd.end(); err != nil || got != "1 "+context.Canceled.Error() {
			t.Errorf("the reader got %q, %v", got, err)
		}
		<-c.released
		if err := r.CancelCall("s", owner, ""); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}

// The server is told why its call was cancelled, over the wire too.
func TestCancelCallSaysWhy(t *testing.T) {
	rt, told, began := agenttest.New(), make(chan string, 1), make(chan bool)
	rt.Handle("a", scripted(`{"tools":{}}`, func(m scriptedMessage, _ func(string, ...any)) {
		switch m.Method {
		case "tools/call":
			close(began)
		case "notifications/cancelled":
			told <- string(m.Params)
		}
	}))
	r := newRig(t, rt, nil)
	r.ready("a", nil)
	c := serveAgent(t, r)()
	r.streamed("s", "slow", `{}`, nil)
	<-began
	if err := c.CancelCall(t.Context(), "s", owner, `no "longer"`); err != nil {
		t.Fatal(err)
	}
	if got := <-told; !strings.HasSuffix(got, `,"reason":"no \"longer\""}`) {
		t.Errorf("the server was told %s", got)
	}
}

// A call without its caller ends by its own deadline, which progress moves.
func TestDeadlineWithoutCaller(t *testing.T) {
	tests := []struct {
		name           string
		timeout, limit time.Duration
		want           time.Duration
	}{
		{"no progress in time", 15 * time.Second, time.Hour, 15 * time.Second},
		{"progress moves it", 25 * time.Second, time.Hour, 60 * time.Second}, // each 20 s
		{"but not beyond the limit", 25 * time.Second, 50 * time.Second, 50 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				r.ready("a", nil)
				began := time.Now()
				c := r.streamed("s", "slow", `{"ms":60000}`, func(req *fleet.CallRequest) {
					req.Timeout, req.Limit = test.timeout, test.limit
				})
				c.cancel(false)
				got, err := r.read("s", 0, false).end()
				if took := time.Since(began); err != nil || took != test.want {
					t.Errorf("ended after %v, %v: %s; want %v", took, err, got, test.want)
				}
				if timedOut := strings.HasSuffix(got, fleet.ErrTimeout.Error()); timedOut != (test.want < time.Minute) {
					t.Errorf("ended with %s", got)
				}
			})
		})
	}
}

// A drain waits for a call whose caller has gone as for any other.
func TestDrainWaitsForStreams(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		c := r.streamed("s", "slow", `{"ms":9000}`, nil)
		c.cancel(false)
		rd := r.read("s", 0, false)
		r.order("a", "enough")
		got, err := rd.end()
		if err != nil || !strings.HasSuffix(got, slept) {
			t.Errorf("read %q, %v", got, err)
		}
		r.until("a", fleet.PhaseStopped)
	})
}

// A call that is sent again to the same worker takes the place of its earlier attempt.
func TestCallIsSentAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		first := r.streamed("s", "slow", `{"ms":60000}`, nil)
		time.Sleep(25 * time.Second) // one progress
		second := r.streamed("s", "slow", `{"ms":3000}`, nil)
		if e := first.reply(t); !errors.Is(e.Err, context.Canceled) {
			t.Errorf("the first attempt ended with %+v", e)
		}
		second.cancel(false)
		if got, err := r.read("s", 1, false).end(); err != nil || got != "2 progress, 3 progress, 4 "+slept {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

// The bytes of all streams are bounded: those that ended first go first.
func TestStreamsAreBounded(t *testing.T) {
	ss := newStreams()
	reply := func(id string, size int) *stream {
		st := ss.begin(&fleet.CallRequest{Stream: fleet.StreamRequest{ID: fleet.StreamID(id), Keep: true}}, false, func(fleet.CallEvent) {})
		st.event(fleet.CallEvent{Kind: fleet.CallReply, Result: make([]byte, size)})
		return st
	}
	for i := range 20 {
		reply(fmt.Sprint(i), 4<<20)
	}
	var kept []string
	for i := range 20 {
		if _, err := ss.find(fleet.StreamID(fmt.Sprint(i)), ""); err == nil {
			kept = append(kept, fmt.Sprint(i))
		}
	}
	if s := ss.now(); s.Bytes > maxStreamsBytes || s.Evicted != 5 || !slices.Equal(kept[:2], []string{"5", "6"}) || s.Kept != 15 {
		t.Errorf("kept %v, stats %+v", kept, s)
	}
	// A stream whose call runs loses old notifications when nothing else can go.
	running := func(id string) *stream {
		return ss.begin(&fleet.CallRequest{Stream: fleet.StreamRequest{ID: fleet.StreamID(id)}}, false, func(fleet.CallEvent) {})
	}
	for i := range 40 {
		st := running(fmt.Sprint("r", i))
		for range 4 {
			st.event(fleet.CallEvent{Kind: fleet.CallNotification, Params: make([]byte, 1<<20-1000)})
		}
	}
	if s := ss.now(); s.Bytes > maxStreamsBytes+40<<20 {
		t.Errorf("stats %+v", s)
	}
}

// BenchmarkShortStream is what a stream costs a call that is not kept.
func BenchmarkShortStream(b *testing.B) {
	ss := newStreams()
	result := []byte(`{"content":[]}`)
	events := func(fleet.CallEvent) {}
	b.ReportAllocs()
	for range b.N {
		st := ss.begin(&fleet.CallRequest{Stream: fleet.StreamRequest{ID: "0123456789abcdef0123456789abcdef", Owner: owner}}, false, events)
		st.begun(func(bool, string) {})
		st.event(fleet.CallEvent{Kind: fleet.CallReply, Result: result})
	}
}
