package mcphttp

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// For clients that accept both, quick is how long the answer to a request may take before
// it becomes a stream of events. For modern clients it is patient: a stream has no status
// for their errors, and they cannot come back to it, so that it is of no use before the
// first message. The same holds for legacy clients until a worker has the call.
const (
	quick   = 100 * time.Millisecond
	patient = 5 * time.Second
)

// outcome is the answer to a request. One of result, stream, refusal and err is set.
type outcome struct {
	result  []byte        // raw JSON
	lead    []byte        // comes before result and makes one value of both; may be nil
	seq     uint64        // of the answer in the call's stream, 0 if it has none
	stream  io.ReadCloser // of a large result, raw JSON
	size    int64         // of stream; 0: not known
	refusal []byte        // raw JSON-RPC error object of the server
	status  int           // of HTTP, for a refusal; 0: 200
	err     error         // our own
	// unanswered means that the client of the legacy era has cancelled the request, and
	// expects no response. One that takes JSON only gets err: HTTP needs an answer.
	unanswered bool
}

// reply writes the answer to one request: as JSON, or as a stream of events once the
// request takes long or has messages before its answer.
type reply struct {
	w       *web.Response
	r       *http.Request
	id      []byte // of the request, raw JSON
	accepts accepts
	wait    time.Duration // for the answer, before it becomes a stream
	timer   *time.Timer   // nil: not started
	piped   bool          // the answer goes to a stream that others share
	session string        // id of the session that a piped answer begins; "": none

	// leave is called when the controller is told to stop, if the client can come back to
	// its answer elsewhere. Nil: it waits for the answer here.
	leave   func()
	leaving <-chan struct{} // closed then

	// progress tells the client why it waits. Nil: the client did not ask for it.
	progress *progress

	mu     sync.Mutex
	told   time.Time // when the client was last sent a message before a piped answer
	events *events   // nil while there is no stream
	ended  bool
	resume *resumption // nil: the client cannot come back

	writer sync.WaitGroup // writes events
	err    error          // of the writer
}

func newReply(w *web.Response, r *http.Request, id []byte, a accepts) *reply {
	return &reply{w: w, r: r, id: id, accepts: a, wait: quick}
}

// newPiped returns the reply to a request whose answer goes to the stream of a pipe.
func newPiped(w *web.Response, r *http.Request, id []byte, to *events) *reply {
	return &reply{w: w, r: r, id: id, accepts: accepts{json: true, events: true}, events: to, piped: true}
}

// start begins to count the time, or begins again. finish must be called later.
func (p *reply) start() {
	switch {
	case !p.accepts.events:
	case p.timer == nil:
		p.timer = time.AfterFunc(p.wait, func() { p.stream() })
	case p.timer.Stop():
		p.timer.Reset(p.wait)
	}
}

// stream makes the answer a stream of events. It returns nil if that is not possible.
func (p *reply) stream() *events {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.events != nil || p.ended || !p.accepts.events {
		return p.events
	}
	s := newEvents(p.w)
	p.events = s
	p.primeStream()
	from := source{gone: p.r.Context().Done()}
	if p.leave != nil {
		from.leaving, from.onLeave = p.leaving, p.leave
	}
	p.writer.Go(func() { p.err = s.run(from) })
	return s
}

// notify sends a message before the answer. It reports whether the client can get it.
func (p *reply) notify(e event) bool {
	s := p.stream()
	p.telling()
	return s != nil && s.add(e)
}

// telling records that the client is sent a message before the answer.
func (p *reply) telling() {
	if p.piped {
		p.mu.Lock()
		p.told = time.Now()
		p.mu.Unlock()
	}
}

// finish writes the answer. The error that it returns is to be answered, or says that the
// answer broke off.
func (p *reply) finish(out outcome) error {
	if p.timer != nil {
		p.timer.Stop()
	}
	if out.stream != nil {
		defer out.stream.Close()
	}
	p.mu.Lock()
	s := p.events
	p.ended = true
	p.mu.Unlock()
	switch {
	case p.piped:
		p.push(out)
		return nil
	case s != nil:
		s.end(p.last(out)...)
		p.writer.Wait()
		return p.err
	case out.err != nil && !(out.unanswered && p.accepts.events):
		return withID(out.err, p.id)
	case out.unanswered, !p.accepts.json:
		s = newEvents(p.w)
		s.end(p.last(out)...)
		return s.run(source{gone: p.r.Context().Done()})
	}
	return p.json(out)
}

// settle is how long a piped answer comes after the message before it. The official
// TypeScript client forgets the progress of a request when its answer comes, and looks at
// notifications that it reads together with the answer only afterwards.
const settle = 10 * time.Millisecond

// push adds the answer to the stream of a pipe, and waits until it is written or the pipe
// ends. Then nobody reads the result any more.
func (p *reply) push(out outcome) {
	if out.unanswered {
		return
	}
	p.mu.Lock()
	told := p.told
	p.mu.Unlock()
	if !told.IsZero() {
		pause(p.r.Context(), settle-time.Since(told))
	}
	e := p.event(out)
	e.id, e.keep, e.written = p.session, true, make(chan struct{})
	if !p.events.put(e) {
		return // it has ended
	}
	select {
	case <-e.written:
	case <-p.r.Context().Done():
	}
}

// last returns the events that end the stream of a request.
func (p *reply) last(out outcome) []event {
	if out.unanswered {
		return nil
	}
	return []event{p.event(out)}
}

// event returns the answer as an event.
func (p *reply) event(out outcome) event {
	e := event{}
	if out.seq > 0 {
		p.mu.Lock()
		e.id = p.eventID(out.seq)
		p.mu.Unlock()
	}
	switch {
	case out.err != nil:
		e.head = errorLine(out.err, p.id, p.w.RequestID())
	case out.stream != nil:
		e.head, e.body, e.tail = p.head(resultKey), out.stream, tail
	case out.refusal != nil:
		e.head = append(append(p.head(errorKey), out.refusal...), tail...)
	default:
		e.head = append(append(append(p.head(resultKey), out.lead...), out.result...), tail...)
	}
	return e
}

// json writes an answer that is not our own error.
func (p *reply) json(out outcome) error {
	if out.stream != nil {
		return p.w.Stream(p.head(resultKey), out.stream, out.size, tail)
	}
	status, key, lead, body := http.StatusOK, resultKey, out.lead, out.result
	if out.refusal != nil {
		key, lead, body = errorKey, nil, out.refusal
		if out.status != 0 {
			status = out.status
		}
	}
	head := p.head(key)
	p.w.BeginJSON(status, int64(len(head)+len(lead)+len(body)+len(tail)))
	_, _ = p.w.Write(head)
	_, _ = p.w.Write(lead)
	_ = p.w.WriteAll(body)
	_, _ = p.w.Write(tail)
	return nil
}

const (
	resultKey = `,"result":`
	errorKey  = `,"error":`
)

var tail = []byte("}")

// head returns the beginning of a response with the id of the request.
func (p *reply) head(key string) []byte {
	b := append(make([]byte, 0, 64), `{"jsonrpc":"2.0","id":`...)
	return append(append(b, mcp.OneLine(p.id)...), key...)
}
