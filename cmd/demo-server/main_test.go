package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
)

type message struct {
	ID     *int            `json:"id"`
	Method string          `json:"method"`
	Params map[string]any  `json:"params"`
	Error  json.RawMessage `json:"error"`
	Result struct {
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
		IsError bool             `json:"isError"`
		Tools   []map[string]any `json:"tools"`
	} `json:"result"`
}

// client is the other end of the server's pipes.
type client struct {
	t      *testing.T
	in     io.WriteCloser
	out    *bufio.Reader
	exited atomic.Int64
}

func start(t *testing.T, f ...faults) *client {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c := &client{t: t, in: inW, out: bufio.NewReader(outR)}
	done := make(chan error, 1)
	go func() {
		done <- serve(context.WithoutCancel(t.Context()), inR, outW, func(code int) { c.exited.Store(int64(code)) }, append(f, faults{})[0])
		outW.Close()
	}()
	t.Cleanup(func() {
		inW.Close()
		go io.Copy(io.Discard, outR) // ends with outW
		if err := <-done; err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("serve: %v", err)
		}
	})
	c.send(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	if m := c.next(); m.ID == nil || *m.ID != 0 {
		t.Fatalf("initialize was answered with %+v", m)
	}
	c.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return c
}

func (c *client) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) call(id int, tool, args string) {
	c.t.Helper()
	c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":"p%d"}}}`, id, tool, args, id))
}

func (c *client) next() message {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	var m message
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		c.t.Fatalf("%v in %s", err, line)
	}
	return m
}

// text calls a tool and returns its answer.
func (c *client) text(tool, args string) (string, bool) {
	c.t.Helper()
	c.call(1, tool, args)
	m := c.next()
	if m.ID == nil || *m.ID != 1 || len(m.Result.Content) != 1 {
		c.t.Fatalf("%s was answered with %+v", tool, m)
	}
	return m.Result.Content[0].Text, m.Result.IsError
}

func TestTools(t *testing.T) {
	c := start(t)
	c.send(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	var names []string
	for _, tool := range c.next().Result.Tools {
		names = append(names, tool["name"].(string))
		hints := tool["annotations"].(map[string]any)
		if readOnly, want := hints["readOnlyHint"], tool["name"] != "flaky"; readOnly != want {
			t.Errorf("%s has readOnlyHint %v, want %v", tool["name"], readOnly, want)
		}
	}
	if got, want := strings.Join(names, " "), "echo flaky slow time"; got != want {
		t.Errorf("tools are %s, want %s", got, want)
	}
	if text, bad := c.text("echo", `{"text":"a\nb <ü> \u0001"}`); text != "a\nb <ü> \x01" || bad {
		t.Errorf("echo returned %q, %v", text, bad)
	}
	if text, bad := c.text("echo", `{}`); !bad {
		t.Errorf("echo without text returned %q", text)
	}
	if text, bad := c.text("time", `{"timezone":"Asia/Kolkata"}`); !strings.Contains(text, "+05:30 from process") || bad {
		t.Errorf("time returned %q, %v", text, bad)
	}
	if text, bad := c.text("time", `{"timezone":"Nowhere"}`); !bad {
		t.Errorf("time of no zone returned %q", text)
	}
	if text, bad := c.text("flaky", `{"probability":0}`); text != "it worked" || bad {
		t.Errorf("flaky with probability 0 returned %q, %v", text, bad)
	}
	if text, bad := c.text("flaky", `{"probability":1}`); !bad {
		t.Errorf("flaky with probability 1 returned %q", text)
	}
	if c.exited.Load() != 0 {
		t.Error("flaky ended the process without being asked to")
	}
	if c.text("flaky", `{"probability":1,"crash":true}`); c.exited.Load() != 3 {
		t.Error("flaky did not end the process")
	}
}

func TestSlowReportsProgress(t *testing.T) {
	c := start(t)
	c.call(7, "slow", `{"seconds":0.01}`)
	var progress float64
	for answered := false; !answered || progress < steps; {
		switch m := c.next(); {
		case m.Method == "notifications/progress":
			if m.Params["progressToken"] != "p7" || m.Params["progress"].(float64) <= progress {
				t.Fatalf("got progress %v after %v", m.Params, progress)
			}
			progress = m.Params["progress"].(float64)
		case m.ID != nil && *m.ID == 7:
			answered = true
		default:
			t.Fatalf("unexpected %+v", m)
		}
	}
}

// Slow calls do not block others, and end when they are cancelled.
func TestManyAtOnce(t *testing.T) {
	c := start(t)
	const slowCalls = 60
	go func() { // the pipes have no buffer: a write must not wait for a read of ours
		for id := 1; id <= slowCalls; id++ {
			c.call(id, "slow", `{"seconds":3000}`)
		}
		c.call(1000, "echo", `{"text":"hi"}`)
	}()
	if m := c.next(); m.ID == nil || *m.ID != 1000 {
		t.Fatalf("got %+v, want the answer to echo", m)
	}
	go func() {
		for id := 1; id <= slowCalls; id++ {
			c.send(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}`, id))
		}
		// The server answers all of these only if all its workers are free again.
		for id := range callsAtOnce {
			c.call(2000+id, "echo", `{"text":"hi"}`)
		}
	}()
	for answered := 0; answered < callsAtOnce; {
		if m := c.next(); m.ID != nil && *m.ID >= 2000 {
			answered++
		}
	}
}

func TestFaults(t *testing.T) {
	c := start(t, faults{fail: 1, without: "slow"})
	c.send(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	for _, tool := range c.next().Result.Tools {
		if tool["name"] == "slow" {
			t.Error("slow is listed")
		}
	}
	for i := range goodCalls + 2 {
		c.send(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{"text":"x"}}}`)
		if m := c.next(); m.Result.IsError != (i >= goodCalls) {
			t.Errorf("call %d was answered with %+v", i+1, m.Result)
		}
	}
}
