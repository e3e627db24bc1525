package stdio_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// peer is the server's end of a conversation, played by the test.
type peer struct {
	t   *testing.T
	in  net.Conn // the server's stdin
	buf *bufio.Reader
	out net.Conn // the server's stdout
}

func withPeer(t *testing.T, cfg stdio.Config) (*conversation, *peer) {
	t.Helper()
	childIn, in := net.Pipe()
	out, childOut := net.Pipe()
	cfg.In, cfg.Out = in, out
	p := &peer{t: t, in: childIn, buf: bufio.NewReaderSize(childIn, 16), out: childOut}
	t.Cleanup(func() { childIn.Close(); childOut.Close() })
	return run(t, cfg), p
}

// gets reads the next line, which must be want.
func (p *peer) gets(want string) {
	p.t.Helper()
	got, err := p.buf.ReadString('\n')
	if err != nil {
		p.t.Fatalf("read: %v, want %s", err, want)
	}
	if got = strings.TrimSuffix(got, "\n"); got != want {
		p.t.Fatalf("the server got %s\nwant           %s", got, want)
	}
}

func (p *peer) says(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.out, line+"\n"); err != nil {
		p.t.Fatalf("write: %v", err)
	}
	synctest.Wait()
}

// record is a call that notes what happens to it.
type record struct {
	mu       sync.Mutex
	replies  []stdio.Reply
	released int
	progress int
}

func (r *record) call(method, params string) *stdio.Call {
	return &stdio.Call{
		Method: method, Params: []byte(params),
		OnProgress: func() { r.mu.Lock(); r.progress++; r.mu.Unlock() },
		Done:       func(reply stdio.Reply) { r.mu.Lock(); r.replies = append(r.replies, reply); r.mu.Unlock() },
		Released: func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.replies) == 0 {
				r.released = -1000 // released before it was done
			}
			r.released++
		},
	}
}

func (r *record) wants(t *testing.T, err error, delivered bool, released int) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.replies) != 1 {
		t.Fatalf("%d replies, want 1", len(r.replies))
	}
	got := r.replies[0]
	if !errors.Is(got.Err, err) || got.Delivered != delivered {
		t.Errorf("error %v, delivered %v; want %v, %v", got.Err, got.Delivered, err, delivered)
	}
	if r.released != released {
		t.Errorf("released %d times, want %d", r.released, released)
	}
}

func (r *record) waits(t *testing.T) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.replies) != 0 || r.released != 0 {
		t.Errorf("replies %v, released %d; want a call under way", r.replies, r.released)
	}
}

func start(t *testing.T, c *conversation, call *stdio.Call) *stdio.Pending {
	t.Helper()
	p, err := c.Start(call)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	synctest.Wait()
	return p
}

func TestCancelOfAQueuedCallIsNeverWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{})
		var stuck, queued record
		start(t, c, stuck.call("a", ""))
		p := start(t, c, queued.call("b", ""))
		if !c.Cancel(p, "gone") {
			t.Error("Cancel found the call ended")
		}
		queued.wants(t, stdio.ErrCancelled, false, 1)
		if c.Cancel(p, "again") {
			t.Error("a second Cancel ended the call again")
		}
		var next record
		start(t, c, next.call("c", ""))
		server.gets(`{"jsonrpc":"2.0","id":1,"method":"a"}`)
		server.gets(`{"jsonrpc":"2.0","id":3,"method":"c"}`)
		stuck.waits(t)
	})
}

func TestCancelHoldsTheSlotUntilTheServerIsFree(t *testing.T) {
	const cancelled = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"say \"no\""}}`
	const ping = `{"jsonrpc":"2.0","id":2,"method":"ping"}`
	const late, pong = `{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","id":2,"result":{}}`
	const pongError = `{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"?"}}`
	cases := []struct {
		name  string
		lines []string
		held  int // lines after which the slot is still held
	}{
		{"ping answered, then late reply", []string{pong, late}, 0},
		{"late reply, then ping answered", []string{late, pong}, 0},
		{"ping refused", []string{pongError}, 0},
		{"something else first", []string{`{"jsonrpc":"2.0","id":9,"result":{}}`, pong}, 1},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, server := withPeer(t, stdio.Config{})
				var r record
				p := start(t, c, r.call("slow", ""))
				server.gets(`{"jsonrpc":"2.0","id":1,"method":"slow"}`)
				c.Cancel(p, `say "no"`)
				r.wants(t, stdio.ErrCancelled, true, 0)
				server.gets(cancelled)
				server.gets(ping)
				for i, line := range tc.lines {
					server.says(line)
					if i < tc.held {
						r.wants(t, stdio.ErrCancelled, true, 0)
					} else {
						r.wants(t, stdio.ErrCancelled, true, 1)
					}
				}
				c.stop()
				r.wants(t, stdio.ErrCancelled, true, 1)
				if n := c.Stats().Outstanding; n != 0 {
					t.Errorf("%d calls outstanding", n)
				}
			})
		})
	}
}

func TestCancelledCallIsReleasedAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{})
		var r record
		p := start(t, c, r.call("slow", ""))
		server.gets(`{"jsonrpc":"2.0","id":1,"method":"slow"}`)
		c.Cancel(p, "")
		r.wants(t, stdio.ErrCancelled, true, 0)
		c.stop()
		r.wants(t, stdio.ErrCancelled, true, 1)
	})
}

// What is known of delivery depends on the bytes the server took.
func TestDeliveredMeansTheWholeLineWasWritten(t *testing.T) {
	const wire = `{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":1}}`
	for taken := range len(wire) + 2 {
		synctest.Test(t, func(t *testing.T) {
			c, server := withPeer(t, stdio.Config{})
			var r record
			start(t, c, r.call("a", `{"x":1}`))
			if _, err := io.ReadFull(server.in, make([]byte, taken)); err != nil {
				t.Fatal(err)
			}
			server.in.Close()
			synctest.Wait()
			server.out.Close()
			want, delivered := stdio.ErrNotDelivered, false
			if taken >= len(wire) {
				want, delivered = stdio.ErrLost, true
			}
			r.wants(t, want, delivered, 1)
			if t.Failed() {
				t.Logf("%d bytes taken", taken)
			}
			if _, err := c.Start(r.call("b", "")); !errors.Is(err, stdio.ErrClosed) {
				t.Errorf("Start after the end: %v, want ErrClosed", err)
			}
		})
	}
}

func TestRunEndsThoughBothPipesAreStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{})
		var written, stuck, queued record
		start(t, c, written.call("a", ""))
		server.gets(`{"jsonrpc":"2.0","id":1,"method":"a"}`)
		start(t, c, stuck.call("b", ""))
		start(t, c, queued.call("c", ""))
		if err := c.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		written.wants(t, stdio.ErrLost, true, 1)
		stuck.wants(t, stdio.ErrNotDelivered, false, 1)
		queued.wants(t, stdio.ErrNotDelivered, false, 1)
		if err := c.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
	})
}

func TestCloseInputStillTakesReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{})
		var r record
		start(t, c, r.call("a", ""))
		server.gets(`{"jsonrpc":"2.0","id":1,"method":"a"}`)
		c.CloseInput()
		if _, err := server.buf.ReadByte(); err != io.EOF {
			t.Errorf("the server reads %v, want EOF", err)
		}
		server.says(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		r.wants(t, nil, true, 1)
		server.out.Close()
		if <-c.done; c.err != nil {
			t.Errorf("Run = %v", c.err)
		}
	})
}

func TestQueueIsBoundedButTakesOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{MaxQueue: 1000})
		var big, more record
		p := start(t, c, big.call("big", string(text(5000))))
		if _, err := c.Start(more.call("more", "")); !errors.Is(err, stdio.ErrBackedUp) {
			t.Errorf("Start = %v, want ErrBackedUp", err)
		}
		if _, err := io.CopyN(io.Discard, server.in, 5000); err != nil {
			t.Fatal(err)
		}
		more.waits(t)
		if _, err := server.buf.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		start(t, c, more.call("more", ""))
		server.gets(`{"jsonrpc":"2.0","id":3,"method":"more"}`)
		server.says(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		big.wants(t, nil, true, 1)
		if c.Cancel(p, "") {
			t.Error("Cancel ended a call that had its reply")
		}
		if w := c.Stats().Waiting; w != 0 {
			t.Errorf("%d bytes wait", w)
		}
	})
}

func TestRequestGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		got := make(chan stdio.Reply)
		go func() { got <- c.Request(ctx, "slow", nil) }()
		server.gets(`{"jsonrpc":"2.0","id":1,"method":"slow"}`)
		r := <-got
		if !errors.Is(r.Err, context.DeadlineExceeded) || !errors.Is(r.Err, stdio.ErrCancelled) || !r.Delivered {
			t.Errorf("reply %+v, want a delivered call that ran into its deadline", r)
		}
		if d := time.Since(begun); d != 3*time.Second {
			t.Errorf("took %v", d)
		}
		server.gets(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"the caller gave up"}}`)
		server.gets(`{"jsonrpc":"2.0","id":2,"method":"ping"}`)
	})
}

func TestPing(t *testing.T) {
	for answer, alive := range map[string]bool{
		`{"jsonrpc":"2.0","id":1,"result":{}}`:                               true,
		`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"what?"}}`: true,
		`{"jsonrpc":"2.0","id":1,"result":"` + "\xff" + `"}`:                 true,
		`{"jsonrpc":"2.0","method":"notifications/message","params":{}}`:     false,
	} {
		synctest.Test(t, func(t *testing.T) {
			c, server := withPeer(t, stdio.Config{})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			got := make(chan error)
			go func() { got <- c.Ping(ctx) }()
			server.gets(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
			server.says(answer)
			if err := <-got; (err == nil) != alive {
				t.Errorf("%s: Ping = %v, want alive %v", answer, err, alive)
			}
			// A ping is given up without a word.
			var r record
			start(t, c, r.call("next", ""))
			server.gets(`{"jsonrpc":"2.0","id":2,"method":"next"}`)
			if n := c.Stats().Outstanding; n != 1 {
				t.Errorf("%d outstanding, want 1", n)
			}
		})
	}
}

func TestProgressReachesItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{OnNotification: func(method string, _ []byte) { t.Errorf("notified of %s", method) }})
		var with, without record
		call := with.call("slow", `{ "name":"x", "_meta":{"a":1.0} }`)
		call.Progress = true
		p := start(t, c, call)
		start(t, c, without.call("slow", ""))
		server.gets(`{"jsonrpc":"2.0","id":1,"method":"slow","params":{ "name":"x", "_meta":{"progressToken":1,"a":1.0} }}`)
		server.gets(`{"jsonrpc":"2.0","id":2,"method":"slow"}`)
		for _, token := range []string{`1`, `1`, `2`, `3`, `"1"`, `null`, `{}`} {
			server.says(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + token + `,"progress":0.5}}`)
		}
		server.says(`{"jsonrpc":"2.0","method":"notifications/progress"}`)
		c.Cancel(p, "")
		server.says(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}`)
		if with.progress != 2 || without.progress != 0 {
			t.Errorf("progress %d and %d, want 2 and 0", with.progress, without.progress)
		}
	})
}

// A server cannot answer what it was not yet asked.
func TestReplyAheadOfItsCallIsNoReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{})
		var a, b record
		start(t, c, a.call("a", ""))
		start(t, c, b.call("b", ""))
		server.says(`{"jsonrpc":"2.0","id":2,"result":{}}`)
		server.says("{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"\xff\"}")
		b.waits(t)
		server.gets(`{"jsonrpc":"2.0","id":1,"method":"a"}`)
		server.gets(`{"jsonrpc":"2.0","id":2,"method":"b"}`)
		server.says(`{"jsonrpc":"2.0","id":2,"result":{}}`)
		b.wants(t, nil, true, 1)
		a.waits(t)
		if s := c.Stats(); s.UnknownIDs != 1 || s.Skipped != 1 || s.Replies != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestNoiseIsLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		c, server := withPeer(t, stdio.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		long := "Listening" + strings.Repeat("!", 1000)
		for range 5 {
			server.says(long)
		}
		server.says("")
		server.says(" \r")
		if got := strings.Count(log.String(), "not JSON-RPC"); got != 1 {
			t.Errorf("logged %d times in one moment, want once:\n%s", got, log.String())
		}
		if len(log.String()) > 600 || !strings.Contains(log.String(), "Listening!!") {
			t.Errorf("log: %s", log.String())
		}
		time.Sleep(time.Second)
		server.says("again")
		if !strings.Contains(log.String(), "suppressed=4") {
			t.Errorf("the suppressed lines are not counted:\n%s", log.String())
		}
		server.says("and again")
		c.stop()
		if !strings.Contains(log.String(), "suppressed=1") {
			t.Errorf("the last suppressed line is not counted:\n%s", log.String())
		}
		if n := c.Stats().Skipped; n != 7 {
			t.Errorf("skipped %d, want 7", n)
		}
	})
}

