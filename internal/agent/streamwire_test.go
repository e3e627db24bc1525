package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
)

// serveAgent serves a rig's agent over gRPC. The function that it returns connects a controller.
func serveAgent(t *testing.T, r *rig) (connect func() *rpc.Client) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- rpc.NewServer(rpc.ServerConfig{Worker: r.Agent, Log: testLog(t)}).Serve(ctx, l)
	}()
	t.Cleanup(func() {
		_ = r.stop()
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return func() *rpc.Client {
		c, err := rpc.Dial(l.Addr().String(), rpc.ClientConfig{Life: "l1"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// counting is a server whose calls send as many notifications as they are told, and then
// answer. The tool "ask" asks for input first.
func counting() agenttest.Server {
	var out sync.Mutex
	return scripted(`modern {"tools":{}}`, func(m scriptedMessage, write func(string, ...any)) {
		if m.Method != "tools/call" {
			return
		}
		locked := func(format string, args ...any) {
			out.Lock()
			defer out.Unlock()
			write(format, args...)
		}
		if strings.Contains(string(m.Params), `"name":"ask"`) && !strings.Contains(string(m.Params), "inputResponses") {
			locked(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}}}}`, m.ID)
			return
		}
		_, rest, _ := strings.Cut(string(m.Params), `"n":`)
		var n int
		_, _ = fmt.Sscanf(rest, "%d", &n)
		go func() {
			for i := range n {
				time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
				locked(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d}}`, m.ID, i+1)
			}
			locked(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","n":%d}}`, m.ID, n)
		}()
	})
}

func countingCall(stream fleet.StreamID, n int) fleet.CallRequest {
	return fleet.CallRequest{
		Replica: "a", Method: "tools/call", Params: fmt.Appendf(nil, `{"name":"count","n":%d,"_meta":{"progressToken":"t"}}`, n),
		Stream: fleet.StreamRequest{ID: stream, Owner: owner, Keep: true},
	}
}

// Whatever becomes of the controllers that pass a call's messages on, each message is seen
// exactly once, in order, by a client that comes back with the last number it has seen.
func TestEveryMessageIsSeenOnce(t *testing.T) {
	rt := agenttest.New()
	rt.Handle("a", counting())
	r := newRig(t, rt, nil)
	r.ready("a", nil)
	connect := serveAgent(t, r)
	const clients, notes = 12, 300
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			stream := fleet.StreamID(fmt.Sprintf("s%d", i))
			var mu sync.Mutex
			var last uint64 // number of the last message that the client has seen
			var seen int
			take := func(m fleet.Message) error {
				mu.Lock()
				defer mu.Unlock()
				if m.Seq != last+1 {
					t.Errorf("stream %s: message %d after %d", stream, m.Seq, last)
				}
				if last = m.Seq; m.Kind == fleet.MessageNotification {
					if seen++; !strings.Contains(string(m.Params), fmt.Sprintf(`"progressToken":"t","progress":%d}`, seen)) {
						t.Errorf("stream %s: message %d is %s", stream, m.Seq, m.Params)
					}
				}
				return nil
			}
			left := func() uint64 { // the client has lost its connection
				mu.Lock()
				defer mu.Unlock()
				return last
			}
			first := connect()
			ctx, leave := context.WithCancel(t.Context())
			var gone sync.Mutex
			isGone := false
			lose := time.AfterFunc(time.Hour, func() {
				gone.Lock() // from now on the client gets nothing of this controller
				isGone = true
				gone.Unlock()
				if i%2 == 0 {
					first.Close() // the controller dies
				}
				leave() // the client does
			})
			_, err := first.Call(ctx, countingCall(stream, notes), fleet.CallHooks{Message: func(m fleet.Message) {
				gone.Lock()
				defer gone.Unlock()
				if m.Seq == 1 {
					lose.Reset(time.Duration(rand.IntN(20)) * time.Millisecond)
				}
				if !isGone {
					_ = take(m)
				}
			}})
			if err == nil {
				return // it was too quick for us
			}
			second := connect()
			for range 1000 {
				after := left()
				errLost := errors.New("the client lost its connection")
				limit := 1 + rand.IntN(60)
				err := second.ReadStream(t.Context(), fleet.ReadRequest{Stream: stream, Owner: owner, After: after}, func(ms []fleet.Message) error {
					for _, m := range ms {
						if err := take(m); err != nil {
							return err
						}
						if limit--; limit == 0 && m.Kind != fleet.MessageReply {
							return errLost
						}
					}
					return nil
				})
				if err == nil {
					break
				}
				if !errors.Is(err, errLost) {
					t.Errorf("stream %s: %v", stream, err)
					return
				}
			}
			if seen != notes || last != notes+1 {
				t.Errorf("stream %s: saw %d notifications, and %d messages", stream, seen, last)
			}
		})
	}
	all.Wait()
}

