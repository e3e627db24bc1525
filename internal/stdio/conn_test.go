package stdio_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// ask makes one call that must be answered soon.
func ask(t testing.TB, c *conversation, method, params string) stdio.Reply {
	t.Helper()
	r := c.Request(t.Context(), method, []byte(params))
	if r.Err != nil {
		t.Fatalf("%s: %v", method, r.Err)
	}
	return r
}

// discard is a logger for tests whose server makes noise on purpose.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestReplies(t *testing.T) {
	cases := []struct {
		method, params string
		result, error  string
		err            error
	}{
		{method: "echo", params: `{"n":1.00,"big":123456789012345678901234567890,"z":1,"a":"\u00e9"}`,
			result: `{"n":1.00,"big":123456789012345678901234567890,"z":1,"a":"\u00e9"}`},
		{method: "error", error: `{"code":-32001,"message":"no","data":{"a":1}}`},
		{method: "noise", result: "{}"},
		{method: "bad utf-8", result: "\"a\uFFFDb\uFFFD\""},
		{method: "large bad utf-8", params: `{"size":100000}`, result: `"` + strings.Repeat("\uFFFD", 100_000) + `"`},
		{method: "byte order mark", result: "{}"},
		{method: "no result", err: stdio.ErrBadReply},
		{method: "method repeated", result: "{}"},
		{method: "bad json", err: stdio.ErrBadReply},
		{method: "no version", err: stdio.ErrBadReply},
		{method: "string id", result: `"taken"`},
		{method: "float id", result: "{}"},
		{method: "foresee", result: "{}"},
		{method: "batch", result: `{"in":"batch"}`},
		{method: "nested batch", result: "{}"},
		{method: "big, id last", params: `{"size":3000000}`, err: stdio.ErrReplyTooLarge},
		{method: "ask", result: `[{"jsonrpc":"2.0","id":"q1","result":{}},{"jsonrpc":"2.0","id":"q1","error":{"code":-32601,"message":"method not found: sampling/createMessage"}}]`},
	}
	c, _ := overProcess(t, stdio.Config{Log: discard(), MaxLine: 1 << 20})
	for range 2 { // whatever a reply is, the next ones are unharmed
		for _, tc := range cases {
			r := c.Request(t.Context(), tc.method, []byte(tc.params))
			if string(r.Result) != tc.result || string(r.Error) != tc.error || !errors.Is(r.Err, tc.err) || !r.Delivered {
				t.Errorf("%s: result %.200s, error %s, err %v, delivered %v", tc.method, r.Result, r.Error, r.Err, r.Delivered)
			}
			r.Release()
		}
	}
	s := c.Stats()
	if s.Skipped != 16 || s.UnknownIDs != 2 || s.Replies != 34 || s.Calls != 34 || s.Outstanding != 0 || s.DroppedAnswers != 0 {
		t.Errorf("stats %+v", s)
	}
	var rpc *mcp.Error
	if r := c.Request(t.Context(), "error", nil); !errors.As(r.Failure(), &rpc) || rpc.Code != -32001 || string(rpc.Data) != `{"a":1}` {
		t.Errorf("failure %v", r.Failure())
	}
}

func TestRepliesInAnyOrder(t *testing.T) {
	c, _ := overProcess(t, stdio.Config{})
	var calls sync.WaitGroup
	for range 50 {
		calls.Add(1)
		var p *stdio.Pending
		ready := make(chan struct{})
		p, err := c.Start(&stdio.Call{Method: "hold", Params: []byte(`{"count":50}`), Done: func(r stdio.Reply) {
			go func() {
				defer calls.Done()
				<-ready
				if want := fmt.Sprintf(`{"held":%d}`, p.ID()); string(r.Result) != want {
					t.Errorf("result %s, want %s, error %v", r.Result, want, r.Err)
				}
			}()
		}})
		if err != nil {
			t.Fatal(err)
		}
		close(ready)
	}
	calls.Wait()
}

