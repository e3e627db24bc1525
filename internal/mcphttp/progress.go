package mcphttp

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// progress tells a client that asked for the progress of its request why nothing happens
// yet. What a server says counts from 0 or 1, and must be more than what was said before.
// So the fleet's own comes before 0: -1, -1/2, -1/3 and so on.
type progress struct {
	reply *reply
	token []byte // raw JSON

	mu   sync.Mutex
	told int
	over bool // a server has the request
	said bool // it has told of its progress
}

// progressOf returns the progress of the reply, which is one for all that the request waits
// for. It is nil if the client did not ask for progress, or cannot get it.
func progressOf(p *reply, m *message) *progress {
	if p.progress == nil && m.meta.ProgressToken != nil && p.accepts.events {
		p.progress = &progress{reply: p, token: bytes.Clone(m.meta.ProgressToken)}
	}
	return p.progress
}

// queued is a hook of a call.
func (g *progress) queued(before int, why string) {
	switch {
	case why != "":
		g.tell("waiting for a replica: " + why)
	case before == 0:
		g.tell("waiting for a free replica")
	default:
		g.tell("waiting for a free replica (" + strconv.Itoa(before) + " before it)")
	}
}

func (g *progress) tell(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return
	}
	g.told++
	params := append(append([]byte(`{"progressToken":`), g.token...), `,"progress":`...)
	params = strconv.AppendFloat(params, -1/float64(g.told), 'f', -1, 64)
	params = append(mcp.AppendString(append(params, `,"message":`...), why), '}')
	g.reply.notify(notification(mcp.MethodProgress, params))
}

// begin says that no server has the request any more. One may have had it, and what it has
// said of its progress is more than what the fleet could say.
func (g *progress) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = g.said
}

// heard says that the server has sent the client a message. A nil g does not matter.
func (g *progress) heard(method string) {
	if g == nil || method != mcp.MethodProgress {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.said = true
}

// end says that the server has the request.
func (g *progress) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
}

const (
	waitsForOwn   = "waiting for a replica of the session's own"
	waitsForStart = "waiting for the server to start"
)

// during tells once a second why the request waits, while do runs. A nil g tells nothing.
func (g *progress) during(ctx context.Context, why string, do func()) {
	if g == nil {
		do()
		return
	}
	g.begin()
	ctx, cancel := context.WithCancel(ctx)
	var teller sync.WaitGroup
	defer teller.Wait()
	defer cancel()
	teller.Go(func() {
		every := time.NewTicker(time.Second)
		defer every.Stop()
		for {
			select {
			case <-every.C:
				g.tell(why)
			case <-ctx.Done():
				return
			}
		}
	})
	do()
}
