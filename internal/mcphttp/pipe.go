package mcphttp

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

const (
	// maxPiped bounds the requests of a pipe that run, and maxPipedBytes those of all pipes
	// of a controller together. A large one runs if it is alone.
	maxPiped      = 256
	maxPipedBytes = 256 << 20
	// pipedWindow is how long a call runs on whose pipe has ended: nobody can come back to
	// its answer.
	pipedWindow = time.Second
)

type pipeID [16]byte

// pipe is the stream of a client of the HTTP+SSE transport, with the one session that it
// has. Its requests run in goroutines of their own, which end with it.
type pipe struct {
	front  *Front
	id     pipeID
	scope  fleet.Scope
	events *events
	ctx    context.Context // ends with the pipe
	cancel context.CancelCauseFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	of      *session // nil before initialize
	running int
	leaving bool // it ends once nothing runs
	closed  bool
}

// newPipe returns a pipe that answers a request. close must be called later.
func (f *Front) newPipe(ctx context.Context, w *web.Response, scope fleet.Scope) *pipe {
	p := &pipe{front: f, scope: scope, events: newEvents(w)}
	p.events.bare = true
	rand.Read(p.id[:])
	// Not the request's own: what runs must not end before the stream is not written any more.
	p.ctx, p.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	return p
}

// close ends all requests of a pipe, and waits for that.
func (p *pipe) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.events.end()
	p.cancel(errCancelled)
	p.work.Wait()
}

// leave ends the pipe as soon as no request runs.
func (p *pipe) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving = true
	if p.running == 0 {
		p.events.end()
	}
}

// session returns the session of a pipe. Its error is the answer.
func (p *pipe) session() (*session, error) {
	p.mu.Lock()
	s := p.of
	p.mu.Unlock()
	switch {
	case s == nil:
		return nil, errNotBegun
	case time.Now().After(s.until()) || p.front.cfg.Sessions.Ended(s.id()):
		return nil, errSession
	}
	return s, nil
}

// run runs a request, whose answer goes to the pipe. Its error is the answer if it cannot.
func (p *pipe) run(w *web.Response, r *http.Request, m *message, size int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return errPipe
	case p.running >= maxPiped:
		return errPipeFull
	}
	if held := p.front.pipes.bytes.Add(size); held > maxPipedBytes && held != size {
		p.front.pipes.bytes.Add(-size)
		return errPipeFull
	}
	p.running++
	r = r.WithContext(p.ctx)
	p.work.Go(func() {
		defer p.done(size)
		p.answer(newPiped(w, r, m.id, p.events), m)
	})
	return nil
}

// done ends a request.
func (p *pipe) done(size int64) {
	p.front.pipes.bytes.Add(-size)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running--; p.leaving && p.running == 0 {
		p.events.end()
	}
}

// answer answers a request.
func (p *pipe) answer(to *reply, m *message) {
	defer func() {
		if v := recover(); v != nil { // as net/http does for other requests
			p.front.log.Error("request panicked", "request_id", to.w.RequestID(), "panic", v, "stack", string(debug.Stack()))
			_ = to.finish(outcome{err: fmt.Errorf("panic: %v", v)})
		}
	}()
	if m.method == mcp.MethodInitialize {
		p.initialize(to, m)
		return
	}
	s, err := p.session()
	out := outcome{err: err}
	switch {
	case err == nil:
		out = p.front.answerLegacy(to, s, m)
	case m.method == mcp.MethodPing:
		out = outcome{result: emptyObject}
	}
	_ = to.finish(out) // it breaks off only with the stream
}

// initialize begins the session of a pipe.
func (p *pipe) initialize(to *reply, m *message) {
	if _, err := p.session(); err == nil {
		_ = to.finish(outcome{err: errBegun})
		return
	}
	q, s, view, err := p.front.begin(to.r, m)
	if err == nil {
		to.session, err = p.front.seal(s)
	}
	if err != nil {
		_ = to.finish(outcome{err: err})
		return
	}
	out := p.front.initialized(to, q, s, view)
	if out.err == nil && out.refusal == nil {
		p.front.metrics.opened.Inc()
		defer p.begin(s)() // before the answer, after which the client may ask for lists at once
	} else {
		to.session = ""
	}
	_ = to.finish(out)
}

// begin gives a pipe its session, and looks at what the endpoint offers now: a change after
// that is told on the pipe once start has been called.
func (p *pipe) begin(s *session) (start func()) {
	p.mu.Lock()
	p.of = s
	p.mu.Unlock()
	from, detach, err := p.front.attach(p.ctx, s, p.events, eventID{})
	if err != nil {
		return func() {} // too many streams: another one tells
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed {
			detach()
			return
		}
		p.work.Go(func() {
			defer detach()
			for {
				select {
				case <-from.look:
					from.onLook()
				case <-from.changed:
					from.onLook()
				case <-from.first:
					from.first = nil
					from.onLook()
				case <-p.ctx.Done():
					return
				}
			}
		})
	}
}

// pipes are those of this controller. The zero value is ready, and all methods may be
// called at once.
type pipes struct {
	bytes atomic.Int64 // of the requests that run

	mu  sync.Mutex
	all map[pipeID]*pipe
}

func (d *pipes) add(p *pipe) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = make(map[pipeID]*pipe)
	}
	d.all[p.id] = p
}

func (d *pipes) get(id pipeID) *pipe {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all[id]
}

func (d *pipes) remove(id pipeID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.all, id)
}