// A caller's line ends, and second messages behind them, must not reach the server as lines.
func TestArgumentsReachAsOneLine(t *testing.T) {
	c, _ := overProcess(t, stdio.Config{})
	forged := `{"jsonrpc":"2.0","id":77,"method":"die"}`
	for _, params := range []string{
		"{\n  \"a\": [\r\n    1,\n\t2\r  ]\n}\n",
		"\n\n{\"text\":\"x\"}\r\n",
		`{"text":"` + strings.ReplaceAll(forged, `"`, `\"`) + `\n"}`,
		"{\"text\":\n" + forged + "\n}",
	} {
		before := string(ask(t, c, "lines", "").Result)
		r := ask(t, c, "echo", params)
		var got, want bytes.Buffer
		if json.Compact(&got, r.Result) != nil || json.Compact(&want, []byte(params)) != nil || got.String() != want.String() {
			t.Errorf("params %q came back as %q", params, r.Result)
		}
		after := string(ask(t, c, "lines", "").Result)
		var n, m int
		fmt.Sscan(before, &n)
		fmt.Sscan(after, &m)
		if m != n+2 {
			t.Errorf("params %q became %d lines", params, m-n-1)
		}
	}
	for _, params := range []string{"{}\n" + forged, `{"a":1`, "{\"a\":\"\n\"}", "\"\xff\"", "3", "null", "\n", `"text"`} {
		for _, progress := range []bool{false, true} {
			_, err := c.Start(&stdio.Call{Method: "echo", Params: []byte(params), Progress: progress, Done: func(stdio.Reply) { t.Errorf("%q: Done", params) }})
			if err == nil {
				t.Errorf("params %q were accepted", params)
			}
		}
	}
	var syntax *mcp.SyntaxError
	if _, err := c.Start(&stdio.Call{Method: "echo", Params: []byte("{\n \"ä\" 1}")}); !errors.As(err, &syntax) || syntax.Line != 2 || syntax.Column != 6 {
		t.Errorf("error %v, want one at line 2, column 6", err)
	}
	if n := ask(t, c, "lines", "").Result; string(n) != "13" {
		t.Errorf("%s lines, want 13", n)
	}
}

func TestProgressAndNotifications(t *testing.T) {
	methods := make(chan string, 10)
	c, _ := overProcess(t, stdio.Config{OnNotification: func(method string, _ []byte) { methods <- method }})
	var progress int
	done := make(chan stdio.Reply, 1)
	if _, err := c.Start(&stdio.Call{Method: "progress", Params: []byte(`{"count":5}`), Progress: true,
		OnProgress: func() { progress++ }, Done: func(r stdio.Reply) { done <- r }}); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.Err != nil || progress != 5 {
		t.Errorf("progress %d, error %v", progress, r.Err)
	}
	ask(t, c, "changed", "")
	if got := <-methods; got != mcp.MethodToolsListChanged {
		t.Errorf("notified of %s", got)
	}
}

// A server that asks without reading must neither block the reader nor fill the memory.
func TestFloodOfServerRequests(t *testing.T) {
	c, _ := overProcess(t, stdio.Config{})
	const asked = 50_000
	ask(t, c, "flood", fmt.Sprintf(`{"count":%d}`, asked))
	s := c.Stats()
	if s.DroppedAnswers == 0 || s.DroppedAnswers >= asked {
		t.Errorf("%d of %d answers dropped", s.DroppedAnswers, asked)
	}
	ask(t, c, "echo", "{}")
}

