package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// child is a started process whose first line of output has its address.
type child struct {
	cmd     *exec.Cmd
	first   string
	stderr  *bytes.Buffer
	drained chan struct{}
}

func startChild(ctx context.Context, path string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, path, args...), stderr: new(bytes.Buffer), drained: make(chan struct{})}
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = 20 * time.Second
	c.cmd.Stderr = c.stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(out)
	c.first, err = lines.ReadString('\n')
	go func() {
		defer close(c.drained)
		_, _ = io.Copy(io.Discard, lines) // until the child ends
	}()
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("%s said nothing and ended: %s", path, bytes.TrimSpace(c.stderr.Bytes()))
	}
	c.first = strings.TrimSpace(c.first)
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	timer := time.AfterFunc(20*time.Second, func() { c.cmd.Process.Kill() })
	defer timer.Stop()
	<-c.drained
	_ = c.cmd.Wait() // how it ended does not matter any more
}

// self starts this program as one of its children.
func self(ctx context.Context, args ...string) (*child, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startChild(ctx, path, args...)
}

func driver() proc { return proc{"driver", os.Getpid()} }

// childrenOf returns the direct children of a process, all with the same role. The kernel
// lists them by the thread that started them.
func childrenOf(pid int, role string) []proc {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var out []proc
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for f := range strings.FieldsSeq(string(b)) {
			if p, err := strconv.Atoi(f); err == nil {
				out = append(out, proc{role, p})
			}
		}
	}
	return out
}

func startPipe(ctx context.Context, _ config) (*running, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "echo")
	in, inWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, outWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout = in, outWrite
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	in.Close()
	outWrite.Close()
	conn := stdio.New(stdio.Config{In: inWrite, Out: out})
	var reading sync.WaitGroup
	reading.Go(func() { _ = conn.Run(ctx) }) // its calls return the error
	stop := func() {
		inWrite.Close()
		reading.Wait()
		_ = cmd.Wait()
	}
	if _, err := conn.Handshake(ctx); err != nil {
		stop()
		return nil, err
	}
	call := func(ctx context.Context, text string) error {
		params, err := json.Marshal(map[string]any{"name": "echo", "arguments": map[string]string{"text": text}})
		if err != nil {
			return err
		}
		done := make(chan stdio.Reply, 1)
		p, err := conn.Start(&stdio.Call{Method: "tools/call", Params: params, Done: func(r stdio.Reply) { done <- r }})
		if err != nil {
			return err
		}
		select {
		case r := <-done:
			defer r.Release()
			if err := r.Failure(); err != nil {
				return err
			}
			return check(r.Result, text)
		case <-ctx.Done():
			conn.Cancel(p, "the bench gave up")
			return ctx.Err()
		}
	}
	return &running{onePath("pipe", call), []proc{driver(), {"server", cmd.Process.Pid}}, stop}, nil
}

// onePath returns the only path of a subject.
func onePath(name string, call func(context.Context, string) error) []path {
	return []path{{name: name, call: call}}
}

// check returns an error unless the text came back.
func check(reply []byte, text string) error {
	if len(reply) < len(text) || !bytes.Contains(reply, []byte(text[:min(len(text), 48)])) {
		return fmt.Errorf("wrong reply: %.200s", reply)
	}
	return nil
}

// httpCaller calls POST /call, over kept-alive connections.
func httpCaller(addr string) (call func(context.Context, string) error, idle func()) {
	transport := new(transport)
	url := "http://" + addr + "/call"
	return func(ctx context.Context, text string) error {
		body, err := json.Marshal(map[string]any{"tool_name": "echo", "tool_args": map[string]string{"text": text}})
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		reply := bytes.NewBuffer(make([]byte, 0, len(body)+512))
		if _, err := reply.ReadFrom(resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %.200s", resp.Status, reply)
		}
		return check(reply.Bytes(), text)
	}, transport.close
}

func startHTTP(ctx context.Context, _ config) (*running, error) {
	c, err := self(ctx, "http")
	if err != nil {
		return nil, err
	}
	call, idle := httpCaller(c.first)
	return &running{onePath("http", call), []proc{driver(), {"http", c.pid()}}, func() { idle(); c.stop() }}, nil
}

func startNaive(ctx context.Context, _ config) (*running, error) {
	w, err := self(ctx, "naive-worker")
	if err != nil {
		return nil, err
	}
	f, err := self(ctx, "naive-front", w.first)
	if err != nil {
		w.stop()
		return nil, err
	}
	call, idle := httpCaller(f.first)
	procs := append([]proc{driver(), {"front", f.pid()}, {"worker", w.pid()}}, childrenOf(w.pid(), "server")...)
	return &running{onePath("naive", call), procs, func() { idle(); f.stop(); w.stop() }}, nil
}

// waitFor polls until ask returns nil. After a minute it returns the last error.
func waitFor(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
