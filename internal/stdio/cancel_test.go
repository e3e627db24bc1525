package stdio_test

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

func TestCancelOfAQueuedCallIsNeverWritten(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
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
		{"something later answered", []string{`{"jsonrpc":"2.0","id":3,"result":{}}`}, 0},
		{"something earlier answered", []string{`{"jsonrpc":"2.0","id":1,"method":"x"}`, late}, 1},
		{"something else first", []string{`{"jsonrpc":"2.0","id":9,"result":{}}`, pong}, 1},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c, server := withPeer(t, stdio.Config{})
				var r record
				p := start(t, c, r.call("slow", ""))
				server.gets(`{"jsonrpc":"2.0","id":1,"method":"slow"}`)
				c.Cancel(p, `say "no"`)
				r.wants(t, stdio.ErrCancelled, true, 0)
				server.gets(cancelled)
				server.gets(ping)
				var other record
				start(t, c, other.call("other", ""))
				server.gets(`{"jsonrpc":"2.0","id":3,"method":"other"}`)
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

// The server may let go of a call while Cancel still tells its caller.
func TestReleasedComesAfterDone(t *testing.T) {
	for name, line := range map[string]string{
		"late reply":    `{"jsonrpc":"2.0","id":1,"result":{}}`,
		"ping answered": `{"jsonrpc":"2.0","id":2,"result":{}}`,
		"end":           "",
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c, server := withPeer(t, stdio.Config{})
				var r record
				call := r.call("slow", "")
				done := call.Done
				call.Done = func(reply stdio.Reply) {
					synctest.Wait() // the ping is being written
					if line != "" {
						server.says(line)
					} else {
						server.out.Close()
						server.in.Close()
						synctest.Wait()
					}
					done(reply)
				}
				p := start(t, c, call)
				server.gets(`{"jsonrpc":"2.0","id":1,"method":"slow"}`)
				c.Cancel(p, "")
				r.wants(t, stdio.ErrCancelled, true, 1)
			})
		})
	}
}

// Calls that end together are told one after the other: one that is cancelled
// meanwhile ends once all the same.
func TestCancelAtTheEnd(t *testing.T) {
	for name, written := range map[string]int{"queued": 0, "written": 3} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c, server := withPeer(t, stdio.Config{})
				want, delivered := stdio.ErrNotDelivered, false
				if written > 0 {
					want, delivered = stdio.ErrLost, true
				}
				var first, second, third record
				var last *stdio.Pending
				call := second.call("b", "")
				done := call.Done
				call.Done = func(r stdio.Reply) {
					done(r)
					if c.Cancel(last, "gone") {
						t.Error("Cancel ended a call that had ended")
					}
				}
				start(t, c, first.call("a", ""))
				start(t, c, call)
				last = start(t, c, third.call("c", ""))
				for range written {
					if _, err := server.buf.ReadString('\n'); err != nil {
						t.Fatal(err)
					}
				}
				server.in.Close()
				server.out.Close()
				second.wants(t, want, delivered, 1)
				third.wants(t, want, delivered, 1)
				if n := c.Stats().Waiting; n != 0 {
					t.Errorf("%d bytes are waiting", n)
				}
			})
		})
	}
}

func TestCancelledCallIsReleasedAtTheEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
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

// A server that answers what it was never sent does not release a call again.
func TestCancelledCallThatWasNotWrittenIsReleasedOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{})
		var r record
		p := start(t, c, r.call("a", ""))
		c.Cancel(p, "")
		r.wants(t, stdio.ErrCancelled, true, 0)
		c.CloseInput()
		r.wants(t, stdio.ErrCancelled, true, 1)
		server.says(`{"jsonrpc":"2.0","id":2,"result":{}}`) // the probe's id
		r.wants(t, stdio.ErrCancelled, true, 1)
	})
}

// A call counts as delivered once the server took its whole message, even without
// the newline.
func TestDeliveredMeansTheWholeLineWasWritten(t *testing.T) {
	const wire = `{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":1}}`
	for taken := range len(wire) + 2 {
		bubble.Test(t, func(t *testing.T) {
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
	bubble.Test(t, func(t *testing.T) {
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
	bubble.Test(t, func(t *testing.T) {
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
	bubble.Test(t, func(t *testing.T) {
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
		synctest.Wait() // the writer knows that its write is over
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

func TestProgressReachesItsCall(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
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
		if with.progress != 3 || without.progress != 0 {
			t.Errorf("progress %d and %d, want 3 and 0", with.progress, without.progress)
		}
	})
}

// Params that a controller vouches for are not scanned, but can still forge no
// second message.
func TestParamsWithoutMeta(t *testing.T) {
	for params, want := range map[string]string{
		"{\"a\":\r\n1}": `{"_meta":{"progressToken":1},"a":  1}`,
		"{}\n{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"die\"}": `{"_meta":{"progressToken":1}} {"jsonrpc":"2.0","id":7,"method":"die"}`,
		"\n{\"a\":\n": ` {"_meta":{"progressToken":1},"a": `,
	} {
		bubble.Test(t, func(t *testing.T) {
			c, server := withPeer(t, stdio.Config{})
			var r record
			call := r.call("m", params)
			call.Progress, call.NoMeta = true, true
			start(t, c, call)
			server.gets(`{"jsonrpc":"2.0","id":1,"method":"m","params":` + want + `}`)
		})
	}
	c, _ := withPeer(t, stdio.Config{})
	for _, params := range []string{"{", "\n", "[]", "3"} {
		call := new(record).call("m", params)
		call.Progress, call.NoMeta = true, true
		if _, err := c.Start(call); err == nil {
			t.Errorf("params %q were accepted", params)
		}
	}
}

// A caller that asked for progress gets the notifications whole, with its own token.
func TestProgressCarriesTheCallersToken(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{})
		var with, without record
		var got []string
		call := with.call("slow", `{"_meta":{"progressToken":"mine"}}`)
		call.Progress = true
		call.OnNotification = func(method string, params []byte) { got = append(got, method+" "+string(params)) }
		start(t, c, call)
		second := without.call("slow", `{}`)
		second.Progress = true
		second.OnNotification = func(string, []byte) { t.Error("a caller that has no token was notified") }
		start(t, c, second)
		server.gets(`{"jsonrpc":"2.0","id":1,"method":"slow","params":{"_meta":{"progressToken":1}}}`)
		server.gets(`{"jsonrpc":"2.0","id":2,"method":"slow","params":{"_meta":{"progressToken":2}}}`)
		server.says(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":0.50,"progressToken":1,"message":"\u00fc"}}`)
		server.says(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2}}`)
		want := `notifications/progress {"progress":0.50,"progressToken":"mine","message":"\u00fc"}`
		if len(got) != 1 || got[0] != want || with.progress != 1 || without.progress != 1 {
			t.Errorf("got %q, want %q; progress %d and %d, want 1 and 1", got, want, with.progress, without.progress)
		}
	})
}

// A server cannot answer what it was not yet asked.
func TestReplyAheadOfItsCallIsNoReply(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, server := withPeer(t, stdio.Config{})
		var a, b record
		start(t, c, a.call("a", ""))
		start(t, c, b.call("b", ""))
		server.says(`{"jsonrpc":"2.0","id":2,"result":{}}`)
		server.says(`{"jsonrpc":"2.0","id":2,"result":NaN}`)
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
	bubble.Test(t, func(t *testing.T) {
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