func TestServerStopsReading(t *testing.T) {
	c, cmd := overProcess(t, stdio.Config{MaxQueue: 1 << 20})
	ask(t, c, "stop reading", "")
	replies := make(chan stdio.Reply, 100)
	var pending []*stdio.Pending
	var refused error
	for refused == nil && len(pending) < 100 {
		p, err := c.Start(&stdio.Call{Method: "echo", Params: text(300 << 10), Done: func(r stdio.Reply) { replies <- r }})
		if refused = err; err == nil {
			pending = append(pending, p)
		}
	}
	if !errors.Is(refused, stdio.ErrBackedUp) {
		t.Fatalf("Start = %v after %d calls, want ErrBackedUp", refused, len(pending))
	}
	if err := c.Notify("n", text(300<<10)); !errors.Is(err, stdio.ErrBackedUp) {
		t.Errorf("Notify = %v, want ErrBackedUp", err)
	}
	last := pending[len(pending)-1]
	if !c.Cancel(last, "") {
		t.Error("Cancel did nothing")
	}
	if r := <-replies; !errors.Is(r.Err, stdio.ErrCancelled) || r.Delivered {
		t.Errorf("cancelled call: %v, delivered %v", r.Err, r.Delivered)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range pending[1:] {
		if r := <-replies; !errors.Is(r.Err, stdio.ErrNotDelivered) || r.Delivered {
			t.Errorf("call of over a pipe's length: %v, delivered %v", r.Err, r.Delivered)
		}
	}
	<-c.done
}

func TestServerDies(t *testing.T) {
	for method, want := range map[string]error{"die": stdio.ErrLost, "die in a reply": stdio.ErrLost, "die behind a reply": nil, "die without a line end": nil} {
		c, _ := overProcess(t, stdio.Config{Log: discard()})
		r := c.Request(t.Context(), method, nil)
		if !errors.Is(r.Err, want) || !r.Delivered {
			t.Errorf("%s: error %v, delivered %v, want %v", method, r.Err, r.Delivered, want)
		}
		<-c.done
		if c.err != nil {
			t.Errorf("%s: Run = %v", method, c.err)
		}
		if r := c.Request(t.Context(), "echo", nil); !errors.Is(r.Err, stdio.ErrClosed) || r.Delivered {
			t.Errorf("call after the end: %v", r.Err)
		}
	}
}

// The largest reply goes through, others are answered meanwhile, and its memory comes back.
func TestLargeReply(t *testing.T) {
	budget := stdio.NewBudget(256 << 20)
	c, _ := overProcess(t, stdio.Config{Budget: budget})
	before := heap()
	const size = 64 << 20
	large := make(chan stdio.Reply, 1)
	if _, err := c.Start(&stdio.Call{Method: "big", Params: fmt.Appendf(nil, `{"size":%d}`, size), Done: func(r stdio.Reply) { large <- r }}); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		ask(t, c, "echo", "{}")
	}
	r := <-large
	if r.Err != nil || len(r.Result) != size+2 || r.Result[0] != '"' || r.Result[size+1] != '"' {
		t.Fatalf("result of %d bytes, error %v", len(r.Result), r.Err)
	}
	if used := budget.Used(); used < size || used > size*5/4 {
		t.Errorf("%d bytes of the budget used while the reply of %d is held", used, size)
	}
	r.Release()
	r.Release()
	if used := budget.Used(); used != 0 {
		t.Errorf("%d bytes of the budget used after its release", used)
	}
	r = stdio.Reply{}
	if after := heap(); after > before+4<<20 {
		t.Errorf("heap grew from %d to %d", before, after)
	}
	_ = r
	r = ask(t, c, "echo", string(text(size)))
	if len(r.Result) != size+11 {
		t.Errorf("echo of %d bytes", len(r.Result))
	}
	r.Release()
	r = stdio.Reply{}
	if after := heap(); after > before+4<<20 {
		t.Errorf("heap grew from %d to %d by a large request", before, after)
	}
	_ = r
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestReplyBeyondTheLimits(t *testing.T) {
	cases := []struct {
		name    string
		maxLine int
		budget  int64
		size    int
		want    error
	}{
		{"fits both", 1 << 20, 1 << 20, 500_000, nil},
		{"line", 1 << 20, 1 << 30, 2_000_000, stdio.ErrReplyTooLarge},
		{"budget", 1 << 30, 1 << 20, 2_000_000, stdio.ErrNoBuffer},
		{"small line", 1000, 1 << 30, 2000, stdio.ErrReplyTooLarge},
		{"huge line", 1 << 20, 1 << 30, 40 << 20, stdio.ErrReplyTooLarge},
	}
	for _, tc := range cases {
		for _, method := range []string{"big", "big, id last"} {
			t.Run(tc.name+"/"+method, func(t *testing.T) {
				budget := stdio.NewBudget(tc.budget)
				c, _ := overProcess(t, stdio.Config{Log: discard(), MaxLine: tc.maxLine, Budget: budget})
				before := heap()
				r := c.Request(t.Context(), method, fmt.Appendf(nil, `{"size":%d}`, tc.size))
				if !errors.Is(r.Err, tc.want) || !r.Delivered {
					t.Errorf("error %v, delivered %v, want %v", r.Err, r.Delivered, tc.want)
				}
				r.Release()
				if budget.Used() != 0 {
					t.Errorf("%d bytes of the budget used", budget.Used())
				}
				r = stdio.Reply{}
				if after := heap(); after > before+4<<20 {
					t.Errorf("heap grew from %d to %d", before, after)
				}
				ask(t, c, "echo", "{}")
				_ = r
			})
		}
	}
}

// A large reply that nobody waits for any more gives its bytes back.
func TestLateLargeReplyIsReleased(t *testing.T) {
	budget := stdio.NewBudget(64 << 20)
	begun, released := make(chan struct{}), make(chan struct{})
	c, _ := overProcess(t, stdio.Config{Budget: budget, OnNotification: func(string, []byte) { close(begun) }})
	p, err := c.Start(&stdio.Call{Method: "big, once cancelled", Params: []byte(`{"size":8000000}`),
		Done: func(r stdio.Reply) {
			if !errors.Is(r.Err, stdio.ErrCancelled) || !r.Delivered {
				t.Errorf("error %v, delivered %v", r.Err, r.Delivered)
			}
			r.Release()
		},
		Released: func() { close(released) }})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	c.Cancel(p, "")
	<-released
	if n := c.Stats().LateReplies; n != 1 {
		t.Errorf("%d late replies, want 1", n)
	}
	if budget.Used() != 0 {
		t.Errorf("%d bytes of the budget used", budget.Used())
	}
}

func TestGoroutinesEndWithRun(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		c, cmd := overProcess(t, stdio.Config{})
		ask(t, c, "echo", "{}")
		if err := c.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		_ = cmd.Wait()
	}
	// Goroutines that have done their work may take a moment to be gone.
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, were %d", after, before)
	}
}