func TestHandshake(t *testing.T) {
	const request = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcpfleet","version":"1"}}}`
	result := func(version string) string {
		return `"result":{"protocolVersion":"` + version + `","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"2"},"instructions":"be kind"}`
	}
	cases := map[string]struct{ answer, fault string }{
		"newest":         {result("2025-11-25"), ""},
		"oldest":         {result("2024-11-05"), ""},
		"unknown":        {result("1999-01-01"), `"1999-01-01"`},
		"none":           {`"result":{}`, "protocol version"},
		"no object":      {`"result":3`, "decode"},
		"error":          {`"error":{"code":-32602,"message":"bad version"}`, "bad version"},
		"modern refusal": {`"error":{"code":-32601,"message":"Method not found"}`, "-32601"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, server := withPeer(t, stdio.Config{ClientInfo: mcp.Implementation{Name: "mcpfleet", Version: "1"}})
				type outcome struct {
					result *mcp.InitializeResult
					err    error
				}
				got := make(chan outcome, 1)
				go func() {
					r, err := c.Handshake(t.Context())
					got <- outcome{r, err}
				}()
				server.gets(request)
				server.says(`{"jsonrpc":"2.0","id":1,` + tc.answer + `}`)
				if tc.fault == "" {
					server.gets(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
				}
				o := <-got
				if tc.fault != "" {
					if o.err == nil || !strings.Contains(o.err.Error(), tc.fault) {
						t.Errorf("error %v, want one with %s", o.err, tc.fault)
					}
					return
				}
				if o.err != nil {
					t.Fatal(o.err)
				}
				if !o.result.Has("tools") || o.result.Has("prompts") || o.result.Server().Name != "s" || o.result.Instructions != "be kind" {
					t.Errorf("result %+v", o.result)
				}
			})
		})
	}
}

func TestListTools(t *testing.T) {
	cases := map[string]struct {
		pages []string
		names string
		fault string
	}{
		"one page":     {[]string{`{"tools":[{"name":"a","x":1.0,"annotations":{"readOnlyHint":true}},{"name":"b"}]}`}, "a b", ""},
		"three pages":  {[]string{`{"tools":[{"name":"a"}],"nextCursor":"1"}`, `{"tools":[],"nextCursor":"2"}`, `{"tools":[{"name":"b"}],"nextCursor":null}`}, "a b", ""},
		"cursor loop":  {[]string{`{"tools":[],"nextCursor":"1"}`, `{"tools":[],"nextCursor":"1"}`}, "", "repeats the cursor"},
		"no name":      {[]string{`{"tools":[{"title":"a"}]}`}, "", "without a name"},
		"no tools":     {[]string{`{}`}, "", `without "tools"`},
		"tools object": {[]string{`{"tools":{}}`}, "", "must be an array, not an object"},
		"cursor 3":     {[]string{`{"tools":[],"nextCursor":3}`}, "", "must be a string, not a number"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, server := withPeer(t, stdio.Config{})
				type outcome struct {
					tools []mcp.Tool
					err   error
				}
				got := make(chan outcome, 1)
				go func() {
					tools, err := c.ListTools(t.Context())
					got <- outcome{tools, err}
				}()
				for i, page := range tc.pages {
					if _, err := server.buf.ReadString('\n'); err != nil {
						t.Fatal(err)
					}
					server.says(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":%s}`, i+1, page))
				}
				o := <-got
				if tc.fault != "" {
					if o.err == nil || !strings.Contains(o.err.Error(), tc.fault) {
						t.Errorf("error %v, want one with %q", o.err, tc.fault)
					}
					return
				}
				if o.err != nil {
					t.Fatal(o.err)
				}
				var names []string
				for _, tool := range o.tools {
					names = append(names, tool.Name)
				}
				if strings.Join(names, " ") != tc.names {
					t.Errorf("tools %v, want %s", names, tc.names)
				}
				if tool := o.tools[0]; name == "one page" && (!tool.ReadOnly || !tool.Repeatable() || string(tool.Raw) != `{"name":"a","x":1.0,"annotations":{"readOnlyHint":true}}`) {
					t.Errorf("first tool %s", tool.Raw)
				}
			})
		})
	}
}
