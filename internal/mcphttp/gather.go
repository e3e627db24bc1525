package mcphttp

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// gatherFor is how long requests of a server are gathered after the first, so that those
// that it makes at once become one result.
const gatherFor = 30 * time.Millisecond

// errParked ends the wait for the answer to a call whose server waits for the client.
var errParked = errors.New("the call waits for its client")

// gathering takes the messages of a call of a modern client. Notifications go to the
// client at once. Requests are gathered, and end the wait for the answer.
type gathering struct {
	front *Front
	reply *reply
	logs  bool   // the client asked for log messages
	token []byte // for progress of this request, raw JSON; nil: it wants none
	park  context.CancelCauseFunc

	mu       sync.Mutex
	worker   fleet.LifeID // that has the call
	seq      uint64       // of the last message
	requests []fleet.Message
	timer    *time.Timer // nil: there is no request yet
}

// gather returns a gathering, and a context that ends once requests were gathered.
func (f *Front) gather(ctx context.Context, p *reply, m *message) (*gathering, context.Context) {
	ctx, park := context.WithCancelCause(ctx)
	return &gathering{front: f, reply: p, logs: m.meta.LogLevel != nil, token: bytes.Clone(m.meta.ProgressToken), park: park}, ctx
}

// sent records which worker has the call. It is a hook of a call.
func (g *gathering) sent(worker fleet.LifeID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.worker = worker
}

// message takes a message. It is a hook of a call.
func (g *gathering) message(m fleet.Message) {
	g.mu.Lock()
	g.seq = max(g.seq, m.Seq)
	if m.Kind == fleet.MessageRequest {
		g.requests = append(g.requests, m)
		if g.timer == nil {
			g.timer = time.AfterFunc(gatherFor, func() { g.park(errParked) })
		}
	}
	g.mu.Unlock()
	if m.Kind != fleet.MessageNotification {
		return
	}
	if m.Method == mcp.MethodCancelled {
		g.withdraw(m.Params)
		return
	}
	if mcp.LegacyOnly(m.Method) || m.Method == mcp.MethodMessage && !g.logs {
		return // not for a client of the modern era
	}
	params := m.Params
	if m.Method == mcp.MethodProgress {
		if params = g.progress(params); params == nil {
			return
		}
		g.reply.progress.heard(m.Method)
	}
	if !g.reply.notify(notification(m.Method, params)) {
		g.front.metrics.drop(droppedSlow)
	}
}

// progress returns the params of a notification of progress with the token of the request
// that waits now: a retry has one of its own, and the server knows only the first. It
// returns nil if the request wants no progress.
func (g *gathering) progress(params []byte) []byte {
	s, err := mcp.SplitProgressToken(params)
	if err != nil || s.Insert == nil || g.token == nil {
		return nil
	}
	s.Insert = g.token
	return s.AppendTo(nil)
}

// withdraw drops a request that its server has given up.
func (g *gathering) withdraw(params []byte) {
	found, err := mcp.Fields(params, "requestId")
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests = slices.DeleteFunc(g.requests, func(m fleet.Message) bool { return string(m.ID) == string(found[0]) })
	if len(g.requests) == 0 && g.timer != nil && g.timer.Stop() {
		g.timer = nil
	}
}

// end returns what was gathered. No more is.
func (g *gathering) end() (requests []fleet.Message, worker fleet.LifeID, seq uint64) {
	g.park(nil)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer != nil {
		g.timer.Stop()
	}
	return slices.Clone(g.requests), g.worker, g.seq
}