// A controller dies while a call that it began waits for its client. Another one has the
// requests, and passes the answer on.
func TestAnswerThroughAnotherController(t *testing.T) {
	rt := agenttest.New()
	rt.Handle("a", counting())
	r := newRig(t, rt, nil)
	r.ready("a", nil)
	connect := serveAgent(t, r)
	first, second := connect(), connect()
	req := countingCall("s", 2)
	req.Ask = true
	req.Params = []byte(`{"name":"ask","n":2,"_meta":{"progressToken":"t"}}`)
	asked, waits, sent := make(chan fleet.Message, 1), make(chan bool, 10), make(chan fleet.LifeID, 1)
	ended := make(chan error, 1)
	go func() {
		_, err := first.Call(t.Context(), req, fleet.CallHooks{
			Message: func(m fleet.Message) { asked <- m }, Waiting: func(w bool) { waits <- w }, Sent: func(l fleet.LifeID) { sent <- l },
		})
		ended <- err
	}()
	m := <-asked
	id, err := fleet.ParseAskID(strings.Trim(string(m.ID), `"`))
	if err != nil || m.Kind != fleet.MessageRequest || m.Seq != 1 || m.Method != "roots/list" || !<-waits || <-sent != "l1" || id.Life != "l1" {
		t.Fatalf("asked %+v, %v", m, err)
	}
	first.Close()
	if err := <-ended; !errors.Is(err, fleet.ErrWorkerLost) {
		t.Errorf("the call ended with %v", err)
	}
	var got []string
	err = second.ReadStream(t.Context(), fleet.ReadRequest{Stream: id.Stream, Owner: owner}, func(ms []fleet.Message) error {
		for _, m := range ms {
			got = append(got, fmt.Sprintf("%d %s%s", m.Seq, m.Method, m.Result))
			if m.Kind == fleet.MessageRequest {
				return second.Answer(t.Context(), fleet.Answer{Stream: id.Stream, Owner: owner, N: id.N, Result: []byte(`{"roots":[]}`)})
			}
		}
		return nil
	})
	want := `[1 roots/list 2 notifications/progress 3 notifications/progress 4 {"resultType":"complete","n":2}]`
	if err != nil || fmt.Sprint(got) != want {
		t.Errorf("read %v, %v; want %s", got, err, want)
	}
	for name, err := range map[string]error{
		"a second answer":  second.Answer(t.Context(), fleet.Answer{Stream: id.Stream, Owner: owner, N: id.N, Result: []byte(`{}`)}),
		"an unknown one":   second.Answer(t.Context(), fleet.Answer{Stream: "other", Owner: owner, N: 1, Error: []byte(`{}`)}),
		"a stranger's one": second.Answer(t.Context(), fleet.Answer{Stream: id.Stream, N: id.N, Result: []byte(`{}`)}),
	} {
		if !errors.Is(err, fleet.ErrNotAsked) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The errors of streams keep their meaning over the wire.
func TestStreamErrorsOverTheWire(t *testing.T) {
	rt := agenttest.New()
	rt.Handle("a", counting())
	r := newRig(t, rt, nil)
	r.ready("a", nil)
	c := serveAgent(t, r)()
	read := func(req fleet.ReadRequest, on func()) error {
		return c.ReadStream(t.Context(), req, func(ms []fleet.Message) error {
			if ms == nil {
				on()
			}
			return nil
		})
	}
	is := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	is("an unknown stream", read(fleet.ReadRequest{Stream: "x"}, func() {}), fleet.ErrUnknownStream)
	is("a call of an unknown stream", c.CancelCall(t.Context(), "x", owner, ""), fleet.ErrUnknownStream)
	is("an unknown session", c.SendToSession(t.Context(), "x", "a", []byte(`{}`)), fleet.ErrUnknownReplica)

	req := countingCall("s", 0)
	req.Params, req.Ask = []byte(`{"name":"ask"}`), true
	ended, asked := make(chan error, 1), make(chan bool, 1)
	go func() {
		_, err := c.Call(t.Context(), req, fleet.CallHooks{Message: func(fleet.Message) { asked <- true }})
		ended <- err
	}()
	<-asked
	found, taken := make(chan bool), make(chan error, 1)
	go func() {
		taken <- read(fleet.ReadRequest{Stream: "s", Owner: owner, After: 1, Claim: true}, func() { close(found) })
	}()
	<-found
	is("the caller of a stream that is read", <-ended, fleet.ErrStreamTaken)
	is("a second claim", read(fleet.ReadRequest{Stream: "s", Owner: owner, After: 1, Claim: true}, func() {}), fleet.ErrClaimed)
	second := make(chan bool)
	last := make(chan error, 1)
	go func() {
		last <- read(fleet.ReadRequest{Stream: "s", Owner: owner, After: 1}, func() { close(second) })
	}()
	<-second
	is("the first reader", <-taken, fleet.ErrStreamTaken)
	is("CancelCall", c.CancelCall(t.Context(), "s", owner, "done with it"), nil)
	is("the second reader", <-last, nil)
}

// Listen passes interests down and news up.
func TestListenOverTheWire(t *testing.T) {
	rt, w := agenttest.New(), new(wire)
	rt.Handle("a", scripted(watched, w.handle))
	r := newRig(t, rt, nil)
	r.ready("a", nil)
	c := serveAgent(t, r)()
	ctx, cancel := context.WithCancel(t.Context())
	wants, heard, ended := make(chan fleet.Interests, 1), make(chan fleet.Hearing, 10), make(chan error, 1)
	wants <- fleet.Interests{Number: 7, Servers: []fleet.Interest{{Server: "a", URIs: []string{"x:1"}}}}
	go func() {
		ended <- c.Listen(ctx, wants, func(h fleet.Hearing) { heard <- h })
	}()
	if h := <-heard; h.InEffect != 7 || !slices.Equal(h.Running, []fleet.ServerName{"a"}) || len(h.News) > 0 {
		t.Errorf("heard %+v", h)
	}
	if got := strings.Join(w.peek(), "\n"); !strings.Contains(got, `resources/subscribe {"uri":"x:1"}`) {
		t.Errorf("in effect, but sent %s", got)
	}
	w.tell(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:1"}}`)
	h := <-heard
	if len(h.News) != 1 || h.InEffect != 0 {
		t.Fatalf("heard %+v", h)
	}
	if n := h.News[0]; n.Server != "a" || n.Replica != "a" || n.Method != "notifications/resources/updated" || string(n.Params) != `{"uri":"x:1"}` {
		t.Errorf("heard %+v", n)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Listen: %v", err)
	}
}
