package agent

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// wire records what a scripted server was sent, and lets the test write for it.
type wire struct {
	hangs atomic.Bool // it does not answer or acknowledge subscriptions

	mu    sync.Mutex
	got   []string
	lists []string // that it was asked for, but those of tools
	write func(string, ...any)
}

func (w *wire) handle(m scriptedMessage, write func(string, ...any)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write = write
	if strings.HasSuffix(m.Method, "/list") {
		w.lists = append(w.lists, m.Method)
		write(`{"jsonrpc":"2.0","id":%s,"result":{"resources":[],"resourceTemplates":[],"prompts":[]}}`, m.ID)
		return
	}
	if m.Method != "notifications/initialized" {
		w.got = append(w.got, fmt.Sprintf("%s %s", m.Method, m.Params))
	}
	if strings.Contains(m.Method, "subscri") && w.hangs.Load() || m.Method == "tools/call" {
		w.got[len(w.got)-1] += " as " + string(m.ID)
		return
	}
	switch {
	case m.ID == nil:
	case m.Method == "subscriptions/listen":
		w.got[len(w.got)-1] += " as " + string(m.ID)
		write(acknowledged, m.ID)
	default:
		write(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
	}
}

const acknowledged = `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s},"notifications":{}}}`

// says makes the server write a line, in a bubble.
func (w *wire) says(format string, args ...any) {
	w.tell(format, args...)
	synctest.Wait()
}

func (w *wire) tell(format string, args ...any) {
	w.mu.Lock()
	write := w.write
	w.mu.Unlock()
	write(format, args...)
}

// peek returns what the server was sent so far.
func (w *wire) peek() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

// sent returns what the server was sent since the last time.
func (w *wire) sent() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return strings.Join(got, "\n")
}

// listening is a controller's Listen.
type aListener struct {
	wants  chan fleet.Interests
	number uint64
	stop   func()

	mu       sync.Mutex
	news     []string
	inEffect uint64
	running  []fleet.ServerName
}

func (r *rig) listen() *aListener {
	l := &aListener{wants: make(chan fleet.Interests)}
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan struct{})
	l.stop = func() {
		cancel()
		<-ended
	}
	go func() {
		defer close(ended)
		_ = r.Listen(ctx, l.wants, func(h fleet.Hearing) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if h.InEffect != 0 {
				l.inEffect = h.InEffect
			}
			l.running = append(l.running, h.Running...)
			for _, n := range h.News {
				l.news = append(l.news, fmt.Sprintf("%s %s %s", n.Replica, strings.TrimPrefix(n.Method, "notifications/"), n.Params))
			}
			return nil
		})
	}()
	return l
}

func (l *aListener) want(uris ...string) {
	l.number++
	l.wants <- fleet.Interests{Number: l.number, Servers: []fleet.Interest{{Server: "a", URIs: uris}}}
	synctest.Wait()
}

// settled reports whether all that is wanted is in effect.
func (l *aListener) settled() bool {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inEffect == l.number
}

// heard returns the news since the last time.
func (l *aListener) heard() string {
	time.Sleep(2 * newsPause)
	l.mu.Lock()
	defer l.mu.Unlock()
	news := l.news
	l.news = nil
	return strings.Join(news, "\n")
}

func is(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got\n%s\nwant\n%s", what, got, want)
	}
}

const watched = `{"tools":{"listChanged":true},"resources":{"subscribe":true}}`

// The worker subscribes at a legacy server to what any controller wants.
func TestListenToLegacyServer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt, w := agenttest.New(), new(wire)
		rt.Handle("a", scripted(watched, w.handle))
		r := newRig(t, rt, nil)
		one, two := r.listen(), r.listen()
		defer two.stop()
		one.want("x:1")
		r.ready("a", nil)
		is(t, "at the start", w.sent(), `resources/subscribe {"uri":"x:1"}`)
		two.want("x:1", "x:2")
		is(t, "a second controller", w.sent(), `resources/subscribe {"uri":"x:2"}`)

		w.says(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:1","n":9007199254740993}}`)
		w.says(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:2/part"}}`)
		w.says(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:22"}}`)
		w.says(`{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`)
		w.says(`{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`)
		is(t, "the first one", one.heard(), `a resources/updated {"uri":"x:1","n":9007199254740993}`+"\na prompts/list_changed ")
		is(t, "the second one", two.heard(),
			`a resources/updated {"uri":"x:1","n":9007199254740993}`+"\n"+`a resources/updated {"uri":"x:2/part"}`+"\na prompts/list_changed ")

		one.stop()
		time.Sleep(2 * lingering)
		is(t, "after a controller has gone", w.sent(), "")
		two.want("x:1")
		time.Sleep(lingering / 2)
		is(t, "a moment later", w.sent(), "")
		time.Sleep(lingering)
		is(t, "soon", w.sent(), `resources/unsubscribe {"uri":"x:2"}`)
		two.want("x:1", "x:2")
		two.want("x:1")
		two.want("x:1", "x:2")
		time.Sleep(2 * lingering)
		is(t, "a wish that comes back", w.sent(), `resources/subscribe {"uri":"x:2"}`)
	})
}