// Every call ends exactly once, whoever wins: the reply, the canceller or the end.
func TestEveryCallEndsOnce(t *testing.T) {
	for range 5 {
		c, cmd := overProcess(t, stdio.Config{Log: discard()})
		const callers, each = 16, 200
		var mu sync.Mutex
		done, released := map[int]int{}, map[int]int{}
		accepted := 0
		var all sync.WaitGroup
		for caller := range callers {
			all.Go(func() {
				for i := range each {
					id := caller*each + i
					finished := make(chan stdio.Reply, 10)
					want := fmt.Sprintf(`{"n":%d}`, id)
					p, err := c.Start(&stdio.Call{Method: "echo", Params: []byte(want), Progress: false,
						Done: func(r stdio.Reply) {
							mu.Lock()
							done[id]++
							mu.Unlock()
							finished <- r
						},
						Released: func() { mu.Lock(); released[id]++; mu.Unlock() }})
					if err != nil {
						if !errors.Is(err, stdio.ErrClosed) {
							t.Errorf("Start: %v", err)
						}
						return
					}
					mu.Lock()
					accepted++
					mu.Unlock()
					if i%3 == 0 {
						c.Cancel(p, "")
					}
					if caller == 0 && i == each*3/4 {
						_ = cmd.Process.Kill()
					}
					if r := <-finished; r.Err == nil && string(r.Result) != want {
						t.Errorf("result %s, want %s", r.Result, want)
					}
				}
			})
		}
		all.Wait()
		<-c.done
		if len(done) != accepted || len(released) != accepted {
			t.Errorf("%d calls accepted, %d ended, %d released", accepted, len(done), len(released))
		}
		for id := range done {
			if done[id] != 1 || released[id] != 1 {
				t.Errorf("call %d: ended %d times, released %d times", id, done[id], released[id])
			}
		}
		if s := c.Stats(); s.Outstanding != 0 || s.Waiting != 0 {
			t.Errorf("stats at the end %+v", s)
		}
	}
}
