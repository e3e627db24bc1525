package mcphttp

import (
	"bytes"
	"context"
	"errors"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// repeatable are the methods that only read, so that they may be sent to a second
// replica if the first one is lost.
var repeatable = map[string]bool{
	mcp.MethodResourcesRead: true, mcp.MethodPromptsGet: true, mcp.MethodComplete: true,
	mcp.MethodToolsList: true, mcp.MethodPromptsList: true, mcp.MethodResourcesList: true, mcp.MethodResourceTemplates: true,
}

// forward sends a request to its destination, with these params instead of its own, and
// returns the answer as the destination's server gave it. It completes the call c.
func (f *Front) forward(ctx context.Context, p *reply, q *query, dest fleet.Destination, m *message, params []byte, c fleet.Call) outcome {
	if m.task == nil { // else it waits for nothing
		if err := f.cfg.Router.Admit(dest.Server); err != nil {
			return outcome{err: err}
		}
	}
	params, err := addressed(m, dest, params)
	if err != nil {
		return outcome{err: err}
	}
	c.Server, c.Method, c.Caller, c.Params = dest.Server, m.method, fleet.Anonymous, params
	c.Idempotent, c.Timeout = dest.Idempotent || repeatable[m.method], q.timeout
	c.Trace = fleet.Trace{RequestID: p.w.RequestID(), Traceparent: traceparent(p, m)}
	if m.method == mcp.MethodToolsCall {
		c.Tool = dest.Name
	}
	tasks := f.tasksOf(q.scope, dest, m)
	tasks.follow(p, &c)
	if q.waited {
		c.Since = q.came
	}
	if g := progressOf(p, m); g != nil {
		c.Queued = g.queued
		sent := c.Sent
		c.Sent = func(worker fleet.LifeID) {
			g.end()
			if sent != nil {
				sent(worker)
			}
		}
	}
	p.start()
	res, err := f.cfg.Router.Call(ctx, c)
	if errors.Is(err, fleet.ErrTaskLost) {
		res, err = f.findTask(ctx, c)
	}
	switch {
	case err != nil:
		return outcome{err: causeAt(ctx, err)}
	case res.Error != nil:
		return outcome{refusal: res.Error, seq: res.Seq}
	case res.Stream != nil:
		return outcome{stream: res.Stream, size: res.StreamSize, seq: res.Seq}
	}
	result := res.Result
	if dest.Result != nil {
		result = dest.Result(resultOf(m.method), result)
	}
	if tasks == nil && dest.Modern && m.method == mcp.MethodToolsCall && mcp.ResultType(result) == mcp.ResultTask {
		if err := m.refusesTask(); err != nil {
			f.cancelTask(ctx, c.Trace, dest.Server, res.Replica, result)
			return outcome{err: err}
		}
		tasks = &taskNames{front: f, at: taskRoute{server: dest.Server, replica: res.Replica, caller: fleet.Anonymous}, method: m.method}
	}
	return outcome{result: tasks.result(result), seq: res.Seq}
}

// addressed returns params with the name that the destination knows, as one line. They
// do not share memory with the body of the request, which is reused.
func addressed(m *message, dest fleet.Destination, params []byte) ([]byte, error) {
	if m.target != dest.Name {
		var err error
		if params, err = mcp.WithTarget(m.method, params, dest.Name); err != nil {
			return nil, invalidParams("Invalid params: %v", err)
		}
	}
	line := mcp.OneLine(params)
	if len(line) > 0 && len(m.params) > 0 && &line[0] == &m.params[0] {
		line = bytes.Clone(line)
	}
	return line, nil
}

// traceparent returns the trace that a request belongs to, by its header or else by its
// _meta.
func traceparent(p *reply, m *message) string {
	if t := web.Traceparent(p.r); t != "" {
		return t
	}
	return m.traceparent()
}

// traceparent returns that of _meta, "" if there is none.
func (m *message) traceparent() string {
	if m.meta.Traceparent == nil {
		return ""
	}
	t, _ := mcp.String(m.meta.Traceparent)
	if len(t) < 55 || len(t) > 256 || !web.Printable(t) {
		return ""
	}
	return t
}