func TestServersThatCannotBeWatched(t *testing.T) {
	for _, capabilities := range []string{`{}`, `{"tools":{}}`, `{"resources":{"listChanged":true}}`} {
		bubble.Test(t, func(t *testing.T) {
			rt, w := agenttest.New(), new(wire)
			rt.Handle("a", scripted(capabilities, w.handle))
			r := newRig(t, rt, nil)
			l := r.listen()
			defer l.stop()
			l.want("x:1")
			r.ready("a", nil)
			if !l.settled() {
				t.Errorf("%s: not in effect", capabilities)
			}
			if got := w.sent(); strings.Contains(got, "subscribe") {
				t.Errorf("%s: sent %s", capabilities, got)
			}
		})
	}
}

// A slow controller gets the last of each kind of news.
func TestNewsIsBounded(t *testing.T) {
	var ls listeners
	l := ls.add()
	ls.set(l, []fleet.Interest{{Server: "a", URIs: []string{"x:"}}})
	for i := range 3 * maxNews {
		uri := fmt.Sprintf("x:/%d", i%(2*maxNews))
		ls.tell(fleet.News{Server: "a", Method: "m", Params: fmt.Append(nil, i)}, uri)
	}
	news, flooded := ls.take(l)
	if !flooded || len(news) != maxNews || string(news[0].Params) != fmt.Sprint(2*maxNews) {
		t.Errorf("%d news, the first %s", len(news), news[0].Params)
	}
	if news, flooded := ls.take(l); len(news) > 0 || flooded {
		t.Error("news twice")
	}
}

func TestWantedIsBounded(t *testing.T) {
	var ls listeners
	var uris []string
	for i := range 2 * maxSubscriptions {
		uris = append(uris, fmt.Sprint(i))
	}
	ls.set(ls.add(), []fleet.Interest{{Server: "a", URIs: uris}})
	if got, _ := ls.wanted("a"); len(got) != maxSubscriptions || !slices.IsSorted(got) {
		t.Errorf("%d wanted", len(got))
	}
}

// calm returns a message without what every modern request says about us.
func calm(sent string) string {
	return regexp.MustCompile(`"_meta":\{.*\},`).ReplaceAllString(sent, "")
}

// A modern server is sent one subscriptions/listen for everything. Another takes its place
// when the wishes change, and after its end.
func TestListenToModernServer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt, w := agenttest.New(), new(wire)
		rt.Handle("a", scripted("modern "+watched, w.handle))
		r := newRig(t, rt, nil)
		l := r.listen()
		defer l.stop()
		r.ready("a", nil)
		id := func(sent string) string {
			t.Helper()
			_, id, _ := strings.Cut(sent, " as ")
			id, _, _ = strings.Cut(id, "\n")
			if id == "" {
				t.Fatalf("no subscription in %q", sent)
			}
			return id
		}
		sent := w.sent()
		first := id(sent)
		if got := calm(sent); !strings.Contains(got, `"notifications":{"toolsListChanged":true}`) {
			t.Errorf("sent %s", got)
		}
		w.hangs.Store(true)
		l.want("x:1")
		sent = w.sent()
		second := id(sent)
		contains(t, sent, `"resourceSubscriptions":["x:1"]`)
		if strings.Contains(sent, "cancelled") || l.settled() {
			t.Errorf("before the acknowledgement: in effect %t, sent %s", l.settled(), sent)
		}
		w.says(acknowledged, first) // once more
		is(t, "another acknowledgement", w.sent(), "")
		w.says(acknowledged, second)
		contains(t, w.sent(), `notifications/cancelled {"requestId":`+first)
		if !l.settled() {
			t.Error("not in effect after the acknowledgement")
		}
		w.hangs.Store(false)
		w.says(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:1","_meta":{"a":1,"io.modelcontextprotocol/subscriptionId":%s}}}`, second)
		is(t, "an update", l.heard(), `a resources/updated {"uri":"x:1","_meta":{"a":1}}`)
		w.sent()
		w.says(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete"}}`, second)
		is(t, "after its end", w.sent(), "")
		time.Sleep(relisten)
		third := id(w.sent())
		is(t, "what may have been missed", l.heard(), "a tools/list_changed \na resources/updated "+`{"uri":"x:1"}`)
		w.says(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}`, third)
		l.want("x:1", "x:2")
		time.Sleep(10 * relistenMax)
		if got := w.sent(); strings.Contains(got, "subscriptions/listen") {
			t.Errorf("a server that refused was sent %s", got)
		}
	})
}

// Messages of a modern server's log go to the call that asked for them first. Others do not
// ask while it runs.
func TestLogOfModernServer(t *testing.T) {
	tests := []struct {
		name         string
		capabilities string
		logs         []bool // of the calls in flight
		want         string // who gets it
	}{
		{"the only call", `modern {"logging":{}}`, []bool{true}, "1 0"},
		{"the only one that asked", `modern {"logging":{}}`, []bool{false, true, false}, "0 1 0 0"},
		{"nobody asked", `modern {"logging":{}}`, []bool{false, false}, "0 0 1"},
		{"the first that asked", `modern {"logging":{}}`, []bool{true, true}, "1 0 0"},
		{"a legacy server", `{"logging":{}}`, []bool{true}, "0 1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				rt, w := agenttest.New(), new(wire)
				rt.Handle("a", scripted(test.capabilities, w.handle))
				r := newRig(t, rt, nil)
				r.ready("a", nil)
				var calls []*caller
				for i, logs := range test.logs {
					calls = append(calls, r.streamed(fleet.StreamID(fmt.Sprint("s", i)), "any", `{}`, func(req *fleet.CallRequest) {
						if req.Logs = logs; logs {
							req.Params = []byte(`{"name":"any","_meta":{"io.modelcontextprotocol/logLevel":"info","x":1}}`)
						}
					}))
				}
				synctest.Wait()
				if n := strings.Count(w.sent(), "logLevel"); n > 1 {
					t.Errorf("%d calls ask for the log: %s", n, w.sent())
				}
				w.says(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}`)
				var got []int
				for _, c := range calls {
					got = append(got, c.count(fleet.CallNotification))
					c.cancel(true)
				}
				got = append(got, int(r.streams.now().Unattributed))
				if s := fmt.Sprint(got); s != "["+test.want+"]" {
					t.Errorf("the calls and nobody got %s, want %s", s, test.want)
				}
			})
		})
	}
}

