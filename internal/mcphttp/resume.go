package mcphttp

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// headerLastEvent is the header with the id of the last event that a client got.
const headerLastEvent = "Last-Event-Id"

const (
	// workerWait is how long a client that comes back waits for a worker that cannot be
	// reached, and workerRetry how often it is tried.
	workerWait  = 3 * time.Second
	workerRetry = 250 * time.Millisecond
)

// resumption is how a legacy client comes back to the answer of its request. The
// reply's mutex guards it.
type resumption struct {
	stream fleet.StreamID
	from   origin
	prime  bool         // the client knows events without data
	worker fleet.LifeID // that keeps the stream; "" while none does
	primed bool         // the client has the id of the stream's beginning
}

// from records where the messages of the stream come from.
func (p *reply) from(o origin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resume.from = o
}

// sent records which worker has the request. It is a hook of a call.
func (p *reply) sent(worker fleet.LifeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resume.worker, p.resume.primed = worker, false
	p.primeStream()
}

// goOn is called when the client has gone, which does not cancel its request. A worker that
// has it goes on by itself. Otherwise it keeps waiting here, for the window at most, or until
// ctx ends with it.
func (p *reply) goOn(ctx context.Context, window time.Duration) {
	p.mu.Lock()
	waits := p.resume.worker == ""
	p.mu.Unlock()
	if waits {
		over := time.NewTimer(window)
		defer over.Stop()
		select {
		case <-over.C:
		case <-p.leaving:
		case <-ctx.Done():
		}
	}
	p.leave()
}

// primeStream sends the client the id of the stream's beginning as soon as there are a
// stream and a worker that keeps it. It needs p.mu held.
func (p *reply) primeStream() {
	if r := p.resume; r != nil && r.prime && !r.primed && r.worker != "" && p.events != nil {
		r.primed = p.events.add(event{id: p.eventID(0), retry: true})
	}
}

// eventID returns the id of a message of the stream, "" if there is none. It needs p.mu
// held.
func (p *reply) eventID(seq uint64) string {
	if p.resume == nil || p.resume.worker == "" {
		return ""
	}
	return eventID{fleet.EventID{Life: p.resume.worker, Stream: p.resume.stream, Seq: seq}, p.id, p.resume.from}.String()
}

// message passes a message of the call's stream on to the client. It is a hook of a call.
func (p *reply) message(m fleet.Message) bool {
	s := p.stream()
	if s == nil {
		return false
	}
	p.telling()
	p.mu.Lock()
	id := p.eventID(m.Seq)
	p.mu.Unlock()
	return s.add(messageEvent(id, &m))
}

// messageEvent returns the event of a message that is not a reply.
func messageEvent(id string, m *fleet.Message) event {
	if m.Kind == fleet.MessageRequest {
		return event{id: id, head: mcp.AppendRequest(nil, m.ID, m.Method, m.Params), keep: true}
	}
	return event{id: id, head: mcp.AppendNotification(nil, m.Method, m.Params)}
}

var errLostAnswer = &web.Error{
	Status: http.StatusBadGateway, Code: api.CodeReplicaLost,
	Detail: "the answer is lost: its worker has ended, or the client was away for too long. The request may have run",
}

// errSlow ends the reading of a stream whose client is too slow: it may come back.
var errSlow = errors.New("the client is too slow")

// serveResumed continues the answer to a request of a session after the event that its
// client got last.
func (f *Front) serveResumed(w *web.Response, r *http.Request, s *session, last string) error {
	id, err := parseEventID(last)
	if err != nil {
		return failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "Invalid request: Last-Event-ID is not the id of an event of this endpoint")
	}
	ctx, _, done := f.calls.add(r.Context(), callKey{s.uid, "GET " + w.RequestID()})
	defer done()
	reading, stop := context.WithCancel(ctx)
	events := newEvents(w)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer stop()
	reader.Go(func() { events.end(f.read(reading, s, id, events, w.RequestID())...) })
	return events.run(source{gone: ctx.Done(), leaving: f.cfg.Leaving})
}

// read adds the messages of a stream to events, and returns the last one if there is one.
func (f *Front) read(ctx context.Context, s *session, id eventID, events *events, requestID string) (last []event) {
	to := f.translationOf(s, id.from)
	request := fleet.ReadRequest{Stream: id.Stream, Owner: s.owner(), After: id.Seq}
	next := id
	add := func(messages []fleet.Message) error {
		for i := range messages {
			m := &messages[i]
			next.Seq, request.After = m.Seq, m.Seq
			if m.Kind == fleet.MessageReply {
				last = []event{replyEvent(next.String(), to.reply(m), id.request, requestID)}
			} else if !events.add(messageEvent(next.String(), to.message(m))) {
				return errSlow
			}
		}
		return nil
	}
	var err error
	for give := time.Now().Add(workerWait); ; {
		err = f.cfg.Streams.ReadStream(ctx, id.Life, request, add)
		if last != nil || ctx.Err() != nil || !errors.Is(err, fleet.ErrWorkerLost) || time.Now().After(give) {
			break
		}
		retry := time.NewTimer(workerRetry)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
		}
	}
	lost := errors.Is(err, fleet.ErrUnknownStream) || errors.Is(err, fleet.ErrWorkerLost)
	if lost && last == nil && ctx.Err() == nil && len(id.request) > 0 {
		f.metrics.lost.Inc()
		return []event{{head: errorLine(errLostAnswer, id.request, requestID)}}
	}
	f.metrics.resumed.Inc()
	return last
}

// replyEvent returns the event of a reply to a request.
func replyEvent(id string, m *fleet.Message, request []byte, requestID string) event {
	switch {
	case m.Err != nil:
		return event{id: id, head: errorLine(m.Err, request, requestID)}
	case m.Error != nil:
		return event{id: id, head: mcp.AppendRawError(nil, request, m.Error)}
	}
	return event{id: id, head: mcp.AppendResult(nil, request, m.Result)}
}
