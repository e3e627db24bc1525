package mcphttp

import (
	"context"
	"errors"
	"math"
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
	if p.timer != nil && p.timer.Stop() {
		p.timer.Reset(quick)
	}
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
	p.progress.heard(m.Method)
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

// overSeq is the number in the id of the last event of a stream that is lost.
const overSeq = math.MaxUint64

// serveResumed continues the answer to a request of a session after the event that its
// client got last. If nothing is left to say, the answer is 204: the official TypeScript
// client 1.32 comes back for ever to a stream that ends without a result.
func (f *Front) serveResumed(w *web.Response, r *http.Request, s *session, id eventID) error {
	if id.Seq == overSeq {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	ctx, _, done := f.calls.add(r.Context(), callKey{s.uid, "GET " + w.RequestID()})
	defer done()
	reading, stop := context.WithCancel(ctx)
	events := newEvents(w)
	over := make(chan struct{}) // closed when nothing is left, before events has anything
	var reader sync.WaitGroup
	defer reader.Wait()
	defer stop()
	reader.Go(func() {
		last, left := f.read(reading, s, id, events, w.RequestID())
		if !left {
			close(over)
		}
		events.end(last...)
	})
	soon := time.NewTimer(quick)
	defer soon.Stop()
	select {
	case <-events.wake: // run looks for itself
	case <-soon.C:
	case <-ctx.Done():
	}
	select {
	case <-over:
		w.WriteHeader(http.StatusNoContent)
		return nil
	default:
	}
	return events.run(source{gone: ctx.Done(), leaving: f.cfg.Leaving})
}

// read adds the messages of a stream to events, and returns the last one if there is one.
// left is false if there was no message, and there will be none.
func (f *Front) read(ctx context.Context, s *session, id eventID, events *events, requestID string) (last []event, left bool) {
	to := f.translationOf(s, id.from)
	request := fleet.ReadRequest{Stream: id.Stream, Owner: s.owner(), After: id.Seq}
	next, ended := id, false
	add := func(messages []fleet.Message) error {
		for i := range messages {
			m := &messages[i]
			next.Seq, request.After = m.Seq, m.Seq
			switch {
			case m.Kind == fleet.MessageReply && errors.Is(m.Err, context.Canceled):
				ended = true // the client wants no answer
			case m.Kind == fleet.MessageReply:
				ended, last = true, []event{replyEvent(next.String(), to.reply(m), id.request, requestID)}
			case !events.add(messageEvent(next.String(), to.message(m))):
				return errSlow
			default:
				left = true
			}
		}
		return nil
	}
	var err error
	for give := time.Now().Add(workerWait); ; {
		err = f.cfg.Streams.ReadStream(ctx, id.Life, request, add)
		if ended || ctx.Err() != nil || !errors.Is(err, fleet.ErrWorkerLost) || time.Now().After(give) {
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
	switch {
	case ended, ctx.Err() != nil:
	case lost && len(id.request) > 0:
		f.metrics.lost.Inc()
		next.Seq = overSeq
		return []event{{id: next.String(), head: errorLine(errLostAnswer, id.request, requestID)}}, true
	case err != nil && !lost:
		left = true // such as a reader that takes the stream over
	}
	f.metrics.resumed.Inc()
	return last, left || last != nil
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