// A controller is told that its wishes are in effect once all replicas are subscribed. It
// waits for no server that it does not care about, and not for ever.
func TestInterestsTakeEffect(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt, w := agenttest.New(), new(wire)
		rt.Handle("a", scripted(watched, w.handle))
		r := newRig(t, rt, nil)
		l, other := r.listen(), r.listen()
		defer l.stop()
		defer other.stop()
		l.want()
		if !l.settled() || len(l.running) > 0 {
			t.Errorf("without a server: in effect %t, running %v", l.settled(), l.running)
		}
		r.ready("a", nil)
		w.sent()
		w.hangs.Store(true)
		l.want("x:1")
		other.want()
		if l.settled() || !other.settled() {
			t.Errorf("while the server has not answered: in effect %t, lists alone %t", l.settled(), other.settled())
		}
		is(t, "running at the start of a later stream", fmt.Sprint(other.running), "[a]")
		_, id, _ := strings.Cut(w.sent(), " as ")
		w.says(`{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
		if !l.settled() {
			t.Error("not in effect after the answer")
		}
		l.want("x:1", "x:2")
		time.Sleep(subscribePatience - time.Millisecond)
		if l.settled() {
			t.Error("in effect without the answer")
		}
		time.Sleep(2 * time.Millisecond)
		if !l.settled() {
			t.Error("a server that hangs keeps a controller waiting")
		}
		_, id, _ = strings.Cut(w.sent(), " as ")
		w.says(`{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
		is(t, "what may have been missed", l.heard(), `a resources/updated {"uri":"x:2"}`)
		if len(l.running) > 0 {
			t.Errorf("running %v twice", l.running)
		}
	})
}

// A replica is subscribed before it is READY, and before its lists are asked for.
func TestSubscribedBeforeReady(t *testing.T) {
	for _, era := range []string{"", "modern "} {
		bubble.Test(t, func(t *testing.T) {
			rt, w := agenttest.New(), new(wire)
			rt.Handle("a", scripted(era+`{"prompts":{"listChanged":true},"resources":{"subscribe":true}}`, w.handle))
			r := newRig(t, rt, nil)
			l := r.listen()
			defer l.stop()
			l.want("x:1")
			w.hangs.Store(true)
			r.start("a", nil)
			synctest.Wait()
			sent := w.sent()
			_, id, _ := strings.Cut(sent, " as ")
			if len(w.lists) > 0 || r.view.snapshot().replicas["a"].Phase != fleet.PhaseStarting {
				t.Errorf("%s: asked for %v, sent %s, before the subscription", r.view.snapshot().replicas["a"].Phase, w.lists, sent)
			}
			if era == "" {
				w.says(`{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
			} else {
				w.says(acknowledged, id)
			}
			if got := r.view.snapshot().replicas["a"].Phase; got != fleet.PhaseReady {
				t.Errorf("%s after the subscription", got)
			}
			r.order("a", "enough")
			r.until("a", fleet.PhaseStopped)
		})
	}
}
